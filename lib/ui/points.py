"""Points of the regime scatter: which columns, which cuts, which correlation. No Streamlit."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from lib.figures.scatter import COLUMNS, Cuts
from lib.metrics.regimes import classify, median_cuts
from lib.metrics.statistics import (
    RankTest,
    measurement_error,
    spearman_exact,
    stratified_spearman,
)
from lib.ui import names

PUBLISHED_CUTS = Cuts(55.4, 0.587)
"""Ours, not the seeds': geometric middles of the gaps (39.8, 77.1) and (0.478, 0.72) at 70B."""


class Inner(NamedTuple):
    """One way to measure inner change: a column of ``store.read.axes`` and how it is named."""

    column: str
    label: str
    title: str
    bounded: bool = True
    """Whether the store has an interval for it."""
    start: float = 0.0
    """The value of no change."""


INNER = {
    "ratio": Inner(
        "ratio", "peak reconstruction ratio",
        "inner change: peak cross / self reconstruction error, held-out (1 = none)", start=1.0,
    ),
    "centred": Inner(
        "ratio_centred", "centred ratio at that depth",
        "inner change: cross / self error without the mean shift (1 = none)", False, 1.0,
    ),
    "excess": Inner(
        "excess_fvu", "excess FVU at the peak",
        "inner change: (cross - self error) / variance at the peak (0 = none)",
    ),
    "displacement": Inner(
        "displacement", "largest CKA displacement",
        "inner change: largest 1 - CKA of all layers (0 = none)",
    ),
    "moved": Inner(
        "moved", "largest relative displacement",
        "inner change: largest rms of change / rms of base of all layers (0 = none)",
    ),
}  # fmt: skip


def measured(axes: pl.DataFrame, inner: Inner) -> tuple[pl.DataFrame, list[Cuts]]:
    """Points of ``store.read.axes`` in the columns of the scatter, and the cuts of each model.

    Cuts are medians within a model over all rows given here, so pass the rows before a filter by
    corpus. A model with fewer than two corpora has no cuts and its points are indeterminate.
    """
    rows = axes.drop_nulls([inner.column, "kl"])
    bounds = {
        f"x_{end}": pl.col(f"{inner.column}_{end}") if inner.bounded else pl.lit(None, pl.Float64)
        for end in ("low", "high")
    }
    points = rows.with_columns(
        name=names.label(rows), model="base_model", published=pl.lit(False), n="n_documents",
        x=inner.column, y="kl", y_low="kl_low", y_high="kl_high", **bounds,
    )  # fmt: skip
    cuts = {model: _cuts(model, part) for (model,), part in points.group_by("model")}
    regime = [
        _label(x, y, cuts[model])
        for model, x, y in points.select("model", "x", "y").iter_rows()
    ]  # fmt: skip
    points = points.with_columns(regime=pl.Series(regime, dtype=pl.String))
    found = [cut for _, cut in sorted(cuts.items()) if cut.internal is not None]
    return points.select(COLUMNS), found


def published(cells: pl.DataFrame) -> pl.DataFrame:
    """The seeds' cells that have both values, labelled as the seeds label them (no margin)."""
    rows = cells.drop_nulls(["ratio", "kl"]).with_columns(
        name=pl.col("corpus") + " " + pl.col("scale"), experiment_id=pl.lit(None, pl.String),
        model="scale", published=pl.lit(True), n=pl.lit(None, pl.Int64), x="ratio", y="kl",
        **{bound: pl.lit(None, pl.Float64) for bound in ("x_low", "x_high", "y_low", "y_high")},
    )  # fmt: skip
    return rows.with_columns(
        regime=pl.struct("x", "y").map_elements(
            lambda p: classify(p["x"], p["y"], *PUBLISHED_CUTS[:2], margin=0.0),
            return_dtype=pl.String,
        )
    ).select(COLUMNS)


