"""Where a run of the ablation page stands: its bar, the time left, cancelling, and how it ended."""

from typing import Any

import streamlit as st

from lib.ablation import AblationRequest
from lib.ablation.client import AblationClient, Progress
from lib.ablation.kinds import Request
from lib.evidence.wording import CONTROLS
from lib.ui.ablation_partial import expected


def ended(progress: Progress) -> None:
    """At once, in place of the bar: drawing the whole page again takes a while."""
    if progress.phase == "failed":
        st.error(progress.message, icon=":material/error:")
    else:
        st.caption(":material/hourglass_top: Finished; drawing the result.")


def share(request: Request | None, progress: Progress, events: list[dict[str, Any]]) -> float:
    """How much of the run lies behind, 0..1: by its conditions, or by the parts of its stage."""
    if isinstance(request, AblationRequest):
        told = sum(event["event"] == "condition" for event in events)
        return min(1.0, told / expected(request))
    return min(1.0, (progress.done or 0) / progress.total) if progress.total else 0.0


def draw(client: AblationClient, ticket: str, progress: Progress, done: float) -> None:
    """The bar with its words, and the button that cancels.

    Args:
        done: ``share`` of the run.
    """
    bar, stop = st.columns([6, 1], vertical_alignment="center")
    words = progress.words
    for name, said in CONTROLS.items():
        words = words.replace(name, said)
    left = "" if progress.remaining is None else f" · {progress.eta} left"
    bar.progress(done, text=f"{words} · {progress.seconds:.0f} s{left}")
    stop.button(
        "Cancel", on_click=client.cancel, args=(ticket,), icon=":material/stop:", width="stretch"
    )
