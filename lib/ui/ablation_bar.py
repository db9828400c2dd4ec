"""Where a run of the ablation page stands: its bar, the time left, cancelling, and how it ended."""

from typing import Any

import streamlit as st

from lib.ablation import AblationRequest
from lib.ablation.client import AblationClient, Progress
from lib.ablation.kinds import Request
from lib.ui import ablation_words
from lib.ui.ablation_partial import expected


def ended(progress: Progress) -> None:
    """At once, in place of the bar: drawing the whole page again takes a while."""
    if progress.phase == "failed":
        st.error(progress.message, icon=":material/error:")
    else:
        st.caption(":material/hourglass_top: Finished; drawing the result.")


def share(request: Request | None, progress: Progress, events: list[dict[str, Any]]) -> float:
    """How much of the run lies behind, 0..1: by its conditions, or by the parts of its stage."""
    part = min(1.0, (progress.done or 0) / progress.total) if progress.total else 0.0
    if not isinstance(request, AblationRequest):
        return part
    stages = [_stage_of(event) for event in events if event["event"] == "condition"]
    own, size = stages.count(progress.stage), _conditions(request, progress.stage)
    within = max(own, size * part + (progress.stage == SCORING))
    return min(1.0, (len(stages) - own + within) / expected(request))


SCORING = "scoring base and tuned"
"""The second half of base and tuned, which are told together at its end."""


def _stage_of(event: dict[str, Any]) -> str:
    """The stage at whose end a condition is told."""
    if "strength" in event:
        return "dose"
    return SCORING if event["name"] in ("base", "tuned") else event["name"]


def _conditions(request: AblationRequest, stage: str) -> int:
    """How many conditions a stage gives."""
    if stage in request.controls:
        return request.draws
    doses = len(request.dose_strengths) + len(request.dose_tops)
    one = ("base and tuned", SCORING, "treated", "ceiling")
    return doses if stage == "dose" else int(stage in one)


def draw(
    client: AblationClient,
    ticket: str,
    progress: Progress,
    request: Request | None,
    events: list[dict[str, Any]],
) -> None:
    """The bar with its words, and the button that cancels; ``events``: what the run has told."""
    done = share(request, progress, events)
    bar, stop = st.columns([6, 1], vertical_alignment="center")
    words = ablation_words.stages(progress.words)
    if isinstance(request, AblationRequest) and progress.total is not None:
        words += "" if progress.stage == SCORING else " texts read"
    left = "" if progress.remaining is None else f" · {progress.eta} left"
    bar.progress(done, text=f"{words} · {progress.seconds:.0f} s{left}")
    stop.button(
        "Cancel", on_click=client.cancel, args=(ticket,), icon=":material/stop:", width="stretch"
    )
