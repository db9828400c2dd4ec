"""Which adapters of a model share directions: matrix of pairs, one pair's matrices, verdict, tables."""

from collections.abc import Sequence

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.figures.weights import by_module
from lib.figures.weights_between import SAME_START, between
from lib.store import weights as _queries
from lib.ui import cache, tables
from lib.ui.geometry_weights_pairs import (
    SCORES,
    Asked,
    listed,
    partners,
    score_name,
    table,
    verdict,
)
from lib.ui.links import url_choice

SPACES = {
    "outputs": "Overlap: directions written",
    "inputs": "Overlap: directions read",
    "update": "Overlap: whole update",
}
"""In the address as ``weights``."""
CAPTION = (
    f"Click a cell for its matrices. {SAME_START} marks pairs with the same *start of A*: LoRA adds "
    "B A to a matrix; A is drawn from the training seed, B starts at zero, so adapters of one seed and "
    "rank share where their A began. *sd of a random pair*: how much the score of one matrix varies "
    "between two adapters with nothing in common; distances are means over the matrices."
)
_CHANCE = {"value": "chance", "angle": "angle_chance", "distance": None}
_COLUMNS = {
    "one": ("adapter", None), "other": ("and", None), "corpus": ("corpus", None),
    "seed": ("training seed", "%d"), "other_seed": ("training seed of the other", "%d"),
    "start": ("start of A", None), "value": ("score", "%.4f"), "chance": ("chance", "%.4f"),
    "distance": ("distance from chance, sd", "%.1f"), "angle": ("mean angle, degrees", "%.1f"),
    "angle_chance": ("chance, degrees", "%.1f"), "modules": ("matrices", "%d"),
}  # fmt: skip
_PAIR = {
    "module": ("matrix", None), "layer": ("layer", "%d"), "kind": ("kind", None),
    "rank": ("dimensions", "%d"), "other_rank": ("of the other", "%d"),
    "value": ("score", "%.4f"), "chance": ("chance", "%.4f"), "chance_sd": ("sd of chance", "%.4f"),
    "distance": ("distance from chance, sd", "%.1f"), "angle": ("mean angle, degrees", "%.1f"),
    "angle_chance": ("chance, degrees", "%.1f"),
}  # fmt: skip
_HELPS = {
    "value": "mean squared cosine of the principal angles; of the update its cosine",
    "chance": "exact, for independent adapters: larger dimension / d; of the update 0",
    "distance": "(score - chance) / sd of chance, mean over matrices",
    "angle": "90 = orthogonal; nothing of the kind for the update as a whole",
    "start": "adapters of one seed and rank began with the same A",
    "modules": "matrices of one name and size that both change",
}


@st.cache_data(max_entries=64, show_spinner=False)
def _pair(store_id: str, one: str, other: str, space: str) -> pl.DataFrame:
    return _queries.pair(cache.store(), one, other, space)


def show(
    experiment_id: str,
    pairs: pl.DataFrame,
    space: str,
    labels: dict[str, str],
    places: Sequence[DeltaGenerator],
) -> None:
    """Matrix of all pairs, verdict, and the matrices of one pair.

    Args:
        pairs: of ``lib.store.weights.pairs``: all spaces of one base.
        space: one of ``SPACES``.
        labels: name by experiment id.
        places: where the controls go: the other adapter, and the score (below without a second one).
    """
    here = pairs.filter(space=space)
    others = partners(here, experiment_id, labels)
    if not others:
        st.info(
            "No pair of this adapter was compared. Adapters are compared with those before them in "
            "the files of one command, such as `python -m lib run A.yaml B.yaml`; adapters of other "
            "models, or without a matrix in common, are not compared.",
            icon=":material/join_inner:",
        )
        return
    other, asked = _controls(others, space, labels, places)
    # Of its own for every pair: a chosen one is drawn anew, without a selection.
    key = f"weights:pairs:{experiment_id}:{other}"
    st.plotly_chart(
        between(table(here, asked, labels), asked.quantity, (experiment_id, other)), key=key,
        on_select=lambda: _clicked(key), selection_mode="points", config={"displayModeBar": False},
    )  # fmt: skip
    st.markdown(verdict(here, space))
    st.caption(CAPTION)
    _one_pair((experiment_id, other), asked, labels)
    with st.expander("Every pair"):
        tables.show(listed(here, labels), _COLUMNS, name=f"weights_{space}", helps=_HELPS)


def _controls(
    others: list[str], space: str, labels: dict[str, str], places: Sequence[DeltaGenerator]
) -> tuple[str, Asked]:
    beside = st.query_params.get("beside")
    if beside not in others and beside in cache.experiments()["experiment_id"]:
        del st.query_params["beside"]  # of the experiment that was shown before
    with places[0]:
        other = url_choice("Beside it", others, "beside", format_func=labels.__getitem__)
    whole = space == "update"  # which has no angles
    scores = [name for name in SCORES if not (whole and name == "angle")]
    with places[1] if len(places) > 1 else st.container():
        key = "update_score" if whole else "overlap_score"
        score = url_choice("Score", scores, key, format_func=lambda name: score_name(name, space))
    return other, Asked(space, score)


def _clicked(key: str) -> None:
    """The row becomes the page's experiment, the column the one beside it."""
    points = st.session_state[key].selection.points
    if points and points[0].get("customdata"):
        st.query_params["experiment"], st.query_params["beside"] = points[0]["customdata"][:2]


def _one_pair(pair: tuple[str, str], asked: Asked, labels: dict[str, str]) -> None:
    rows = _pair(cache.store_id(), *pair, asked.space)
    named = f"{labels[pair[0]]} and {labels[pair[1]]}"
    st.subheader(f"Matrix by matrix: {named}", anchor=False)
    chance = _CHANCE[asked.score]
    hover = pl.format(
        "{}<br>score {} (chance {}, sd {})<br>distance from chance {} sd<br>dimensions {} and {}",
        "module", *(_rounded(name) for name in ("value", "chance", "chance_sd", "distance")),
        "rank", "other_rank",
    )  # fmt: skip
    drawn = rows.select(
        "layer", "kind", value=asked.score, chance=chance or pl.lit(None, pl.Float64), hover=hover
    )
    st.plotly_chart(
        by_module(drawn, asked.quantity), key="weights:pair", config={"displayModeBar": False}
    )
    with st.expander(f"Every matrix of {named}"):
        tables.show(rows, _PAIR, name="weights_pair", helps=_HELPS)


def _rounded(column: str) -> pl.Expr:
    return pl.col(column).round_sig_figs(3).cast(pl.String).fill_null("not defined")
