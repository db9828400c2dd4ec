"""Are the mean differences at two places one vector? Answered over pairs of different texts.

The mean of n differences holds noise of their variance / n, which shortens every cosine and lengthens
every norm; with eight texts that is much. Products of two *different* texts hold none on average, so
every inner product here is a mean over such pairs: cosines come out as those of the true means, at any
number of texts (the ceiling that split halves show is divided out).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lib.metrics.intervals import Interval, percentiles, resample_counts

_LOST = 0.025
"""Share of resamples that may be undefined before an interval is: they would be its lower tail."""


@dataclass(frozen=True)
class Sample:
    """Differences of some texts at one place, and how often each text counts in every resample."""

    vectors: Float[np.ndarray, "texts d"]
    counts: Float[np.ndarray, "rows texts"]
    """Row 0 is all ones; the other rows are resamples of the texts."""
    texts: Int[np.ndarray, " texts"]
    """Names of texts: equal ones are never paired."""
    exact: bool = False
    """The vectors are not a sample (the difference at BOS): pairs of one with itself are fine."""


class Compared(NamedTuple):
    """Mean difference here against the one there; row 0 is the estimate. NaN = not defined."""

    cosine: Float[np.ndarray, " rows"]
    """-1..1."""
    norm_ratio: Float[np.ndarray, " rows"]
    """|here| / |there|, at least 0."""
    share: Float[np.ndarray, " rows"]
    """1 - |here - there|^2 / max(|here|, |there|)^2: what subtracting the shorter one takes off the
    longer one's squared length. 1 = one vector; 0 or below = nothing in common."""
    left: Float[np.ndarray, " rows"]
    """|there - here| / |there|: what remains once the one here is subtracted."""


def resampled(texts: int, draws: int, seed: int) -> Float[np.ndarray, "rows texts"]:
    """Counts of the estimate (ones) and of ``draws`` resamples."""
    return np.concatenate([np.ones((1, texts)), resample_counts(texts, draws, seed)])


def inner(x: Sample, y: Sample) -> Float[np.ndarray, " rows"]:
    """Inner product of two mean differences, over pairs of different texts; NaN without a pair."""
    allowed = np.ones((len(x.vectors), len(y.vectors)))
    if not (x.exact or y.exact):
        allowed = (x.texts[:, None] != y.texts[None, :]).astype(float)
    products = (x.vectors @ y.vectors.T) * allowed
    total = ((x.counts @ allowed) * y.counts).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(((x.counts @ products) * y.counts).sum(1) / total)


def compare(here: Sample, there: Sample) -> Compared:
    """Are these two one vector? NaN in resamples where one is no longer than its noise."""
    own, other, both = inner(here, here), inner(there, there), inner(here, there)
    own, other = (np.where(square > 0, square, np.nan) for square in (own, other))
    apart = np.maximum(own + other - 2 * both, 0.0)
    return Compared(
        cosine=np.clip(both / np.sqrt(own * other), -1.0, 1.0),
        norm_ratio=np.sqrt(own / other),
        share=1 - apart / np.maximum(own, other),
        left=np.sqrt(apart / other),
    )


def halves(vectors: Float[np.ndarray, "texts d"], splits: int = 200, seed: int = 0) -> float:
    """Mean cosine of the mean differences of two random halves of the texts: their reliability.

    In [-1, 1]; unrelated vectors give 0 +- 1/sqrt(d). NaN with fewer than two texts or no difference.
    """
    n = len(vectors)
    if n < 2:
        return float("nan")
    order = np.argsort(np.random.default_rng(seed).random((splits, n)), axis=1)
    first = np.zeros((splits, n))
    np.put_along_axis(first, order[:, : n // 2], 1.0, axis=1)
    second = np.zeros((splits, n))
    np.put_along_axis(second, order[:, n // 2 : 2 * (n // 2)], 1.0, axis=1)
    one, other = first @ vectors, second @ vectors
    size = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(((one * other).sum(1) / size).mean())


def interval(rows: Float[np.ndarray, " rows"]) -> Interval | None:
    """Estimate and central 95 % of the resamples; None where it is not defined.

    No ends where more than 2.5 % of the resamples are undefined, or there are none.
    """
    if not np.isfinite(rows[0]):
        return None
    lost = np.mean(~np.isfinite(rows[1:])) if len(rows) > 1 else 1.0
    ends = (None, None) if lost > _LOST else percentiles(rows[1:])
    return Interval(float(rows[0]), *ends)
