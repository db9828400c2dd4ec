"""Controls and draws, dose-response, seeds; and where a run works and how long it may."""

from typing import NamedTuple

import streamlit as st

from lib.ablation import limits, remote
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.jobs import IfGone
from lib.evidence.wording import CONTROLS
from lib.ui import ablation_address, ablation_clients
from lib.ui.ablation_choice import Choice
from lib.ui.frame import url_choice, url_multi

SEEDS = 1_000
DRAWS = 20
_STRENGTHS = {
    limits.STEER: (0.0, 0.5, 1.0, 2.0, 4.0),
    limits.SCALE_LORA: (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
}
_TOPS = (0, 1, 2, 4, 8, 16, 32, 64)
TIMEOUTS = {60: "1 minute", 300: "5 minutes", 900: "15 minutes", 3600: "1 hour"}
IF_GONE: dict[IfGone, str] = {"detach": "let it finish", "cancel": "cancel it"}


class Controls(NamedTuple):
    """Fields of a request, under its names."""

    controls: tuple[str, ...]
    draws: int
    dose_strengths: tuple[float, ...]
    dose_tops: tuple[int, ...]
    seed: int


class Options(NamedTuple):
    """How a run is submitted."""

    device: str
    """Of ``ablation_clients.client``."""
    timeout: float
    """Seconds on the worker."""
    if_gone: IfGone
    ready: bool
    """False: it may not be sent yet (no place, or no consent)."""
    sent: dict[str, str]
    """Fields of a request that leaves this machine; empty where it stays."""


def controls(choice: Choice, offered: dict[int, Offered]) -> Controls:
    """For a popover."""
    names = url_multi(
        "Matched controls",
        limits.CONTROLS,
        "control",
        format_func=lambda n: CONTROLS[n].capitalize(),
    )
    draws = ablation_address.number(
        "Draws of each", "draws", DRAWS, st.number_input, 0, limits.DRAWS_LIMIT,
        help="A claim needs at least 20 of each.",
    )  # fmt: skip
    seed = ablation_address.number("Seed of the draws", "seed", 0, st.number_input, 0, SEEDS)
    kinds = ["strength"] + ["number"] * (choice.intervention in limits.WITH_LATENTS)
    doses = url_multi(
        "Dose-response", kinds, "dose", default=[], widget="segmented",
        format_func={"strength": "over strength", "number": "over number of features"}.get,
    )  # fmt: skip
    most = max((len(offered[layer].top) for layer in choice.layers if layer in offered), default=0)
    strengths = _STRENGTHS.get(choice.intervention, (0.0, 0.25, 0.5, 0.75, 1.0))
    return Controls(
        controls=tuple(names),
        draws=draws,
        dose_strengths=strengths if "strength" in doses else (),
        dose_tops=tuple(n for n in _TOPS if n <= most) if "number" in doses else (),
        seed=seed,
    )


def options(experiment_id: str, info: BundleInfo, kind: str = "ablation") -> Options:
    """For a popover: where it runs, its time limit, and what becomes of it."""
    found, refused = ablation_clients.spots(experiment_id, info)
    found = [spot for spot in found if not spot.remote or kind in remote.KINDS]
    timeout = url_choice("Stop it after", list(TIMEOUTS), "timeout", 900, TIMEOUTS.__getitem__)
    gone = url_choice("When I close the page", list(IF_GONE), "gone", format_func=IF_GONE.get)
    if not found:
        st.warning("Nothing here can run this model. " + " ".join(refused))
        return Options("", float(timeout), gone, ready=False, sent={})
    by_word = {spot.word: spot for spot in found}
    spot = found[0]
    if len(found) == 1:
        st.caption(f"Runs on {spot.title}.")
    else:
        titles = {word: one.title for word, one in by_word.items()}
        spot = by_word[url_choice("Where", list(by_word), "where", format_func=titles.get)]
    for why_not in refused:
        st.caption(f":material/block: {why_not}")
    sent = _consent() if spot.remote else {}
    return Options(spot.word, float(timeout), gone, ready=bool(sent) or not spot.remote, sent=sent)


def _consent() -> dict[str, str]:
    """Asked for whenever data would leave this machine; never kept in an address."""
    st.warning(remote.CONSENT, icon=":material/cloud_upload:")
    repo = st.text_input(
        "Public hub name of this adapter", key="ablation:repo", placeholder="OWNER/NAME"
    ).strip()
    agreed = st.checkbox("I agree", key=f"ablation:consent:{remote.consent_id()}")
    return {"adapter_repo": repo, "consent": remote.consent_id()} if agreed and repo else {}
