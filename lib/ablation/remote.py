"""The remote backend, NDIF through nnsight: when it is offered, to what one agrees, what it hosts.

It is off unless two environment variables say otherwise, and nothing is sent without the consent
that a request records.
"""

import hashlib
import json
import os
import urllib.parse
import urllib.request

from lib.ablation.limits import AblationError

SWITCH = "INSIDEOUT_REMOTE"
"""1 = offer the remote backend."""
KEY, HOST = "NDIF_API_KEY", "NDIF_HOST"
"""As nnsight reads them. The key is only ever looked for, never kept, shown or stored here."""
DEFAULT_HOST = "https://api.ndif.us"
CONSENT = (
    "The text of this request and the edits made to the model's activations leave this machine: "
    "they are sent to NDIF, a research service run by others, which processes them on its own "
    "computers and may log them. Do not send personal, confidential or licensed text. I have the "
    "right to send this text and agree that it is sent."
)


def closed() -> str:
    """Why the remote backend is not offered, with the next step; empty = it is."""
    if os.environ.get(SWITCH) != "1":
        return f"remote runs are off: data would leave this machine; {SWITCH}=1 offers them"
    if not os.environ.get(KEY):
        return f"no key: set {KEY} to one of your own for NDIF"
    if not _safe(_host()):
        return f"{HOST}={_host()} would send the key unencrypted: give an https address"
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


def hosted(seconds: float = 10.0) -> tuple[str, ...]:
    """Models that NDIF runs now, by hub name, sorted. Asks its status page, without the key.

    Raises:
        AblationError: the remote backend is off, the address is not safe, or there is no answer.
    """
    why_not = closed()
    if why_not:
        raise AblationError(why_not)
    url = f"{_host()}/status"
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            found = json.load(answer)["deployments"].values()
            running = {d["repo_id"] for d in found if d.get("application_state") == "RUNNING"}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as problem:
        raise AblationError(
            f"no usable answer from {url} ({problem!r}): try later, or run on this machine"
        ) from None
    return tuple(sorted(running))


def _host() -> str:
    return (os.environ.get(HOST) or DEFAULT_HOST).rstrip("/")


def _safe(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and local)
