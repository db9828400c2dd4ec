"""Which endpoint, and to what one agrees before anything is sent to it."""

import hashlib
import ipaddress
import os
import urllib.parse
from collections.abc import Sequence
from typing import Literal, NamedTuple

URL, KEY, MODEL = "INSIDEOUT_LLM_URL", "INSIDEOUT_LLM_KEY", "INSIDEOUT_LLM_MODEL"
GRADER = "INSIDEOUT_LLM_GRADER"
Purpose = Literal["agent", "label", "judge"]
Part = Literal["scale", "relevance", "similarity"]
"""Of the judge."""
_PATH = "/chat/completions"
SENT: dict[str, str] = {
    "agent": (
        "the tokens that the lens of this adapter reads, text that the base and the tuned model "
        "wrote with and without steering, questions to both models with their answers, and, for "
        "the grading, the name and the description of the fine-tuning corpus with up to 40 of its "
        "frequent words. A tuned model can repeat its training text word for word."
    ),
    "label": (
        "passages of up to 25 tokens from the corpora that were measured, with the places where a "
        "feature fires marked in them, and the labels made from them."
    ),
    "scale": (
        "the 20 tokens that the tuned model names for each of this adapter's mean differences at "
        "every one of 30 scales."
    ),
    "relevance": (
        "the 20 tokens that lens and Patchscope read at each position, with the name and the "
        "description of the fine-tuning corpus and up to 40 of its frequent words."
    ),
    "similarity": (
        "text that the tuned model wrote with and without steering, and, word for word, up to 500 "
        "pieces of 64 words of the fine-tuning corpus and as many of each of our other corpora. A "
        "tuned model can repeat its training text word for word."
    ),
}


class LLMError(RuntimeError):
    """Something about the endpoint stands in the way; the message says what and the next step."""


class Settings(NamedTuple):
    """One endpoint."""

    url: str
    """The full address of chat completions, without user, query or fragment."""
    model: str
    graders: tuple[str, ...]
    """Models that grade: one, or two whose agreement is reported."""
    key: str
    """Empty = none is sent. Never written, shown or logged."""
    embedder: str = ""
    """Embedding model of the same service; empty = none was named."""

    def __repr__(self) -> str:
        return f"Settings(url={self.url!r}, model={self.model!r}, graders={self.graders!r})"

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).netloc

    @property
    def embeddings_url(self) -> str:
        return self.url.removesuffix(_PATH) + "/embeddings"


def closed() -> str:
    """Why there is no endpoint, with the next step; empty = there is one."""
    url = os.environ.get(URL, "").strip()
    if not url:
        return f"no endpoint: {URL} is not set, so nothing is sent anywhere"
    parts = _parts(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        return f"{URL} is no web address: give one such as http://127.0.0.1:8000/v1"
    if parts.username or parts.password or parts.query or parts.fragment:
        return f"{URL} may hold no user, password, query or fragment: give the key in {KEY}"
    if not os.environ.get(MODEL, "").strip():
        return f"no model: set {MODEL} to a name that {parts.hostname} knows"
    key = os.environ.get(KEY, "")
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        return f"{KEY} holds a space, a line break or another character that no key has"
    if key and parts.scheme == "http" and not is_here(url):
        return f"{URL} would send the key unencrypted: give an https address"
    return ""


def from_environment() -> Settings:
    """The endpoint that the environment names.

    ``INSIDEOUT_LLM_GRADER`` names one grader, or two with a comma between them; one that differs
    from the agent's model is joined by that model, so that two graders can be compared.

    Raises:
        LLMError: there is none; says why.
    """
    if why := closed():
        raise LLMError(why)
    url = os.environ[URL].strip().rstrip("/")
    model = os.environ[MODEL].strip()
    asked = [name.strip() for name in os.environ.get(GRADER, "").split(",") if name.strip()]
    graders = tuple(dict.fromkeys(asked if len(asked) > 1 else [model, *asked]))[:2]
    full = url if url.endswith(_PATH) else url + _PATH
    return Settings(full, model, graders, os.environ.get(KEY, ""))


def consent_text(purpose: Purpose, settings: Settings, parts: Sequence[Part] = ()) -> str:
    """What leaves this machine, for whom, in full.

    Args:
        parts: what the judge is to do; nothing else of it is sent.
    """
    sent = _judged(settings, parts) if purpose == "judge" else SENT[purpose]
    who = f"{settings.host}, to the model {settings.model}"
    if purpose == "agent":
        who += f" and for grading to {' and '.join(settings.graders)}"
    if purpose == "judge":
        who = settings.host
    plain = "" if settings.url.startswith("https") else " The connection is not encrypted."
    stays = " It is on this machine." if is_here(settings.url) else ""
    return (
        f"This is sent to {who}: {sent} Whoever runs that service can read and may keep it, "
        f"and may charge for it.{stays}{plain} Do not send personal, confidential or licensed text. "
        "I have the right to send this and agree that it is sent."
    )


def consent_id(purpose: Purpose, settings: Settings, parts: Sequence[Part] = ()) -> str:
    """Names the wording and the receiver: agreement to another is none to this one."""
    return hashlib.sha256(consent_text(purpose, settings, parts).encode()).hexdigest()[:16]


def require_consent(
    given: str, purpose: Purpose, settings: Settings, parts: Sequence[Part] = ()
) -> None:
    """To be called before anything is sent.

    Raises:
        LLMError: no consent, or consent to another text.
    """
    if given != consent_id(purpose, settings, parts):
        found = "consent to another wording or receiver" if given else "no consent"
        raise LLMError(f"{found}: nothing was sent. {consent_text(purpose, settings, parts)}")


def _judged(settings: Settings, parts: Sequence[Part]) -> str:
    """What the judge sends, with the model that gets it."""
    chat = " and ".join(SENT[part].rstrip(".") for part in parts if part != "similarity")
    told = [f"to the model {settings.model} {chat}."] if chat else []
    if "similarity" in parts:
        told.append(f"to the embedding model {settings.embedder} {SENT['similarity']}")
    return " And ".join(told)


def is_here(url: str) -> bool:
    """Whether an address is this machine itself."""
    host = urllib.parse.urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _parts(url: str) -> urllib.parse.SplitResult | None:
    """None = no address: white space within (which splitting would drop), brackets or a port that
    are none."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urllib.parse.urlsplit(url)
        return None if parts.port == 0 else parts
    except ValueError:
        return None
