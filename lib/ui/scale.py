"""The section on the scale confound: pooled against within, on the same points."""

import polars as pl
import streamlit as st

from lib.figures import scale
from lib.ui import claims, limits, orders
from lib.ui.links import url_choice

_FACTORS = (1.0, 1.5, 2.5, 5.0, 10.0)
"""2.5 is about how much the one published ratio that is known at all scales grows (12.5, 29.3,
77.1)."""


@st.fragment
def published(pairs: pl.DataFrame) -> None:
    """The 70B points and two sets of copies, because no other scale has published pairs."""
    st.subheader("What does a pooled correlation over scales say?", anchor=False)
    if len(pairs) < 3:
        st.info("Fewer than three published pairs are chosen: no order to copy. Clear the filters.")
        return
    st.caption(
        "Only 70B has published pairs, so pooled against within cannot be compared on the seeds' own "
        "points. This is an **illustration**: the published 70B points, and the same points again "
        "twice, made smaller on both axes by one factor per scale. Copies are small and grey; they "
        "are no data."
    )
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        factor = url_choice(
            "Each scale is smaller by a factor of", _FACTORS, "apart", 5.0, lambda f: f"{f:g}",
            widget="segmented",
        )  # fmt: skip
    with right:
        removed = _means("scale")
    _show(orders.copies(pairs, [1 / factor, 1 / factor**2]), removed, illustration=True)


@st.fragment
def measured(points: pl.DataFrame) -> None:
    """Our own points, when at least two models have three corpora each; one point per corpus."""
    st.subheader("What does a pooled correlation over models say?", anchor=False)
    positive = points.filter(pl.min_horizontal("x", "y") > 0)
    if orders.confound(positive) is None:
        st.info(
            "One model with at least three corpora is chosen, so there is nothing to pool: every "
            "correlation above is within that model. With a second model this section shows the "
            "pooled correlation beside the one within models. The view of the published numbers "
            "shows what to expect."
        )
        return
    shown = orders.per_corpus(positive).with_columns(copy=pl.lit(False))
    left = len(points) - len(positive)
    st.caption(
        "The same points with and without the differences between models, one per model and corpus. "
        "Log axes." + (f" {left} without a positive value left out, here alone." if left else "")
    )
    _show(shown, _means("model"), illustration=False)
    if apart := limits.families(shown["model"].unique(maintain_order=True).to_list()):
        st.markdown(apart)


def _means(of: str) -> bool:
    chosen = url_choice(f"Mean of each {of}", ["kept", "taken off"], "means", widget="segmented")
    return chosen == "taken off"


def _show(points: pl.DataFrame, removed: bool, *, illustration: bool) -> None:
    st.plotly_chart(
        scale.confound(points, removed=removed), key="scale:figure",
        config={"displayModeBar": False},
    )  # fmt: skip
    found = orders.confound(points)
    if found is not None:
        st.markdown(claims.confounded(found, points["model"].n_unique(), illustration))
