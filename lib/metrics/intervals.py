"""Bootstrap intervals. Documents are resampled, never tokens: tokens of one document are not
independent, and an interval over tokens would be far too narrow.

Every estimate here is a function of totals over tokens, so one document enters as a row of sums and
a resample as a vector of document counts; a draw then costs a small matrix product.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import stdtrit

from lib.metrics.shapes import refuse_level, refuse_shape

DRAWS = 2000


class Interval(NamedTuple):
    """An estimate with its percentile bootstrap interval over documents, in the estimate's unit."""

    value: float
    low: float | None
    """None when there are fewer than two documents: one document says nothing about others."""
    high: float | None


def jackknife_interval(
    values: Float[np.ndarray, " k"],
    without: Float[np.ndarray, "blocks k"],
    level: float = 0.95,
) -> Float[np.ndarray, "k 2"]:
    """Ends of the delete-a-group jackknife interval of each value, with Student's t.

    Args:
        values: estimates from all documents.
        without: the same estimates without each block of documents; a single block gives NaN.

    Raises:
        ValueError: a level outside 0..1, or estimates that do not pair up.

    Source: Kott 2001, Journal of Official Statistics 17 (delete-a-group jackknife).
    """
    refuse_level(level)
    refuse_shape("the interval", 1, values=values)
    refuse_shape("the interval", 2, without=without)
    if without.shape[1] != len(values):
        raise ValueError(f"{len(values)} values have {without.shape[1]} estimates in each block")
    blocks = len(without)
    spread = (blocks - 1) / blocks * np.square(without - without.mean(0)).sum(0)
    half = stdtrit(blocks - 1, (1 + level) / 2) * np.sqrt(spread)
    return np.stack([values - half, values + half], axis=1)


def sums_by_group(
    values: Float[np.ndarray, "tokens columns"],
    groups: Shaped[np.ndarray, " tokens"],
    documents: Shaped[np.ndarray, " documents"] | None = None,
) -> Float[np.ndarray, "documents columns"]:
    """Totals of every column within each group, groups in sorted order.

    Args:
        documents: all groups, sorted, when ``groups`` may lack some; those get totals of 0.

    Raises:
        ValueError: not one group per token, or a group that ``documents`` lacks.
    """
    refuse_shape("a total of each document", 2, values=values)
    refuse_shape("a total of each document", 1, groups=groups)
    if len(values) != len(groups):
        raise ValueError(f"{len(values)} tokens have {len(groups)} documents; give one for each")
    found, inverse = np.unique(groups, return_inverse=True)
    if documents is not None:
        if not np.isin(found, documents).all():
            raise ValueError("a token belongs to a document that is not among those announced")
        inverse = np.searchsorted(documents, found)[inverse]
    found = found if documents is None else documents
    columns = [
        np.bincount(inverse, weights=column, minlength=len(found))
        for column in np.asarray(values, dtype=np.float64).T
    ]
    return np.stack(columns, axis=1)


def resample_counts(
    documents: int, draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, "draws documents"]:
    """How often each document is drawn, for every resample of ``documents`` with replacement.

    Raises:
        ValueError: there is no document.
    """
    if documents < 1:
        raise ValueError(f"a resample needs documents to draw from, got {documents}")
    rng = np.random.default_rng(seed)
    return rng.multinomial(documents, np.full(documents, 1 / documents), size=draws).astype(float)


def percentiles(
    samples: Float[np.ndarray, " draws"], level: float = 0.95
) -> tuple[float | None, float | None]:
    """The central ``level`` of the finite samples; (None, None) when none is finite.

    Raises:
        ValueError: a level outside 0..1.
    """
    refuse_level(level)
    finite = samples[np.isfinite(samples)]
    if not len(finite):
        return None, None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap(
    statistic: Callable[[Float[np.ndarray, "draws columns"]], Float[np.ndarray, " draws"]],
    sums: Float[np.ndarray, "documents columns"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of any vectorised function of totals.

    Args:
        statistic: maps rows of totals to one value per row.
        sums: totals of each document, one row per document.

    Raises:
        ValueError: there is no document, a total that is not finite, or a level outside 0..1.
    """
    refuse_level(level)
    refuse_shape("the interval", 2, sums=sums)
    sums = np.asarray(sums, dtype=np.float64)
    if not len(sums):
        raise ValueError(
            "bootstrap: no documents; check that the text is not empty after filtering"
        )
    if not np.isfinite(sums).all():
        document = int(np.flatnonzero(~np.isfinite(sums).all(1))[0])
        raise ValueError(
            f"the interval is not defined because the totals of document {document} are not finite "
            f"({sums[document].tolist()}); leave out what was not measured"
        )
    value = float(statistic(sums.sum(0, keepdims=True))[0])
    if len(sums) < 2:
        return Interval(value, None, None)
    with np.errstate(divide="ignore", invalid="ignore"):  # draws without a denominator are dropped
        samples = statistic(resample_counts(len(sums), draws, seed) @ sums)
    return Interval(value, *percentiles(samples, level))


def bootstrap_ratio(
    numerators: Collection[Any],
    denominators: Collection[Any],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Ratio of totals sum(numerators) / sum(denominators), one entry of each per document.

    Raises:
        ValueError: no document, unequal lengths, values that are not finite, or denominators that
            sum to zero.
    """
    top, bottom = (np.asarray(v, dtype=np.float64) for v in (numerators, denominators))
    if top.shape != bottom.shape or top.ndim != 1:
        raise ValueError(f"need one entry per document in both; got {top.shape} and {bottom.shape}")
    if len(bottom) and bottom.sum() == 0:
        raise ValueError(
            f"the denominators of {len(bottom)} documents sum to zero: no ratio exists"
        )
    sums = np.stack([top, bottom], axis=1)
    return bootstrap(lambda t: t[:, 0] / t[:, 1], sums, draws=draws, seed=seed, level=level)


def bootstrap_mean(
    sums: Collection[Any],
    counts: Collection[Any],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Token-weighted mean over documents, from each document's sum and its number of tokens.

    In the unit of the summed values. Documents are resampled with replacement and keep their
    lengths, so the uncertain token count is part of the interval. Fewer than two documents: low and
    high are None.

    Raises:
        ValueError: no document, unequal lengths, a negative count, or no token at all.
    """
    if any(not count >= 0 for count in counts):
        raise ValueError("numbers of tokens must be 0 or more; check the documents' counts")
    return bootstrap_ratio(sums, counts, draws, seed, level)
