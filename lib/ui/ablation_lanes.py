"""The lanes of a continuation: what was written, how far from base, what else was likely."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from lib.ablation.generate import LANES, GenerateRequest, GenerateResult, Step
from lib.evidence import wording
from lib.figures import theme
from lib.ui import tokens

TITLES = {"base": "base", "tuned": "tuned", "clamped": "treated", "control": "control"}
COLOURS = {
    "base": theme.BASE, "tuned": theme.TUNED, "clamped": theme.DIFFERENCE, "control": theme.NEUTRAL
}  # fmt: skip
FULL = 1.0
"""Nats of KL to base that get the full colour: the same in every lane and from run to run."""
_FIELDS = ("id", "token", "probability", "base_probability", "kl", "next_tokens")


def written(events: list[dict[str, Any]]) -> dict[str, list[Step]]:
    """The steps that have been told, by lane."""
    found: dict[str, list[Step]] = {}
    for event in events:
        if event["event"] == "token":
            step = Step.from_json({name: event[name] for name in _FIELDS})
            found.setdefault(event["lane"], []).append(step)
    return found


def show(request: GenerateRequest, steps: dict[str, Sequence[Step]]) -> None:
    st.html(
        f'<div style="font-size:0.875rem;opacity:0.8">Colour and underline: KL to base of the '
        f"prediction that the token was taken from; full colour at {FULL:g} nat.</div>"
    )
    for column, name in zip(st.columns(len(request.lanes)), request.lanes, strict=True):
        with column:
            own = steps.get(name, ())
            mean = sum(step.kl for step in own) / len(own) if own else 0.0
            st.markdown(f"**{title(request, name)}**")
            st.caption(f"{len(own)} tokens, mean KL {mean:.3f} nats" if own else "waiting")
            st.html(strip(own, COLOURS[name]))


def title(request: GenerateRequest, lane: str) -> str:
    """A lane's heading; the control's says which one."""
    if lane != "control":
        return TITLES[lane]
    return f"control: {wording.CONTROLS[request.matched_control]}"


def strip(steps: Sequence[Step], colour: str) -> str:
    """HTML of what one lane wrote."""
    marks = [
        tokens.Mark(
            step.kl / FULL,
            None,
            f"KL {step.kl:.3g} nats; probability {step.probability:.1%}, in base "
            f"{step.base_probability:.1%}",
        )
        for step in steps
    ]
    return tokens.strip([step.token for step in steps], marks, (colour, colour), breaks=True)


def verdict(result: GenerateResult) -> str:
    """How far each lane is from base on its own text, and how much of it is base's text."""
    lanes = {lane.name: lane for lane in result.lanes}
    base = [step.id for step in lanes["base"].steps]
    told = []
    for name in LANES[1:]:
        if name in lanes:
            own = [step.id for step in lanes[name].steps]
            same = next((i for i, (a, b) in enumerate(zip(own, base, strict=False)) if a != b),
                        min(len(own), len(base)))  # fmt: skip
            told.append(
                f"{TITLES[name]} {lanes[name].kl:.3f} nats, "
                + (
                    f"its first {same} tokens as base"
                    if same
                    else "from the first token unlike base"
                )
            )
    return (
        f"**Mean KL to base on each lane's own text: {'; '.join(told)}** (n = {len(base)} tokens of "
        "one prompt in base; one text shows an effect, it is no test, so there is no interval)."
    )


def table(result: GenerateResult, at: int) -> pl.DataFrame:
    """Ten most probable tokens of every lane that wrote a token number ``at`` (from 0)."""
    columns = {
        title(result.request, lane.name): [
            f"{tokens.plain(t.token)}   {t.probability:.1%}" for t in lane.steps[at].next_tokens
        ]
        for lane in result.lanes
        if at < len(lane.steps)
    }
    ranks = max((len(column) for column in columns.values()), default=0)
    return pl.DataFrame({"rank": list(range(1, ranks + 1)), **columns})
