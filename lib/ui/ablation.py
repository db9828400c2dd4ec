"""The views of the ablation page: what each asks for, and how its answer is drawn."""

from typing import Any

import streamlit as st

from lib.ablation import AblationError, AblationRequest
from lib.ui import (
    ablation_choice,
    ablation_clients,
    ablation_controls,
    ablation_evidence,
    ablation_examples,
    ablation_partial,
    ablation_precomputed,
    ablation_prompt,
    ablation_run,
    ablation_texts,
)
from lib.ui import definitions as all_definitions
from lib.ui.links import warnings_in


def documents(experiment_id: str, row: list[Any]) -> None:
    """Documents: the standard result at once, or a live run of these settings; without a live
    bundle nothing can be run, and what is stored is shown all the same."""
    lacks = ablation_clients.lacks(experiment_id)
    request, texts = (None, None) if lacks else _ask(experiment_id, row, "documents")
    if lacks:
        ablation_clients.no_run(lacks)
        ablation_run.opened("documents", "ablation")
    if texts is not None and texts.problem:
        st.warning(texts.problem)
    at = ablation_run.slot("documents")
    current = request == at.request
    result = ablation_run.follow("documents", experiment_id, _so_far, current=current)
    if result is not None:
        if not lacks:
            ablation_evidence.other_settings(result, request, bool(at.failed) and current)
        ablation_evidence.show(result)
    if result is not None or ablation_run.partial(at, experiment_id):
        if ablation_precomputed.runs(experiment_id):
            st.button(
                "Back to the standard result",
                icon=":material/undo:",
                on_click=ablation_run.forget,
                args=("documents",),
            )
    elif lacks or not at.ticket:
        ablation_precomputed.show(experiment_id, request, live=not lacks)


def prompt(experiment_id: str, row: list[Any]) -> None:
    """One prompt: the same picture, and every token."""
    request, _ = _ask(experiment_id, row, "prompt")
    at = ablation_run.slot("prompt")
    current = request == at.request
    result = ablation_run.follow("prompt", experiment_id, _so_far, current=current)
    if result is not None:
        ablation_evidence.other_settings(result, request, bool(at.failed) and current)
        if result.tokens:  # a link may name a run over documents
            ablation_prompt.show(result)
        ablation_evidence.show(result)
    elif not (at.ticket or ablation_run.partial(at, experiment_id)):
        st.info(
            "Press Run. The first run starts the model, which takes about twenty seconds; later ones "
            "take a few. Every setting is in the address, so a copied link repeats the run.",
            icon=":material/science:",
        )


def _ask(
    experiment_id: str, row: list[Any], view: str
) -> tuple[AblationRequest | None, ablation_texts.Texts | None]:
    """Draw the controls of a view and its Run button; what they ask for, None if it cannot run."""
    info, offered = ablation_clients.offered(experiment_id)
    second = st.columns([2, 2, 1.5, 1.6, 1.6, 1.3, 1.2], vertical_alignment="bottom")
    with warnings_in(st.container()):
        choice = ablation_choice.choose(
            experiment_id, info, offered, (row[0], row[1], row[2]), (second[0], second[1])
        )
        with second[2].popover("Features", width="stretch"):
            ablation_choice.pick_features(experiment_id, offered, choice)
        texts, given = None, {}
        with second[3].popover("Texts", width="stretch"):
            if view == "documents":
                texts = ablation_texts.documents(experiment_id)
            else:
                given = _beside_prompt(experiment_id)
        with second[4].popover("Controls", width="stretch"):
            controls = ablation_controls.controls(choice, offered)
        with second[5].popover("Run as", width="stretch"):
            options = ablation_controls.options(experiment_id, info)
        if texts is None:
            given["prompt"] = ablation_examples.prompt(experiment_id)
        else:
            given = {name: getattr(texts, name) for name in _TEXTS}
        ablation_choice.explain(choice)
        ready = ablation_choice.complete(choice) and (texts is None or not texts.problem)
        given |= options.sent
        request = _request(experiment_id, choice, controls, given) if ready else None
    with second[6]:
        ablation_run.button(view, "ablation", request, options)
    return request, texts


_TEXTS = ("documents", "neutral", "prompt_limit")


def _beside_prompt(experiment_id: str) -> dict[str, Any]:
    """Examples of a prompt, and the neutral texts, none by default: each takes as long again."""
    ablation_examples.example(experiment_id)
    return {"neutral": ablation_texts.neutral()[: ablation_texts.neutral_count(0)]}


def _request(
    experiment_id: str,
    choice: ablation_choice.Choice,
    controls: ablation_controls.Controls,
    given: dict[str, Any],
) -> AblationRequest | None:
    try:
        return AblationRequest(
            experiment_id=experiment_id, **choice._asdict(), **controls._asdict(), **given
        )
    except AblationError as problem:
        st.warning(f"This cannot be run: {problem}")
        return None


def _so_far(request: AblationRequest, events: list[dict[str, Any]]) -> None:
    """Draw what is finished of a run that is still under way."""
    known = ablation_partial.told(events)
    found = ablation_partial.partial(request, known)
    if found is not None:
        ablation_evidence.show(found)
    elif "treated" in known.conditions:
        ablation_evidence.sizes({"treated": [known.conditions["treated"].edits]})


def definitions(view: str) -> str:
    """The definitions that a view needs."""
    own = {
        "shared": ("Features that mean the same", "KL"),
        "generate": ("Interventions", "Edit norms", "KL"),
    }
    names = ("Interventions", "Share undone", "Edit norms", "Matched controls", "Causal claim")
    return all_definitions.chosen(own.get(view, names))
