"""The views of the lens page: their controls, their empty states, and what is defined under them."""

from collections.abc import Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.ui import (
    agent,
    definitions,
    judge,
    lens_differences,
    lens_identity,
    lens_live,
    lens_reads,
    lens_robustness,
    lens_steering,
    lens_swap,
    lens_tokens,
)
from lib.ui.lens_tokens import READINGS
from lib.ui.links import url_choice

VIEWS = {
    "tokens": "Tokens",
    "differences": "Differences",
    "corpus": "Which corpus",
    "steering": "Steering",
    "causal": "Causal test",
    "robustness": "Robustness",
    "live": "Live",
    "agent": "Agent",
}
_DEFINED = {
    "tokens": ["Activation difference", "Logit lens", "Patchscope", "Own words"],
    "differences": ["Activation difference", "Offset share"],
    "corpus": ["Own words", "Which corpus"],
    "steering": ["Steering", "Coherence", "Similarity to a corpus"],
    "causal": ["Swap along the difference"],
    "robustness": ["Robustness checks"],
    "live": ["Activation difference", "Logit lens", "Patchscope"],
    "agent": ["Interpretability agent", "LLM judge"],
}
_WITHOUT_LENS = ("corpus", "live", "agent")
"""Views with something to say of an experiment that has no lens itself."""


def show(view: str, experiment_id: str, places: Sequence[DeltaGenerator]) -> None:
    """One view, its controls in ``places``, or why there is nothing to show."""
    run = lens_reads.run(experiment_id)
    if run is None and view not in _WITHOUT_LENS:
        lens_reads.missing(experiment_id)
        return
    if view == "agent":
        agent.show(experiment_id)
        judge.show(experiment_id)
    elif view == "live":
        lens_live.show(experiment_id)
    elif view == "corpus":
        with places[0]:
            reading = pick_reading("middle")
        lens_identity.show(experiment_id, reading)
    elif run is not None:
        _of_one(view, experiment_id, run, places)
        st.caption(probed(run))


def _of_one(
    view: str, experiment_id: str, run: dict[str, Any], places: Sequence[DeltaGenerator]
) -> None:
    if view == "tokens":
        with places[0]:
            layer = pick_layer(run)
        with places[1]:
            reading = pick_reading("all", heads=_heads(experiment_id, run["layer"]))
        lens_tokens.show(experiment_id, run, layer, reading)
    elif view == "differences":
        with places[0]:
            layer = pick_layer(run)
        lens_differences.show(experiment_id, run, layer)
    elif view == "steering":
        lens_steering.show(experiment_id, run)
    elif view == "causal":
        lens_swap.show(experiment_id, run)
    else:
        with places[0]:
            position = url_choice("Position of the readings", list(range(run["positions"])), "at")
        lens_robustness.show(experiment_id, run, position)


def pick_layer(run: dict[str, Any]) -> int:
    """A block, in the address as ``block``; the middle one unless asked otherwise."""
    middle = run["layer"]

    def named(layer: int) -> str:
        return f"{layer} of {run['n_layers']}{' (middle)' if layer == middle else ''}"

    layers = list(range(run["n_layers"] or middle + 1))
    return url_choice("Layer (after block)", layers, "block", middle, named)


def pick_reading(kind: str, *, heads: bool = False) -> str:
    """What is read, in the address as ``reading``.

    Args:
        kind: ``all``, or ``middle``: readings that every experiment has at every position.
        heads: whether the base's head reads anything else.
    """
    options = [name for name in READINGS if heads or not name.startswith("base_head")]
    if kind == "middle":
        options = [name for name in options if name not in ("bos", "base_head_negated")]
    return url_choice("Reading", options, "reading", "lens", READINGS.__getitem__)


def _heads(experiment_id: str, layer: int) -> bool:
    return "base_head" in set(lens_reads.readings(experiment_id, layer)["reading"])


def probed(run: dict[str, Any]) -> str:
    """Where the lens of one experiment comes from, in one line."""
    return (
        f"Lens: residual stream, {run['texts']} probe texts of {run['probe']}, first "
        f"{run['positions']} tokens after BOS, {run['k']} tokens read per vector; words against "
        f"{len(run['words'])} own frequent words of {run['corpus']} and {run['vocabulary']:,} words "
        f"of the tokenizer. Middle layer {run['layer']}, seed {run['seed']}, "
        f"part {run['part']}."
    )


def about(view: str) -> str:
    """The definitions of one view as markdown."""
    return definitions.chosen(_DEFINED[view])
