"""Strongest directions of single differences: is there one, and is it their mean?"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lib.metrics.intervals import Interval, jackknife_interval

DIRECTIONS = 3
BLOCKS = 20


class Spectrum(NamedTuple):
    """Of the differences at one position, not centred; NaN where all are 0.

    Intervals come from the jackknife: texts that a bootstrap draws twice make directions of their own
    and lift every share.
    """

    directions: Float[np.ndarray, "directions d"]
    """Unit right singular vectors by falling share, each pointing the mean's way."""
    shares: tuple[Interval, ...]
    """Of the squared length of all differences, 0..1. One vector for all texts: 1, 0, 0."""
    cosine: Interval
    """Between the first direction and the mean difference, 0..1 (a direction has no sign)."""


def spectrum(vectors: Float[np.ndarray, "texts d"]) -> Spectrum:
    """As many directions as there are texts or coordinates, at most three; no text = none."""
    n = len(vectors)
    k = min(DIRECTIONS, *vectors.shape)
    if not k:
        nothing = Interval(float("nan"), None, None)
        return Spectrum(np.zeros((0, vectors.shape[1])), (), nothing)
    products = vectors @ vectors.T
    values = _measures(products, k)
    ends = np.full((len(values), 2), np.nan)
    if n > BLOCKS:
        block = np.arange(n) % BLOCKS
        left = [np.flatnonzero(block != b) for b in range(BLOCKS)]
        without = np.stack([_measures(products[np.ix_(rows, rows)], k) for rows in left])
        ends = np.clip(jackknife_interval(values, without), 0.0, 1.0)
    found = [
        Interval(float(value), *(float(e) if np.isfinite(e) else None for e in both))
        for value, both in zip(values, ends, strict=True)
    ]
    axes = np.linalg.svd(vectors, full_matrices=False)[2][:k]
    signs = np.where(axes @ vectors.mean(0) < 0, -1.0, 1.0)
    return Spectrum(axes * signs[:, None], tuple(found[:k]), found[k])


def _measures(products: Float[np.ndarray, "texts texts"], k: int) -> Float[np.ndarray, " measures"]:
    """Shares of the k strongest directions, and the first one's cosine with the mean."""
    values, axes = np.linalg.eigh(products)
    length = np.sqrt(max(values[-1], 0.0) * products.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.clip(values[::-1][:k], 0.0, None) / np.trace(products)
        cosine = values[-1] * abs(axes[:, -1].sum()) / length
    return np.minimum(np.append(shares, cosine), 1.0)
