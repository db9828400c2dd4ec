"""Generate: what base, tuned, treated and a control each write, side by side, as it is written."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl
import streamlit as st

from lib.ablation import AblationError, AblationRequest, limits
from lib.ablation.generate import (
    CONTROLS,
    LANES,
    NEW_TOKENS_LIMIT,
    GenerateRequest,
    GenerateResult,
    Step,
)
from lib.evidence import wording
from lib.figures import theme
from lib.ui import (
    ablation_address,
    ablation_choice,
    ablation_clients,
    ablation_controls,
    ablation_run,
    ablation_texts,
    tokens,
)
from lib.ui.frame import url_choice

TITLES = {"base": "base", "tuned": "tuned", "clamped": "treated", "control": "control"}
COLOURS = {
    "base": theme.BASE, "tuned": theme.TUNED, "clamped": theme.DIFFERENCE, "control": theme.NEUTRAL
}  # fmt: skip
FULL = 1.0
"""Nats of KL to base that get the full colour: the same in every lane and from run to run."""
_FIELDS = ("id", "token", "probability", "base_probability", "kl", "next_tokens")


def show(experiment_id: str, row: list[Any]) -> None:
    """The controls, the lanes while they are written, and the lanes with their tables after."""
    request = _ask(experiment_id, row)
    result: GenerateResult | None = ablation_run.follow("generate", experiment_id, _so_far)
    if result is not None:
        _finished(result, request)
    elif not ablation_run.slot("generate").ticket:
        st.info(
            "Press Run: every lane writes its own continuation of the prompt, token by token. A "
            "token is coloured by how far the prediction that it was taken from is from base's.",
            icon=":material/science:",
        )


def _ask(experiment_id: str, row: list[Any]) -> GenerateRequest | None:
    info, offered = ablation_clients.offered(experiment_id)
    second = st.columns([2, 2, 1.5, 1.6, 1.6, 1.3, 1.2], vertical_alignment="bottom")
    choice = ablation_choice.choose(
        experiment_id, info, offered, (row[0], row[1], row[2]), (second[0], second[1])
    )
    with second[2].popover("Features", width="stretch"):
        ablation_choice.pick_features(experiment_id, offered, choice)
    with second[3].popover("Texts", width="stretch"):
        ablation_texts.example(experiment_id)
    with second[4].popover("Sampling", width="stretch"):
        fields = _sampling(choice.intervention)
    with second[5].popover("Run as", width="stretch"):
        options = ablation_controls.options(experiment_id, info, "generate")
    prompt = ablation_texts.prompt(experiment_id)
    ablation_choice.explain(choice)
    request = None
    if ablation_choice.complete(choice):
        try:
            asked = AblationRequest(
                experiment_id=experiment_id,
                prompt=prompt,
                seed=fields["seed"],
                **choice._asdict(),
            )
            request = GenerateRequest(ablation=asked, **fields)
        except AblationError as problem:
            st.warning(f"This cannot be run: {problem}")
    with second[6]:
        ablation_run.button("generate", "generate", request, options)
    return request


def _sampling(intervention: str) -> dict[str, Any]:
    """Fields of the request beside the intervention."""
    names = [
        name for name in CONTROLS
        if intervention in limits.WITH_LATENTS or name != limits.RANDOM_LATENTS
    ]  # fmt: skip
    control = ""
    if intervention != limits.SCALE_LORA:
        control = url_choice(
            "Control lane", names, "lane",
            format_func=lambda n: ablation_choice.as_features(wording.CONTROLS[n]).capitalize(),
        )  # fmt: skip
    return {
        "control": control,
        "max_new_tokens": ablation_address.number(
            "New tokens", "new", 40, st.number_input, 1, NEW_TOKENS_LIMIT
        ),
        "temperature": ablation_address.number(
            "Temperature", "temperature", 0.0, partial(st.slider, step=0.1), 0.0, 2.0,
            help="0 = always the most probable token",
        ),
        "seed": ablation_address.number(
            "Seed", "seed", 0, st.number_input, 0, ablation_controls.SEEDS
        ),
    }  # fmt: skip


def _so_far(request: GenerateRequest, events: list[dict[str, Any]]) -> None:
    _lanes(request, written(events))


def written(events: list[dict[str, Any]]) -> dict[str, list[Step]]:
    """The steps that have been told, by lane."""
    found: dict[str, list[Step]] = {}
    for event in events:
        if event["event"] == "token":
            step = Step.from_json({name: event[name] for name in _FIELDS})
            found.setdefault(event["lane"], []).append(step)
    return found


def _lanes(request: GenerateRequest, steps: dict[str, Sequence[Step]]) -> None:
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
    return f"control: {ablation_choice.as_features(wording.CONTROLS[request.matched_control])}"


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


def _finished(result: GenerateResult, asked: GenerateRequest | None) -> None:
    if result.request != asked:
        st.caption(
            ":material/history: This result belongs to other settings than the controls above. "
            "Press Run for these."
        )
    steps = {lane.name: lane.steps for lane in result.lanes}
    _lanes(result.request, steps)
    st.markdown(verdict(result))
    most = max(len(own) for own in steps.values())
    at = 1
    if most > 1:
        at = ablation_address.number("Prediction of token", "step", 1, st.slider, 1, most)
    st.dataframe(table(result, at - 1), hide_index=True, width="stretch")
    seconds = ", ".join(f"{stage} {value:.2f}" for stage, value in result.seconds)
    st.caption(
        f"Run `{result.request.id}` on {result.device}; seconds: {seconds}. Each lane's table is "
        "its own prediction after its own text."
    )


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
