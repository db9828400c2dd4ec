"""What a handful of points allow: exact rank tests, and the smallest p they can reach.

The p value of scipy's spearmanr is a large-sample formula; with 4 to 12 experiments only
enumeration is right.
"""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from lib.metrics.permutation import TOLERANCE, RankTest, permutation_test
from lib.metrics.ranks import members, pair, rank_correlation, ranks, unit, unit_ranks
from lib.metrics.shapes import refuse_shape

SD = float | int | Float[np.ndarray, " n"]


class ErrorPropagation(NamedTuple):
    negative: float
    """Share of draws with rho < 0."""
    same_sign: float
    """Share of draws whose rho has the sign of the observed rho; NaN where that is 0 and has none."""
    same_rho: float
    """Share of draws with exactly the observed rho."""


def spearman_exact(x: Collection[Any], y: Collection[Any], *, seed: int = 0) -> RankTest:
    """Spearman's rank correlation with its exact two-sided permutation p.

    All n! pairings up to n = 9, ties included; beyond that ``DRAWS`` seeded permutations, with the
    observed pairing counted so that p is never 0. With n = 4 and no ties p is never below 2/24.

    Raises:
        ValueError: fewer than 3 points, unequal lengths, missing values, or a constant variable.
    """
    x, y = pair(x, y)
    a, b = unit_ranks("x", x), unit_ranks("y", y)
    return permutation_test([(a, b)], len(x), seed)


def stratified_spearman(
    x: Collection[Any], y: Collection[Any], strata: Collection[Any], *, seed: int = 0
) -> RankTest:
    """Mean of the rank correlations within strata, permuting within strata only.

    Free of the scale confound: where both variables merely separate the strata, the pooled rho is
    high whatever happens inside, and this one is not. Strata weigh the same, whatever their size.
    Exact unless a stratum has more than 9 points or the strata's values combine in over a million
    ways.

    Raises:
        ValueError: a stratum with fewer than 3 points or a constant variable, or missing values.
    """
    x, y = pair(x, y)
    groups = members(strata, len(x))
    parts = []
    for name, at in groups.items():
        if len(x[at]) < 3:
            raise ValueError(
                f"stratified Spearman is not defined because stratum {name!r} has {len(x[at])} "
                "points; it needs at least 3: leave that stratum out or add experiments"
            )
        where = f" in stratum {name!r}"
        a, b = unit_ranks("x", x[at], where), unit_ranks("y", y[at], where)
        parts.append((a / len(groups), b))
    return permutation_test(parts, len(x), seed)


def partial_spearman(
    x: Collection[Any], y: Collection[Any], strata: Collection[Any], *, seed: int = 0
) -> RankTest:
    """Correlation of pooled ranks after removing each stratum's mean rank, permuting within strata.

    Regressing on one dummy per stratum leaves the deviations from the stratum's mean rank. Unlike
    ``stratified_spearman``, strata with a wider spread of ranks weigh more.

    Raises:
        ValueError: fewer than 3 points, missing values, or nothing left inside the strata.
    """
    x, y = pair(x, y)
    at = list(members(strata, len(x)).values())
    residuals = [np.zeros(len(x)), np.zeros(len(x))]
    for residual, pooled in zip(residuals, (ranks(x), ranks(y)), strict=True):
        for rows in at:
            residual[rows] = pooled[rows] - pooled[rows].mean()
        norm = np.linalg.norm(residual)
        if norm < TOLERANCE:
            raise ValueError(
                "partial Spearman is not defined because a variable varies inside no stratum"
            )
        residual /= norm
    return permutation_test([(residuals[0][rows], residuals[1][rows]) for rows in at], len(x), seed)


def leave_one_out(x: Collection[Any], y: Collection[Any]) -> Float[np.ndarray, " n"]:
    """Spearman's rho without each point in turn; NaN where what is left is constant.

    Raises:
        ValueError: fewer than 4 points (two points always correlate perfectly), or missing values.
    """
    x, y = pair(x, y)
    if len(x) < 4:
        raise ValueError(
            f"leave-one-out is not defined because there are {len(x)} points; 4 needed"
        )
    return np.array([rank_correlation(np.delete(x, i), np.delete(y, i)) for i in range(len(x))])


def holm(p_values: Collection[Any]) -> Float[np.ndarray, " tests"]:
    """Holm's step-down adjusted p values, in the order given; holds under any dependence.

    Raises:
        ValueError: a p value outside [0, 1].
    """
    refuse_shape("Holm's correction", 1, p_values=p_values)
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values must be in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def measurement_error(
    x: Collection[Any],
    y: Collection[Any],
    sd_log: SD,
    sd_log_y: SD | None = None,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> ErrorPropagation:
    """How often rho keeps its sign when both variables carry independent log-normal error.

    This is the uncertainty of these experiments' numbers, not of the choice of corpora.

    Args:
        sd_log: standard deviation in natural-log units, about the relative error; one for all
            values, or one per value of x.
        sd_log_y: the same for y; None takes ``sd_log`` for both.

    Raises:
        ValueError: fewer than 3 points, values that are not positive, or a deviation that is
            negative or not finite.
    """
    x, y = pair(x, y)
    spreads = [
        np.broadcast_to(sd, len(x)) for sd in (sd_log, sd_log if sd_log_y is None else sd_log_y)
    ]
    known = all(np.isfinite(sd).all() and sd.min() >= 0 for sd in spreads)
    if not (known and min(x.min(), y.min()) > 0):
        raise ValueError("log-normal error needs positive values and a finite sd_log >= 0")
    unit_ranks("x", x), unit_ranks("y", y)
    rng = np.random.default_rng(seed)
    a, b = (unit(_noisy_ranks(v, sd, draws, rng)) for v, sd in zip((x, y), spreads, strict=True))
    rho, observed = (a * b).sum(1), rank_correlation(x, y)
    kept = np.where(np.abs(rho) > TOLERANCE, np.sign(rho), 0.0) == np.sign(observed)
    return ErrorPropagation(
        negative=float((rho < -TOLERANCE).mean()),
        same_sign=float(kept.mean()) if abs(observed) > TOLERANCE else math.nan,
        same_rho=float((np.abs(rho - observed) < TOLERANCE).mean()),
    )


def _noisy_ranks(
    values: np.ndarray, sd_log: np.ndarray, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draws n"]:
    if not sd_log.any():  # ties stay ties
        return np.broadcast_to(ranks(values), (draws, len(values)))
    noisy = np.log(values) + sd_log * rng.standard_normal((draws, len(values)))
    return noisy.argsort(1).argsort(1) + 1.0
