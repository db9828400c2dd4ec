"""Which endpoint, and to what one agrees before anything is sent to it."""

import hashlib
import ipaddress
import os
import urllib.parse
from typing import Literal, NamedTuple

URL, KEY, MODEL = "INSIDEOUT_LLM_URL", "INSIDEOUT_LLM_KEY", "INSIDEOUT_LLM_MODEL"
GRADER = "INSIDEOUT_LLM_GRADER"
Purpose = Literal["agent", "label"]
_PATH = "/chat/completions"
SENT: dict[Purpose, str] = {
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

    def __repr__(self) -> str:
        return f"Settings(url={self.url!r}, model={self.model!r}, graders={self.graders!r})"

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).netloc


def closed() -> str:
    """Why there is no endpoint, with the next step; empty = there is one."""
    url = os.environ.get(URL, "").strip()
    if not url:
        return f"no endpoint: {URL} is not set, so nothing is sent anywhere"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _port(parts):
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


def consent_text(purpose: Purpose, settings: Settings) -> str:
    """What leaves this machine, for whom, in full."""
    who = f"{settings.host}, to the model {settings.model}"
    if purpose == "agent":
        who += f" and for grading to {' and '.join(settings.graders)}"
    plain = "" if settings.url.startswith("https") else " The connection is not encrypted."
    stays = " It is on this machine." if is_here(settings.url) else ""
    return (
        f"This is sent to {who}: {SENT[purpose]} Whoever runs that service can read and may keep it, "
        f"and may charge for it.{stays}{plain} Do not send personal, confidential or licensed text. "
        "I have the right to send this and agree that it is sent."
    )


def consent_id(purpose: Purpose, settings: Settings) -> str:
    """Names the wording and the receiver: agreement to another is none to this one."""
    return hashlib.sha256(consent_text(purpose, settings).encode()).hexdigest()[:16]


def require_consent(given: str, purpose: Purpose, settings: Settings) -> None:
    """To be called before anything is sent.

    Raises:
        LLMError: no consent, or consent to another text.
    """
    if given != consent_id(purpose, settings):
        found = "consent to another wording or receiver" if given else "no consent"
        raise LLMError(f"{found}: nothing was sent. {consent_text(purpose, settings)}")


def is_here(url: str) -> bool:
    """Whether an address is this machine itself."""
    host = urllib.parse.urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _port(parts: urllib.parse.SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False
