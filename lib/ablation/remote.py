"""The remote backend, NDIF through nnsight: when it is offered, to what one agrees, what it hosts.

It is off unless two environment variables say otherwise, and nothing is sent without the consent
that a request records.
"""

import hashlib
import json
import os
import urllib.parse
import urllib.request
from typing import Any

from lib.ablation import limits
from lib.ablation.limits import AblationError

SWITCH = "INSIDEOUT_REMOTE"
"""1 = offer the remote backend."""
KEY, HOST = "NDIF_API_KEY", "NDIF_HOST"
"""As nnsight reads them. The key is only ever looked for, never kept, shown or stored here."""
KINDS = ("ablation",)
"""Of ``kinds.KINDS``: a continuation would need the model's cache, and the comparison of latents
thousands of passes."""
INTERVENTIONS = (*limits.WITH_LATENTS, limits.FULL_PATCH)
DEFAULT_HOST = "https://api.ndif.us"
CONSENT = (
    "The text of this request and the edits made to the model's activations leave this machine: "
    "they are sent to NDIF, a research service run by others, which processes them on its own "
    "computers and may log them. The names of the model and the adapter, the versions of Python and "
    "of the tracing library and the place of this program's files go with them. Do not send personal, "
    "confidential or licensed text. I have the right to send this text and agree that it is sent."
)


def closed() -> str:
    """Why the remote backend is not offered, with the next step; empty = it is."""
    if os.environ.get(SWITCH) != "1":
        return f"remote runs are off: data would leave this machine; {SWITCH}=1 offers them"
    if not os.environ.get(KEY):
        return f"no key: set {KEY} to one of your own for NDIF"
    if not _safe(host()):
        return f"{HOST}={host()} would send the key unencrypted: give an https address"
    return ""


def unserved(kind: str, intervention: str) -> str:
    """Why NDIF does not serve such a request, with the next step; empty = it does."""
    if kind not in KINDS:
        return f"NDIF serves prompts and documents only, not {kind!r}: run it on this machine"
    if intervention not in INTERVENTIONS:
        return (
            f"{intervention} changes the adapter itself, which lies on NDIF for others too: run it "
            "on this machine"
        )
    return ""


def refusal(base_model: str, adapter_repo: str) -> str:
    """Why NDIF cannot serve this pair, with the next step; empty = it can, if it hosts the model.

    nnsight (0.8.1) names model and adapter in its request and sends the weights of neither. What
    runs there cannot be compared with the hashes that a bundle names.
    """
    if not base_model.startswith("hf:"):
        return (
            f"NDIF runs models of the public hub only, and {base_model} is not named as one "
            "(hf:OWNER/NAME): run on this machine"
        )
    if not adapter_repo:
        return (
            "NDIF takes an adapter by its public hub name only and this one exists on this machine "
            "only: publish the adapter, or run on this machine"
        )
    return ""


def consent_id() -> str:
    """Names the wording of ``CONSENT``: agreement to another wording is none to this one."""
    return hashlib.sha256(CONSENT.encode()).hexdigest()[:16]


def require_consent(given: str) -> None:
    """To be called with what the request records before anything is sent.

    Raises:
        AblationError: no consent, or consent to another text.
    """
    if given == consent_id():
        return
    found = "consent to another wording" if given else "no consent"
    raise AblationError(
        f"the request holds {found}, so nothing was sent: read the text beside the choice of the "
        "remote backend and agree to it, or run on this machine"
    )


def may_leave(kind: str, request: Any) -> str:
    """The adapter's public name, once the request may be sent and can be served there.

    Raises:
        AblationError: the remote backend is off, another kind of request or intervention than it
            serves, or no consent to ``CONSENT``.
    """
    if why_not := closed() or unserved(kind, getattr(request, "intervention", "")):
        raise AblationError(why_not)
    require_consent(request.consent)
    return request.adapter_repo


def hosted(seconds: float = 10.0) -> tuple[str, ...]:
    """Models that NDIF runs now, by hub name, sorted. Asks its status page, without the key.

    Raises:
        AblationError: the remote backend is off, the address is not safe, or there is no answer.
    """
    return tuple(sorted(_running(seconds)))


def model_key(repo: str, seconds: float = 10.0) -> str:
    """The name under which NDIF runs this hub model, for text, at its main revision.

    Raises:
        AblationError: as ``hosted``; or it does not run this model.
    """
    running = _running(seconds)
    for key in running.get(repo, ()):
        data = json.loads(key.partition(":")[2])
        usual = data.get("revision") in (None, "main") and not data.get("trust_remote_code")
        if usual and data.get("task", "text-generation") == "text-generation":
            return key
    raise AblationError(
        f"NDIF does not run {repo} now (it runs {', '.join(sorted(running)) or 'nothing'}): "
        "choose another model, try later, or run on this machine"
    )


def access() -> tuple[str, str]:
    """Address and key.

    Raises:
        AblationError: the remote backend is off, or not safe.
    """
    if why_not := closed():
        raise AblationError(why_not)
    return host(), os.environ[KEY]


def _running(seconds: float) -> dict[str, list[str]]:
    """Keys of the deployments that run, by hub name."""
    if why_not := closed():
        raise AblationError(why_not)
    url = f"{host()}/status"
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            found = json.load(answer)["deployments"].items()
            running: dict[str, list[str]] = {}
            for name, one in found:
                if one.get("application_state") == "RUNNING":
                    running.setdefault(one["repo_id"], []).append(one.get("model_key") or name)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as problem:
        raise AblationError(
            f"no usable answer from {url} ({problem!r}): try later, or run on this machine"
        ) from None
    return running


def host() -> str:
    return (os.environ.get(HOST) or DEFAULT_HOST).rstrip("/")


def _safe(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and local)
