"""The views of the geometry page: their controls, their empty state, and what is defined under them."""

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.ui import (
    definitions,
    frame,
    geometry_contributions,
    geometry_directions,
    geometry_explained,
    geometry_ranks,
    geometry_reads,
    geometry_weights,
)
from lib.ui.definitions_weights import WEIGHTS
from lib.ui.geometry_explained import MEASURES
from lib.ui.geometry_ranks import DENSITIES
from lib.ui.geometry_words import SCORES
from lib.ui.links import url_choice

VIEWS = {
    "explained": "Explained",
    "directions": "Directions",
    "ranks": "Ranks",
    "contributions": "Contributions",
    "weights": "Weights",
}
_DEFINED = {
    "explained": ["Delta activation", "Adapter SAE", "Explained share of deltas"],
    "directions": ["Delta activation", "Distance from chance", "Max cosine", "Principal angle",
                   "CKA of deltas"],
    "ranks": ["Feature density", "Distance from chance", "Trend over ranks and depths"],
    "contributions": ["Delta activation", "Contribution of a matrix", "Written directly"],
    "weights": list(WEIGHTS),
}  # fmt: skip


def first_view() -> str:
    """Weights need no stage of hours, so they are there where the rest may not be."""
    return "weights" if geometry_reads.runs().is_empty() else "explained"


def pick_experiment(view: str) -> str:
    """The experiment that all pages share; weights are there for more of them than deltas."""
    if view == "weights" or geometry_reads.runs().is_empty():
        return frame.pick_experiment()
    return geometry_reads.pick_experiment()


def show(view: str, experiment_id: str, places: Sequence[DeltaGenerator]) -> None:
    """One view, its controls in ``places``, or why there is nothing to show."""
    if view == "weights":
        geometry_weights.show(experiment_id, places)
        return
    if geometry_reads.table("place", experiment_id).is_empty():
        geometry_reads.missing(experiment_id)
        return
    if view == "contributions":
        with places[0]:
            rank = geometry_reads.pick_rank(experiment_id)
        geometry_contributions.show(experiment_id, rank)
        st.caption(geometry_reads.source(experiment_id))
        return
    with places[0]:
        hook = geometry_reads.pick_hook(experiment_id)
    if view == "ranks":
        with places[1]:
            first = geometry_ranks.first_density(experiment_id)
            density = url_choice("Density", list(DENSITIES), "density", first,
                                 DENSITIES.__getitem__)  # fmt: skip
        with places[2]:
            against = [score for score in SCORES if score != "cka"]
            score = url_choice("Divergence", against, "score", format_func=SCORES.__getitem__)
        geometry_ranks.show(experiment_id, hook, density, score)
    else:
        with places[1]:
            layer = geometry_reads.pick_layer(experiment_id, hook)
        if view == "explained":
            with places[2]:
                measure = url_choice("Measure", list(MEASURES), "measure",
                                     format_func=MEASURES.__getitem__)  # fmt: skip
            geometry_explained.show(experiment_id, hook, layer, measure)
        else:
            geometry_directions.show(experiment_id, hook, layer)
    st.caption(geometry_reads.source(experiment_id))


def about(view: str) -> str:
    """The definitions of one view as markdown."""
    return definitions.chosen(_DEFINED[view])
