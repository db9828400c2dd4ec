"""Shares with an interval: of a count among many, and of a profile's total in its late part."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_Z = 1.959964


class Share(NamedTuple):
    """In [0, 1], with a 95 % interval."""

    value: float
    low: float
    high: float


def wilson(count: int, n: int) -> Share:
    """``count`` of ``n`` with Wilson's score interval, which is sensible at 0 of n as well.

    Treats the n as independent; latents of one dictionary are not quite, so it is a lower limit of
    the uncertainty.

    Raises:
        ValueError: n is not positive, or the count is outside 0..n.

    Source: Wilson 1927, Journal of the American Statistical Association 22.
    """
    whole = math.isfinite(count) and math.isfinite(n) and count == int(count) and n == int(n)
    if not whole or not 0 <= count <= n or n < 1:
        raise ValueError(f"a share needs whole 0 <= count <= n and n >= 1, got {count} of {n}")
    p, spread = count / n, _Z**2 / n
    centre = p + spread / 2
    half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    low, high = ((centre + sign * half) / (1 + spread) for sign in (-1, 1))
    return Share(p, min(max(low, 0.0), p), max(min(high, 1.0), p))


def excess(share: Share, null: Share) -> Share:
    """How far a share lies above its null, with Newcombe's hybrid score interval; in [-1, 1].

    Args:
        share: of the experiment, as ``wilson`` gives it.
        null: of its control; both counts are taken as independent.

    Source: Newcombe 1998, Statistics in Medicine 17, method 10.
    """
    value = share.value - null.value
    below = math.hypot(share.value - share.low, null.high - null.value)
    above = math.hypot(share.high - share.value, null.value - null.low)
    return Share(value, value - below, value + above)


def late_share(
    displacement: Float[np.ndarray, "*draws layers"], late_start: int
) -> Float[np.ndarray, "*draws"]:
    """Share of the displacement summed over all layers that lies in layer ``late_start`` and after.

    In [0, 1]; NaN, not defined, where nothing is displaced or a layer's displacement is NaN or
    infinite. Negative displacements, which the debiased estimator gives by chance, count as 0. For
    an interval pass one row per resample of documents: layers share their documents, so their errors
    are not independent.

    Raises:
        ValueError: ``late_start`` is not inside the layers.
    """
    layers = displacement.shape[-1]
    if not 0 < late_start < layers:
        raise ValueError(f"the late part starts at layer {late_start} of {layers}; need 1..L-1")
    known = np.isfinite(displacement).all(-1, keepdims=True)
    moved = np.where(known, np.maximum(displacement, 0.0), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(moved[..., late_start:].sum(-1) / moved.sum(-1))


def late_envelope(
    low: Float[np.ndarray, " layers"], high: Float[np.ndarray, " layers"], late_start: int
) -> tuple[float, float]:
    """The widest late share that the layers' own intervals allow, whatever their dependence.

    Late layers at one end of their intervals, all others at the other end. Wider than a bootstrap
    over documents; what remains when only the layers' intervals are stored.

    Raises:
        ValueError: as ``late_share``; or bounds that do not pair up.
    """
    if low.shape != high.shape or (low > high).any():
        raise ValueError("each layer needs one interval whose low end is not above its high end")
    late = np.arange(len(low)) >= late_start
    least, most = np.where(late, low, high), np.where(late, high, low)
    return float(late_share(least, late_start)), float(late_share(most, late_start))
