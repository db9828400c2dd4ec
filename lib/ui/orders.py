"""What the order of the points says: rank tests by model, within models, and over a whole page."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from lib.metrics.statistics import (
    RankTest,
    holm,
    leave_one_out,
    measurement_error,
    partial_spearman,
    spearman_exact,
    stratified_spearman,
)
from lib.ui.labelling import corpus_means

_WIDTH = 2 * 1.959964  # of a 95 % interval, in standard deviations


class Steadiness(NamedTuple):
    """Whether a rank correlation survives the error of the numbers it is made of."""

    error: float
    """Standard deviation in natural-log units, about the relative error; median of all values."""
    same_sign: float
    """Share of draws in which rho keeps its sign; NaN where rho is 0 and has none."""


class Confound(NamedTuple):
    """The same points three ways: with the differences between models, and without them."""

    pooled: RankTest
    within: RankTest
    """Mean of the models' rho, permuted within each model."""
    partial: RankTest
    """Ranks of all points after each model's mean rank is removed, permuted within models."""


def correlations(points: pl.DataFrame) -> dict[str, RankTest]:
    """Spearman's rho by model, one point per corpus; repeated runs of a corpus are averaged first.

    Models with fewer than three corpora, or without any spread on an axis, are left out.
    """
    return {
        str(model): spearman_exact(part["x"].to_numpy(), part["y"].to_numpy())
        for (model,), part in _comparable(points).group_by("model", maintain_order=True)
    }


def confound(points: pl.DataFrame) -> Confound | None:
    """Pooled, within and partial rho; None with fewer than two models of three corpora."""
    inside = within(points)
    if inside is None:
        return None
    rows = _comparable(points)
    return Confound(spearman_exact(rows["x"].to_numpy(), rows["y"].to_numpy()), *inside)


def within(points: pl.DataFrame) -> tuple[RankTest, RankTest] | None:
    """Mean of the models' rho and the partial one; None with fewer than two models."""
    rows = _comparable(points)
    if rows["model"].n_unique() < 2:
        return None
    x, y, strata = rows["x"].to_numpy(), rows["y"].to_numpy(), rows["model"].to_list()
    return stratified_spearman(x, y, strata), partial_spearman(x, y, strata)


def without_one(points: pl.DataFrame) -> dict[str, dict[str, float]]:
    """By model: rho without each corpus in turn; NaN where what is left has no order.

    Models with fewer than four corpora are left out: two points always correlate perfectly.
    """
    found = {}
    for (model,), part in _comparable(points).group_by("model", maintain_order=True):
        if len(part) >= 4:
            rho = leave_one_out(part["x"].to_numpy(), part["y"].to_numpy())
            found[str(model)] = dict(zip(part["corpus"], map(float, rho), strict=True))
    return found


def steadiness(points: pl.DataFrame) -> dict[str, Steadiness]:
    """By model, from the 95 % intervals and, where a corpus was trained with several seeds, the
    error of their mean; models without intervals or with values <= 0 left out."""
    bounded = points.drop_nulls(["x_low", "x_high", "y_low", "y_high"]).filter(
        pl.min_horizontal("x_low", "y_low") > 0
    )
    spread = bounded.with_columns(**{f"{axis}_error": _error(axis) for axis in "xy"})
    sd = spread.group_by("model", "corpus").agg(x_sd=pl.mean("x_error"), y_sd=pl.mean("y_error"))
    rows = _comparable(bounded).join(sd, on=["model", "corpus"], maintain_order="left")
    found = {}
    for (model,), part in rows.group_by("model", maintain_order=True):
        x, y, x_sd, y_sd = (part[c].to_numpy() for c in ("x", "y", "x_sd", "y_sd"))
        kept = measurement_error(x, y, x_sd, y_sd)
        error = float(np.median(np.concatenate([x_sd, y_sd])))
        found[str(model)] = Steadiness(error, kept.same_sign)
    return found


def _error(axis: str) -> pl.Expr:
    """Natural-log sd of a point on one axis: documents, and the mean over its seeds."""
    documents = (pl.col(f"{axis}_high") / pl.col(f"{axis}_low")).log() / _WIDTH
    seeds = (pl.col(f"{axis}_sd") / pl.col(axis)).fill_null(0.0) / pl.col("seeds").sqrt()
    return (documents.pow(2) + seeds.pow(2)).sqrt()


def _known(share: float) -> float | None:
    return None if np.isnan(share) else share


WITHIN = "within models"
PARTIAL = "ranks less each model's mean"


def hypotheses(points_by_pair: Mapping[tuple[str, str], pl.DataFrame]) -> pl.DataFrame:
    """Every order that a page can show, tested together.

    Args:
        points_by_pair: points by the names of the inner and the outer metric.

    Returns:
        inner, outer, over (a model, ``WITHIN`` models or ``PARTIAL``), n, rho, p, p_min, exact,
        p_holm (Holm over all rows), loo_low and loo_high (rho without one corpus), same_sign (share
        of draws from the intervals in which rho keeps its sign). Null = not defined.
    """
    rows = []
    for (inner, outer), points in points_by_pair.items():
        single, steady = without_one(points), steadiness(points)
        found = dict(correlations(points))
        if (several := within(points)) is not None:
            found |= dict(zip((WITHIN, PARTIAL), several, strict=True))
        for over, test in found.items():
            left = [rho for rho in single.get(over, {}).values() if not np.isnan(rho)]
            rows.append({
                "inner": inner, "outer": outer, "over": over, **test._asdict(),
                "loo_low": min(left, default=None), "loo_high": max(left, default=None),
                "same_sign": _known(steady[over].same_sign) if over in steady else None,
            })  # fmt: skip
    table = pl.DataFrame(rows, schema=HYPOTHESES)
    return table.with_columns(p_holm=pl.Series(holm(table["p"].to_list()), dtype=pl.Float64))


HYPOTHESES = pl.Schema({
    "inner": pl.String, "outer": pl.String, "over": pl.String, "n": pl.Int64, "rho": pl.Float64,
    "p": pl.Float64, "p_min": pl.Float64, "exact": pl.Boolean, "loo_low": pl.Float64,
    "loo_high": pl.Float64, "same_sign": pl.Float64,
})  # fmt: skip


def copies(points: pl.DataFrame, factors: Sequence[float]) -> pl.DataFrame:
    """The points of one scale, and again at other scales, times a factor on both axes.

    An illustration and no data: what a pooled correlation would be if nothing but the size of the
    numbers differed between scales. Adds ``copy``; a copy's model is named by its factor.
    """
    made = [points.with_columns(copy=pl.lit(False))]
    for i, factor in enumerate(factors, 1):
        name = pl.format("copy {}: {} x {}", pl.lit(i), "model", pl.lit(f"{factor:.3g}"))
        scaled = points.with_columns(pl.col("x", "y") * factor, model=name, copy=pl.lit(True))
        made.append(scaled)
    return pl.concat(made)


def per_corpus(points: pl.DataFrame) -> pl.DataFrame:
    """The points that rank tests take: one per model and corpus, of models with three or more
    corpora and some spread on both axes. Columns of the first point of the corpus; x and y means."""
    first = points.unique(["model", "corpus"], keep="first", maintain_order=True)
    means = _comparable(points)
    return first.drop("x", "y").join(means, on=["model", "corpus"], maintain_order="left_right")


def _comparable(points: pl.DataFrame) -> pl.DataFrame:
    spread = [pl.col(axis).n_unique().over("model") >= 2 for axis in ("x", "y")]
    return corpus_means(points).filter(pl.len().over("model") >= 3, *spread)
