"""Ranks and what every rank statistic starts from: checked pairs, strata, unit vectors."""

from collections.abc import Collection
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lib.metrics.shapes import refuse_shape


def ranks(values: Collection[Any]) -> Float[np.ndarray, " n"]:
    """Ranks from 1, equal values sharing their average rank.

    Raises:
        ValueError: a value is NaN, which has no rank, or the values are no list of numbers.
    """
    numbers = np.asarray(values, dtype=np.float64)
    refuse_shape("a rank", 1, values=numbers)
    if np.isnan(numbers).any():
        raise ValueError("ranks are not defined because a value is NaN; leave it out")
    _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def pair(
    x: Collection[Any], y: Collection[Any]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Both variables as float64 arrays.

    Raises:
        ValueError: unequal lengths, fewer than 3 points, a value that is not finite, or no list of
            numbers.
    """
    x, y = (np.asarray(v, dtype=np.float64) for v in (x, y))
    refuse_shape("Spearman's rho", 1, x=x, y=y)
    if len(x) != len(y):
        raise ValueError(f"x and y must pair up; got {len(x)} and {len(y)} values")
    if len(x) < 3:
        raise ValueError(
            f"Spearman's rho is not defined because there are {len(x)} points; it needs at least 3"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite; leave out the experiments that were not measured")
    return x, y


def members(strata: Collection[Any], n: int) -> dict[object, Int[np.ndarray, " m"]]:
    """Positions of the points of each stratum, strata in order of appearance.

    Raises:
        ValueError: not one stratum per point, or a point without one.
    """
    names = np.asarray(strata).ravel().tolist()
    unnamed = sum(name is None or name != name for name in names)
    if unnamed:
        raise ValueError(f"{unnamed} points have no stratum (None or NaN); leave them out")
    if len(names) != n:
        raise ValueError(f"need one stratum per point; got {len(names)} for {n} points")
    return {
        name: np.array([i for i, other in enumerate(names) if other == name])
        for name in dict.fromkeys(names)
    }


def unit(rows: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, "*rows n"]:
    """Rows centred and scaled to length 1; a constant row becomes NaN."""
    centred = rows - rows.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return centred / np.linalg.norm(centred, axis=-1, keepdims=True)


def unit_ranks(name: str, values: np.ndarray, where: str = "") -> Float[np.ndarray, " n"]:
    """Centred ranks of length 1: the dot product of two is Spearman's rho.

    Raises:
        ValueError: all values are equal; the message names the variable and ``where``.
    """
    if np.ptp(values) == 0:
        raise ValueError(f"Spearman's rho is not defined because {name} is constant{where}")
    return unit(ranks(values))


def rank_correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Spearman's rho, NaN where a variable is constant."""
    return float(unit(ranks(x)) @ unit(ranks(y)))
