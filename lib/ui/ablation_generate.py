"""Generate: what base, tuned, treated and a control each write, side by side, as it is written."""

from functools import partial
from typing import Any

import streamlit as st

from lib.ablation import AblationError, AblationRequest, limits
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.generate import (
    CONTROLS,
    NEW_TOKENS_LIMIT,
    GenerateRequest,
    GenerateResult,
)
from lib.evidence import wording
from lib.ui import (
    ablation_address,
    ablation_choice,
    ablation_clients,
    ablation_controls,
    ablation_examples,
    ablation_run,
    ablation_tables,
    ablation_words,
)
from lib.ui import (
    ablation_lanes as lanes,
)
from lib.ui.frame import url_choice
from lib.ui.links import warnings_in


def show(experiment_id: str, row: list[Any]) -> None:
    """The controls, the lanes while they are written, and the lanes with their tables after."""
    request = _ask(experiment_id, row)
    at = ablation_run.slot("generate")
    result: GenerateResult | None = ablation_run.follow(
        "generate", experiment_id, _so_far, current=request == at.request
    )
    if result is not None:
        _finished(result, request)
    elif not (at.ticket or ablation_run.partial(at, experiment_id)):
        st.info(
            "Press Run: every lane writes its own continuation of the prompt, token by token. A "
            "token is coloured by how far the prediction that it was taken from is from base's.",
            icon=":material/science:",
        )


def _ask(experiment_id: str, row: list[Any]) -> GenerateRequest | None:
    info, offered = ablation_clients.offered(experiment_id)
    second = st.columns([2, 2, 1.5, 1.6, 1.6, 1.3, 1.2], vertical_alignment="bottom")
    with warnings_in(st.container()):
        return _choose(experiment_id, info, offered, (row, second))


def _choose(
    experiment_id: str,
    info: BundleInfo,
    offered: dict[int, Offered],
    rows: tuple[list[Any], list[Any]],
) -> GenerateRequest | None:
    row, second = rows
    choice = ablation_choice.choose(
        experiment_id, info, offered, (row[0], row[1], row[2]), (second[0], second[1])
    )
    with second[2].popover("Features", width="stretch"):
        ablation_choice.pick_features(experiment_id, offered, choice)
    with second[3].popover("Texts", width="stretch"):
        ablation_examples.example(experiment_id)
    with second[4].popover("Sampling", width="stretch"):
        fields = _sampling(choice.intervention)
    with second[5].popover("Run as", width="stretch"):
        options = ablation_controls.options(experiment_id, info, "generate")
    prompt = ablation_examples.prompt(experiment_id)
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
            format_func=lambda n: wording.CONTROLS[n].capitalize(),
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
    lanes.show(request, lanes.written(events))


def _sizes(result: GenerateResult) -> None:
    """How large the edits were and what they removed, on the tokens that each lane read."""
    runs = {
        lanes.title(result.request, lane.name): [lane.edits] for lane in result.lanes if lane.edits
    }
    if not runs:
        st.caption(ablation_words.no_edits(result.request.ablation.intervention))
        return
    st.markdown("**How large the edits were, and what they removed**")
    ablation_tables.show_edits(runs, "ablation_lanes_edits", fires=False)
    st.caption("Over the prompt and what the lane wrote itself, without the first four tokens.")


def _finished(result: GenerateResult, asked: GenerateRequest | None) -> None:
    if result.request != asked:
        st.caption(
            ":material/history: This result belongs to other settings than the controls above. "
            "Press Run for these."
        )
    steps = {lane.name: lane.steps for lane in result.lanes}
    lanes.show(result.request, steps)
    st.markdown(lanes.verdict(result))
    most = max(len(own) for own in steps.values())
    at = 1
    if most > 1:
        at = ablation_address.number("Prediction of token", "step", 1, st.slider, 1, most)
    st.dataframe(lanes.table(result, at - 1), hide_index=True, width="stretch")
    _sizes(result)
    seconds = ", ".join(
        f"{ablation_words.stages(stage)} {value:.2f}" for stage, value in result.seconds
    )
    st.caption(
        f"Run `{result.request.id}` on {result.device}; seconds: {seconds}. Each lane's table is "
        "its own prediction after its own text."
    )
