"""The Explained view: how much of held-out deltas each description explains, fair pairs together."""

from typing import Any

import polars as pl
import streamlit as st

from lib.figures.geometry import Mark, explained
from lib.ui import geometry_reads, tables
from lib.ui.geometry_words import FAIR, OTHERS, READ, number

MEASURES = {"fve": "FVE, about the mean", "energy": "energy, about 0"}
_AXES = {
    "fve": "held-out variance of the deltas explained, about their mean",
    "energy": "held-out sum of squares of the deltas explained, about 0",
}
_NAMES = FAIR | OTHERS
_COLUMNS = {
    "rank": ("rank", "%d"), "fit": ("description", None), "read": ("read it", None),
    **tables.with_bounds("fve", "FVE", "percent"),
    **tables.with_bounds("energy", "energy", "percent"),
    "active": ("directions a token", "%.1f"), "dimensions": ("dimensions", "%d"),
}  # fmt: skip
_HELPS = {
    "fve": "1 - squared error / variance about the mean of the held-out deltas",
    "energy": "1 - squared error / sum of squares: holds the constant offset, which FVE leaves out",
    "active": "mean number of directions used on a token",
    "dimensions": "of all reconstructions together, where that was measured",
}


def show(experiment_id: str, hook: str, layer: int, measure: str) -> None:
    """Figure, verdict and every number of one place."""
    every = geometry_reads.table("fit", experiment_id)
    rows = every.filter(hook=hook, layer=layer)
    place = geometry_reads.table("place", experiment_id).filter(hook=hook, layer=layer)
    known = rows.drop_nulls(measure)
    names = [_NAMES[fit] for fit in _NAMES if fit in set(known["fit"])]
    fair = sum(fit in FAIR for fit in _NAMES if fit in set(known["fit"]))
    st.plotly_chart(
        explained(marks(known, measure, place), names, fair, known["rank"].unique().to_list(),
                  _AXES[measure]),
        config={"displayModeBar": False}, key="geometry:explained",
    )  # fmt: skip
    st.caption(
        f"Above the dotted line every description spends {geometry_reads.span(place['k'])} directions "
        "on a token; below it budgets differ, so those are no fair comparison. * Coefficients by "
        "least squares, chosen per token: the limit of these directions. Bars: 95 % over documents."
    )
    where = f"layer {layer}, {geometry_reads.HOOKS[hook]}"
    st.markdown(sentence(rows, every, place, measure, where))
    table = rows.sort(pl.col("fit").replace_strict(_order(), default=99), "rank").with_columns(
        read=pl.col("fit").replace_strict(READ, default=""),
        fit=pl.col("fit").replace_strict(_NAMES, default=pl.col("fit")),
    )
    tables.show(table, _COLUMNS, name="geometry_explained", helps=_HELPS)


def marks(rows: pl.DataFrame, measure: str, places: pl.DataFrame) -> list[Mark]:
    """One mark for each description and rank."""
    tokens = dict(places.select("rank", "tokens").iter_rows())
    return [
        Mark(
            _NAMES[row["fit"]], row["rank"], row[measure], row[f"{measure}_low"],
            row[f"{measure}_high"], _hover(row, tokens.get(row["rank"])),
        )
        for row in rows.iter_rows(named=True) if row["fit"] in _NAMES
    ]  # fmt: skip


def sentence(
    rows: pl.DataFrame, every: pl.DataFrame, places: pl.DataFrame, measure: str, where: str
) -> str:
    """The adapter SAE against PCA, then three sets of directions with the same budget.

    Args:
        rows: of ``lib.store.geometry.fits`` at one place; ``every``: at all places.
        places: of ``lib.store.geometry.places`` at the place.
    """
    own = rows.filter(fit="adapter").drop_nulls(measure).sort("rank")
    if own.is_empty():
        return "**No explained share is stored of this place.**"
    top = own.row(-1, named=True)
    what = "variance" if measure == "fve" else "sum of squares"
    tokens = geometry_reads.span(places["tokens"])
    first = (
        f"**At {where}, the adapter SAE explains {_range(own[measure])} of the {what} of held-out "
        f"deltas, PCA with as many directions {_range(rows.filter(fit='pca')[measure])}** (ranks "
        f"{geometry_reads.span(own['rank'])}; at rank {top['rank']} the SAE {_interval(top, measure)}; "
        f"n = {tokens} tokens)."
    )
    above = (
        f"The SAE is above PCA at {_above(rows, 'adapter', 'pca', measure)}; over all places, at "
        f"{_above(every, 'adapter', 'pca', measure)}."
    )
    limits = (
        "With the best coefficients for each token its directions explain "
        f"{_range(rows.filter(fit='adapter_pursuit')[measure])}, pretrained ones "
        f"{_range(rows.filter(fit='pretrained_pursuit')[measure])}, as many random ones "
        f"{_range(rows.filter(fit='random_pursuit')[measure])}: pretrained above random at "
        f"{_above(rows, 'pretrained_pursuit', 'random_pursuit', measure)}."
    )
    return f"{first} {above} {limits} {_subtracted(rows, measure)}"


def _above(rows: pl.DataFrame, one: str, other: str, measure: str) -> str:
    """``3 of 4 ranks, intervals apart at 2``."""
    keys = ["rank", "hook", "layer"]
    both = rows.filter(fit=one).join(rows.filter(fit=other), on=keys, suffix="_other")
    both = both.drop_nulls([measure, f"{measure}_other"])
    higher = both.filter(pl.col(measure) > pl.col(f"{measure}_other"))
    apart = both.filter(pl.col(f"{measure}_low") > pl.col(f"{measure}_high_other"))
    unit = "ranks" if both.select("hook", "layer").n_unique() == 1 else "places and ranks"
    return f"{len(higher)} of {len(both)} {unit}, intervals apart at {len(apart)}"


def _subtracted(rows: pl.DataFrame, measure: str) -> str:
    """What encoding both models with the pretrained dictionary gives."""
    found = rows.filter(fit="subtracted")[measure].drop_nulls()
    if found.is_empty():
        return ""
    worse = " (below 0: worse than saying nothing of the token)" if found.max() < 0 else ""
    return f"Encoding both models with the pretrained dictionary explains {_range(found)}{worse}."


def _range(values: pl.Series) -> str:
    known = values.drop_nulls()
    if known.is_empty():
        return "an unknown share"
    low, high = (f"{100 * end:.3g}".replace("-", "\u2212") for end in (known.min(), known.max()))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _interval(row: dict[str, Any], measure: str) -> str:
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    value = f"{100 * (row[measure] or 0):.3g} %"
    if low is None or high is None:
        return f"{value}, no interval"
    return f"{value}, 95 % {100 * low:.3g} to {100 * high:.3g} %".replace("-", "\u2212")


def _hover(row: dict[str, Any], tokens: int | None) -> str:
    lines = [
        f"{_NAMES[str(row['fit'])]}, rank {row['rank']}, layer {row['layer']}",
        f"FVE about the mean {_interval(row, 'fve')}",
        f"energy about 0 {_interval(row, 'energy')}",
        f"{number(row['active'])} directions a token"
        + ("" if row["dimensions"] is None else f", {row['dimensions']} dimensions"),
        READ[str(row["fit"])] + ("" if tokens is None else f"; n = {tokens:,} tokens"),
    ]
    return "<br>".join(lines)


def _order() -> dict[str, int]:
    return {fit: i for i, fit in enumerate(_NAMES)}
