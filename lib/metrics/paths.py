"""Along a path of adapters: slopes against the small-change law, and which axis rises first.

The law, for activations and logits that change by s times something plus terms of order s^2:

* KL ~ s^2: with logits a + s u, KL = (s^2 / 2) Var_p(u) + O(s^3).
* relative displacement ~ s: it is the norm of the change.
* displacement 1 - CKA ~ s^2: CKA is h(K, L) / sqrt(h(K, K) h(L, L)), the cosine of two Gram matrices
  under a symmetric bilinear form h (HSIC, or its debiased HSIC_1). With L = K + s E + s^2 F + ... the
  terms of order s cancel, and so does F: 1 - CKA = (s^2 / 2) (h(E, E) h(K, K) - h(K, E)^2) / h(K, K)^2.
  A first-order change that is a rotation, one scale or one offset for all tokens (E a multiple of K)
  has no such term, and its power is larger.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from lib.metrics.shapes import refuse_other_length

LAWS = {"kl": 2, "relative": 1, "displacement": 2}
"""Power of s for a small s, by quantity."""
_Z = 1.959964  # of a 95 % interval, in standard deviations

Number = float | int
Side = bool | None
"""High, low, or undecided."""
Order = Literal["inner first", "outer first", "together", "inner only", "outer only", "neither",
                "undecided"]  # fmt: skip


class Slope(NamedTuple):
    """d ln y / d ln s by least squares; dimensionless."""

    value: float | None
    low: float | None
    high: float | None
    """95 %; None where a point has no interval, or one that reaches 0."""
    n: int
    """Points behind it."""
    why: str = ""
    """Why there is no slope, or no interval."""


class Departure(NamedTuple):
    """Where a path is no longer what the law makes of its smallest point."""

    at: float | None
    """First such s; None = nowhere, or not defined."""
    factor: float | None
    """Measured over predicted there."""
    tested: int
    """Points besides the smallest one that have an interval."""


class Course(NamedTuple):
    order: Order
    inner: float | None
    """First value at which the inner axis is decided high; None = at none."""
    outer: float | None


class _Logs(NamedTuple):
    s: Float[np.ndarray, " n"]  # as it is
    y: Float[np.ndarray, " n"]  # ln y
    sd: Float[np.ndarray, " n"]  # of ln y; NaN without an interval


def slope(
    s: Sequence[Number],
    y: Sequence[Number],
    low: Sequence[Number | None],
    high: Sequence[Number | None],
) -> Slope:
    """Slope of ln y on ln s over the points at which both are positive.

    The interval propagates those of the points: each ln y is normal with a standard deviation of
    ln(high / low) / 3.92, independent of the others, and the slope is a weighted sum of them. Points
    of one path are scored on the same documents, whose common part cancels in a slope, so the interval
    is meant to be too wide rather than too narrow. It holds no lack of fit: see ``departure``.

    Raises:
        ValueError: not one entry each, or one that is not finite.
    """
    logs = _logs(s, y, low, high)
    n = len(logs.s)
    if n < 2 or np.ptp(logs.s) == 0:
        return Slope(None, None, None, n, f"n = {n}: a slope needs two points above 0")
    centred = np.log(logs.s) - np.log(logs.s).mean()
    weights = centred / np.square(centred).sum()
    value = float(weights @ logs.y)
    if np.isnan(logs.sd).any():
        return Slope(value, None, None, n, "a point has no interval, or one that reaches 0")
    half = _Z * math.sqrt(float(np.square(weights * logs.sd).sum()))
    return Slope(value, value - half, value + half, n)


def departure(
    s: Sequence[Number],
    y: Sequence[Number],
    low: Sequence[Number | None],
    high: Sequence[Number | None],
    power: int,
) -> Departure:
    """First s at which y is not y_1 (s / s_1)^power within the 95 % of both points together.

    s_1 is the smallest s with a positive y; the residual of ln y is held against 1.96 times the root
    of both variances, as ``slope`` has them. A smallest point that is itself far from small gives a
    law of its own: what is said is only where the path bends away from it.

    Raises:
        ValueError: as ``slope``.
    """
    logs = _logs(s, y, low, high)
    if not len(logs.s):
        return Departure(None, None, 0)
    residual = (logs.y - logs.y[0]) - power * np.log(logs.s / logs.s[0])
    allowed = _Z * np.sqrt(np.square(logs.sd) + np.square(logs.sd[0]))
    tested = int(np.isfinite(allowed[1:]).sum())
    with np.errstate(invalid="ignore"):
        off = np.flatnonzero(np.abs(residual[1:]) > allowed[1:]) + 1
    if not len(off):
        return Departure(None, None, tested)
    return Departure(float(logs.s[off[0]]), float(np.exp(residual[off[0]])), tested)


def course(values: Sequence[Number], sides: Sequence[tuple[Side, Side]]) -> Course:
    """Which axis is high first along a path whose values rise.

    "inner first" needs a point from there on at which the inner is high and the outer decided low, or
    the order could be one of undecided points; "outer first" likewise. "inner only": the outer is
    never high. "neither": both are decided low at the last value.

    Args:
        sides: (inner high, outer high) at each value; None = undecided.

    Raises:
        ValueError: not one pair for each value, or a value that is not finite.
    """
    refuse_other_length("the course of a path", len(values), values=values)
    _refuse_not_finite("the course of a path", values=values)
    if len(sides) != len(values):
        raise ValueError(f"{len(values)} values have {len(sides)} pairs of sides; give one each")
    inner, outer = (
        next((v for v, pair in zip(values, sides, strict=True) if pair[at]), None) for at in (0, 1)
    )
    before = [
        pair for v, pair in zip(values, sides, strict=True)
        if inner is None or outer is None or v < max(inner, outer)
    ]  # fmt: skip
    return Course(_order(inner, outer, before), inner, outer)


def crossing(s: Sequence[Number], y: Sequence[Number], target: Number) -> Number | None:
    """First s at which y takes a value, linear between points; None where it never does.

    Raises:
        ValueError: not one entry each, or one that is not finite.
    """
    refuse_other_length("a crossing", len(s), s=s, y=y)
    _refuse_not_finite("a crossing", s=s, y=y, target=[target])
    pairs = sorted(zip(s, y, strict=True))
    for (s0, y0), (s1, y1) in pairwise(pairs):
        if min(y0, y1) <= target <= max(y0, y1):
            return s0 if y0 == y1 else s0 + (target - y0) / (y1 - y0) * (s1 - s0)
    return None


def _order(inner: Number | None, outer: Number | None, sides: Sequence[tuple[Side, Side]]) -> Order:
    """``sides``: up to where both are high, which is not part of them."""
    if inner is None and outer is None:
        return "neither" if sides and sides[-1] == (False, False) else "undecided"
    if inner == outer:
        return "together"
    if inner is not None and (outer is None or inner < outer):
        waited = (True, False) in sides
        return ("inner only" if outer is None else "inner first") if waited else "undecided"
    waited = (False, True) in sides
    return ("outer only" if inner is None else "outer first") if waited else "undecided"


def _logs(
    s: Sequence[Number],
    y: Sequence[Number],
    low: Sequence[Number | None],
    high: Sequence[Number | None],
) -> _Logs:
    """Positive points in the order of s."""
    refuse_other_length("a slope", len(s), s=s, y=y, low=low, high=high)
    _refuse_not_finite("a slope", s=s, y=y, low=low, high=high)
    columns = [
        np.array([np.nan if v is None else v for v in c], dtype=float) for c in (s, y, low, high)
    ]
    rows = np.stack(columns, axis=1)
    rows = rows[(rows[:, 0] > 0) & (rows[:, 1] > 0)]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = np.log(rows[:, 3] / rows[:, 2]) / (2 * _Z)
    sd = np.where((rows[:, 2] > 0) & np.isfinite(wide), wide, np.nan)
    return _Logs(rows[:, 0], np.log(rows[:, 1]), sd)


def _refuse_not_finite(what: str, **values: Sequence[Number | None]) -> None:
    """None = not measured, which is no value at all."""
    for name, given in values.items():
        for value in given:
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{what}: {name} holds {value}; leave out what was not measured")
