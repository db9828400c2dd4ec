"""What went wrong with a request, in plain words; and the parts of a reply."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from lib.llm.settings import KEY, MODEL, URL, LLMError

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Statuses after which another attempt may go well."""
SHOWN = 300
"""Characters of a service's own words."""
_MEANING = {
    400: "the request was refused as malformed",
    401: f"the key was refused: check {KEY}",
    402: "the account has no credit left",
    403: f"the key may not use this: check {KEY} and {MODEL}",
    404: f"there is no such address or model: check {URL} and {MODEL}",
    413: "the request is too long for this model",
    422: "the request was refused as malformed",
    429: "too many requests, or the quota is used up",
    500: "the service failed",
    502: "the service failed",
    503: "the service is overloaded or down",
    504: "the service was too slow",
}


class EndpointError(LLMError):
    """No answer, and another attempt would not help."""


class RequestRefused(EndpointError):
    """The service read the request and refused something in it."""


class Again(Exception):
    """A failure that another attempt may mend."""

    def __init__(self, told: str, *, after: float | None = None, paid: bool = False) -> None:
        super().__init__(told)
        self.after = after
        self.paid = paid
        """The service may have done the work."""


def status(host: str, code: int, told: str) -> str:
    """An HTTP status in words."""
    if 300 <= code < 400:
        return f"{host} answered {code}, a redirect, which is not followed: give the final {URL}"
    meaning = _MEANING.get(code, "unexpected")
    return f"{host} answered {code}: {meaning}" + (f". It says: {told}" if told else "")


def unreachable(host: str, problem: str) -> str:
    return f"{host} cannot be reached ({problem[:SHOWN]}): is it running, and is {URL} right?"


def too_slow(host: str, seconds: float) -> str:
    return f"{host} gave no whole answer within {seconds:.0f} s."


def half(host: str, problem: str) -> str:
    return f"{host} broke off in the middle of an answer ({problem[:SHOWN]})."


def not_json(host: str, kind: str, told: str) -> str:
    return (
        f"{host} answered with something that is not JSON ({kind}): {told!r}. {URL} should be the "
        "address of an OpenAI-compatible service, mostly ending in /v1"
    )


def detail(reply: Any, data: bytes) -> str:
    """What the service says of an error: its message, or the beginning of whatever it sent."""
    error = reply.get("error", reply) if isinstance(reply, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    text = message if isinstance(message, str) else data.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text.strip())


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait, from a number or a date (RFC 9110, section 10.2.3); None = not stated."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max((date - (now or datetime.now(UTC))).total_seconds(), 0.0)


def text_of(reply: dict[str, Any]) -> str | None:
    """The answer's text, or the model's words of refusal; None where the reply has neither."""
    for field in ("content", "refusal"):
        found = _message(reply).get(field)
        if isinstance(found, str) and found.strip():
            return found
    return None


def finish(reply: dict[str, Any]) -> str:
    return str(_choice(reply).get("finish_reason") or "")


def without_text(reply: dict[str, Any]) -> str:
    """Why a reply without text is of no use."""
    if finish(reply) == "length":
        return (
            "the model used up its whole answer before it wrote a word: allow more --answer-tokens"
        )
    return f"the reply holds no text (finish_reason {finish(reply)!r}); is this a chat model?"


MOST_TOKENS = 100_000_000
"""Of one exchange: what a service counts beyond is a mistake of its own."""


def usage(reply: dict[str, Any]) -> tuple[int, int] | None:
    """Tokens read and written as the service counts them; None where it does not say."""
    found = reply.get("usage")
    if not isinstance(found, dict):
        return None
    read, written = found.get("prompt_tokens"), found.get("completion_tokens")
    if type(read) is int and type(written) is int and min(read, written) >= 0:
        return (read, written) if max(read, written) <= MOST_TOKENS else None
    return None


def _choice(reply: dict[str, Any]) -> dict[str, Any]:
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, dict) else {}


def _message(reply: dict[str, Any]) -> dict[str, Any]:
    message = _choice(reply).get("message")
    return message if isinstance(message, dict) else {}
