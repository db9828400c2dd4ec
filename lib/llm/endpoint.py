"""One client of an OpenAI-compatible endpoint: chat completions, with a budget and clear errors."""

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from lib.llm import failures
from lib.llm.budget import Budget, BudgetSpent, Messages, estimate
from lib.llm.failures import Again, EndpointError, RequestRefused
from lib.llm.settings import Settings, is_here

ATTEMPTS = 4
"""Of one request."""
PAUSE = 1.0
"""Seconds before the second attempt; doubled for each further one."""
LONGEST = 4_000_000
"""Bytes of an answer."""
OPTIONAL = {"temperature": None, "seed": None, "max_tokens": "max_completion_tokens"}
"""Settings that some models refuse, and what they want in their place."""


class Answer(NamedTuple):
    text: str
    prompt_tokens: int
    answer_tokens: int
    estimated: bool
    """True: the service did not say how many tokens it counted."""
    cut: bool
    """True: the answer was longer than it was allowed to be."""
    seconds: float
    attempts: int
    left_out: tuple[str, ...]
    """Settings that the model refused and that were left out or renamed."""


class Endpoint:
    """Asks one endpoint. Redirects are not followed: they would carry the key elsewhere."""

    def __init__(
        self,
        settings: Settings,
        budget: Budget,
        *,
        timeout: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings, self.budget = settings, budget
        self._timeout, self._sleep = timeout, sleep
        headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
        # A proxy of the environment cannot reach a service on this machine.
        self._client = httpx.Client(
            headers=headers, follow_redirects=False, trust_env=not is_here(settings.url)
        )
        self._refused: dict[str, set[str]] = {}

    def close(self) -> None:
        self._client.close()

    def ask(
        self, messages: Messages, *, model: str, temperature: float, seed: int, most: int
    ) -> Answer:
        """One answer of one model.

        Args:
            most: tokens that the answer may have.

        Raises:
            BudgetSpent: it could go over the budget, or the time is up.
            EndpointError: no answer; says what came instead and what to do.
        """
        started = time.monotonic()
        wanted = {"model": model, "messages": list(messages)}
        wanted |= {"temperature": temperature, "seed": seed, "max_tokens": most}
        question = estimate(messages)
        reply, attempts = self.request(wanted, question + most)
        return self._answer(reply, question, time.monotonic() - started, attempts, model)

    def request(self, wanted: dict[str, Any], most: int) -> tuple[dict[str, Any], int]:
        """One reply and the attempts that it took. The caller books what it cost.

        Args:
            wanted: the body; ``model`` must be among it.
            most: tokens that it can cost.

        Raises:
            BudgetSpent, EndpointError: as in ``ask``.
        """
        attempt = failed = 0
        while True:
            attempt += 1
            self.budget.admit(most)
            body = self._accepted(wanted)
            try:
                return self._post(body), attempt
            except Again as problem:
                failed += 1
                self.budget.charge(most if problem.paid else 0, estimated=True)
                self._pause(problem, failed)
            except RequestRefused as problem:
                self.budget.charge(0)
                if not self._learnt(wanted["model"], problem, body):
                    raise
            except EndpointError:
                self.budget.charge(0)
                raise

    def _answer(self, reply: Any, question: int, seconds: float, tries: int, model: str) -> Answer:
        told = failures.usage(reply)
        text = failures.text_of(reply)
        read, written = told or (question, estimate([{"content": text or ""}]))
        self.budget.charge(read + written, estimated=told is None)
        if text is None:
            raise EndpointError(self._clean(failures.without_text(reply)))
        left_out = tuple(sorted(self._refused.get(model, ())))
        cut = failures.finish(reply) == "length"
        return Answer(
            self._clean(text), read, written, told is None, cut, round(seconds, 3), tries, left_out
        )

    def _post(self, body: dict[str, Any]) -> Any:
        within = min(self._timeout, self.budget.seconds_left)
        deadline = time.monotonic() + within
        url = self.settings.url
        try:
            with self._client.stream("POST", url, json=body, timeout=within) as response:
                data = bytearray()
                for part in response.iter_bytes():
                    data += part
                    if len(data) > LONGEST:
                        raise EndpointError(
                            f"{self.settings.host} sent over {LONGEST:,} bytes: that is no answer"
                        )
                    if (
                        time.monotonic() > deadline
                    ):  # a service that drips never times out by itself
                        raise httpx.ReadTimeout("no end")
        except httpx.TimeoutException as problem:
            paid = not isinstance(problem, httpx.ConnectTimeout | httpx.PoolTimeout)
            raise Again(failures.too_slow(self.settings.host, within), paid=paid) from None
        except httpx.ConnectError as problem:
            told = failures.unreachable(self.settings.host, self._clean(str(problem)))
            raise EndpointError(told) from None
        except httpx.RequestError as problem:
            told = failures.half(self.settings.host, self._clean(str(problem)))
            raise Again(told, paid=True) from None
        return self._parsed(response, bytes(data))

    def _parsed(self, response: httpx.Response, data: bytes) -> Any:
        host, status = self.settings.host, response.status_code
        try:
            reply = json.loads(data)
        except (ValueError, RecursionError):
            reply = None
        if status == 200 and isinstance(reply, dict) and "error" not in reply:
            return reply
        detail = self._clean(failures.detail(reply, data))[: failures.SHOWN]
        if status == 200 and isinstance(reply, dict):
            raise EndpointError(f"{host} answered with an error: {detail}")
        if status == 200:
            kind = response.headers.get("content-type", "of no stated type")
            raise EndpointError(failures.not_json(host, kind, detail))
        told = failures.status(host, status, detail)
        if status in failures.AGAIN:
            raise Again(told, after=failures.retry_after(response.headers.get("retry-after")))
        raise RequestRefused(told) if status in (400, 422) else EndpointError(told)

    def _pause(self, problem: Again, failed: int) -> None:
        """Wait before the next attempt, or give up."""
        if failed >= ATTEMPTS:
            raise EndpointError(f"{problem} ({failed} attempts)")
        wait = problem.after if problem.after is not None else PAUSE * 2 ** (failed - 1)
        if wait >= self.budget.seconds_left:
            raise BudgetSpent(
                f"{problem} The next attempt, in {wait:.0f} s, is past the time limit"
            )
        self._sleep(wait)

    def _accepted(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Without the settings that this model has refused."""
        refused = self._refused.get(wanted["model"], ())
        body = {name: value for name, value in wanted.items() if name not in refused}
        for name in refused:
            if instead := OPTIONAL[name]:
                body[instead] = wanted[name]
        return body

    def _learnt(self, model: str, problem: RequestRefused, body: dict[str, Any]) -> bool:
        """Whether what was refused is a setting that can be done without."""
        named = {name for name in OPTIONAL if name in body and name in str(problem)}
        self._refused.setdefault(model, set()).update(named)
        return bool(named)

    def _clean(self, text: str) -> str:
        """A service may send back what it was sent, the key included; half a surrogate pair is no
        text, and would not come back from the transcript as it was."""
        whole = text.encode("utf-8", "replace").decode()
        return whole.replace(self.settings.key, "[key]") if self.settings.key else whole
