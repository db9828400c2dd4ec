"""One question, asked once: from the transcript if it was answered before, else of the endpoint."""

from typing import NamedTuple

from lib.llm.budget import Messages
from lib.llm.endpoint import Endpoint
from lib.llm.transcripts import Transcript, step_key


class Exchange(NamedTuple):
    """What a question brought and cost, now or at an earlier time."""

    text: str
    tokens: int
    """Read and written together."""
    estimated: bool
    stored: bool
    """True: nothing was sent now."""


class Desk(NamedTuple):
    """An endpoint and the transcript that remembers it."""

    endpoint: Endpoint
    transcript: Transcript
    answer_tokens: int = 2000
    """Most tokens of one answer; a model that thinks before it answers needs a few thousand."""

    def ask(
        self, messages: Messages, *, model: str, run: str, step: str, temperature: float, seed: int
    ) -> Exchange:
        """Ask, unless exactly this was answered before.

        Args:
            run: what the question belongs to, a key of its own.
            step: its place there, for readers of the transcript.

        Raises:
            EndpointError, BudgetSpent: of ``Endpoint.ask``.
        """
        url, most = self.endpoint.settings.url, self.answer_tokens
        asked = {"url": url, "model": model, "temperature": temperature, "seed": seed, "most": most}
        key = step_key(**asked, run=run, messages=list(messages))
        found = self.transcript.get("exchange", key)
        if found is None:
            # Left without its exchange by a crash, it says that a service may have been paid.
            self.transcript.add("asked", key, run=run, step=step)
            answer = self.endpoint.ask(
                messages, model=model, temperature=temperature, seed=seed, most=most
            )
            self.transcript.add(
                "exchange", key, run=run, step=step, **asked, messages=_since(messages),
                answer=answer.text, prompt_tokens=answer.prompt_tokens,
                answer_tokens=answer.answer_tokens, estimated=answer.estimated, cut=answer.cut,
                seconds=answer.seconds, attempts=answer.attempts, left_out=list(answer.left_out),
            )  # fmt: skip
            return Exchange(
                answer.text, answer.prompt_tokens + answer.answer_tokens, answer.estimated, False
            )
        tokens = int(found["prompt_tokens"]) + int(found["answer_tokens"])
        return Exchange(str(found["answer"]), tokens, bool(found["estimated"]), True)


def _since(messages: Messages) -> list[dict[str, str]]:
    """What is new since the model's last answer: earlier exchanges of the run hold the rest."""
    turns = [place for place, one in enumerate(messages) if one["role"] == "assistant"]
    return list(messages[turns[-1] + 1 :] if turns else messages)