def within_margin(points: pl.DataFrame, cuts: Cuts) -> list[str]:
    """Names of points that our margin would call indeterminate."""
    return [
        name for name, x, y in points.select("name", "x", "y").iter_rows()
        if _label(x, y, cuts) == "indeterminate"
    ]  # fmt: skip


def correlations(points: pl.DataFrame) -> dict[str, RankTest]:
    """Spearman's rho by model, one point per corpus; repeated runs of a corpus are averaged first.

    Models with fewer than three corpora, or without any spread on an axis, are left out.
    """
    parts = _comparable(corpus_means(points))
    return {
        str(model): spearman_exact(part["x"].to_numpy(), part["y"].to_numpy())
        for (model,), part in parts.group_by("model", maintain_order=True)
    }


def within_models(points: pl.DataFrame) -> RankTest | None:
    """Mean of the models' rho, permuted within models; None with fewer than two such models."""
    rows = _comparable(corpus_means(points))
    if rows["model"].n_unique() < 2:
        return None
    return stratified_spearman(rows["x"].to_numpy(), rows["y"].to_numpy(), rows["model"].to_list())


class Steadiness(NamedTuple):
    """Whether a rank correlation survives the error of the numbers it is made of."""

    error: float
    """Standard deviation in natural-log units, about the relative error; median of all values."""
    same_sign: float
    """Share of draws in which rho keeps its sign."""


def steadiness(points: pl.DataFrame) -> dict[str, Steadiness]:
    """By model, from the 95 % intervals; models without intervals or with values <= 0 left out.

    The error is that of other documents, not of other seeds or corpora.
    """
    found = {}
    width = [(pl.col(f"{a}_high") / pl.col(f"{a}_low")).log() / (2 * 1.96) for a in ("x", "y")]
    bounded = points.drop_nulls(["x_low", "x_high", "y_low", "y_high"]).filter(
        pl.min_horizontal("x_low", "y_low") > 0
    )
    for (model,), part in bounded.group_by("model", maintain_order=True):
        means = _comparable(corpus_means(part))
        if len(means):
            error = float(part.select(pl.concat_list(width).explode().median()).item())
            kept = measurement_error(means["x"].to_numpy(), means["y"].to_numpy(), error)
            found[str(model)] = Steadiness(error, kept.same_sign)
    return found


def _comparable(means: pl.DataFrame) -> pl.DataFrame:
    spread = [pl.col(axis).n_unique().over("model") >= 2 for axis in ("x", "y")]
    return means.filter(pl.len().over("model") >= 3, *spread)


def corpus_means(points: pl.DataFrame) -> pl.DataFrame:
    """One row per model and corpus: seeds and recipes of one corpus are no further corpora."""
    return (
        points.group_by("model", "corpus")
        .agg(pl.mean("x", "y"), runs=pl.len())
        .sort("model", "corpus")
    )


def extent(points: pl.DataFrame, axis: str, more: Sequence[float | None] = ()) -> list[float]:
    """Every value that an axis must hold: points, bounds, and what else is drawn."""
    columns = [
        points[name].drop_nulls().to_list() for name in (axis, f"{axis}_low", f"{axis}_high")
    ]
    return [v for column in columns for v in column] + [v for v in more if v is not None]


def _cuts(model: object, points: pl.DataFrame) -> Cuts:
    means = corpus_means(points)
    if len(means) < 2:
        return Cuts(None, None, str(model))
    if any(means[axis].quantile(0.5, "lower") <= 0 for axis in ("x", "y")):
        return Cuts(None, None, str(model))  # no geometric middle
    found = median_cuts(means["x"].to_numpy(), means["y"].to_numpy())
    return Cuts(found.internal, found.output, str(model))


def _label(x: float, y: float, cuts: Cuts) -> str:
    if cuts.internal is None or cuts.output is None:
        return "indeterminate"
    return classify(x, y, cuts.internal, cuts.output)
