"""Correlations over latents with bootstrap intervals over latents and over documents. No torch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from lib.ablation.meaning import Correlation, LatentShift
from lib.metrics.intervals import percentiles, resample_counts

DRAWS = 1000
MIN_LATENTS = 3
MIN_DOCUMENTS = 3
"""Two documents have three resamples, one of which is the estimate itself: no interval."""

Table = Float[np.ndarray, "latents documents"]


def pearson_log_kl(shifts: Sequence[LatentShift], seed: int) -> Correlation:
    """Pearson of log KL over the latents whose ablation shifts both models."""
    x, y = (_table(shifts, side, "kl") for side in ("base", "tuned"))
    return _correlation(x, y, None, seed, "log")


def spearman_kl(shifts: Sequence[LatentShift], seed: int) -> Correlation:
    """Spearman of KL over all latents given."""
    x, y = (_table(shifts, side, "kl") for side in ("base", "tuned"))
    return _correlation(x, y, None, seed, "rank")


def pearson_log_potency(shifts: Sequence[LatentShift], seed: int) -> Correlation:
    """Pearson of log (KL / |edit|^2) over the latents whose ablation shifts both models."""
    x, y = (_table(shifts, side, "kl") for side in ("base", "tuned"))
    edits = tuple(_table(shifts, side, "edit") for side in ("base", "tuned"))
    return _correlation(x, y, (edits[0], edits[1]), seed, "log")


def _table(shifts: Sequence[LatentShift], side: str, what: str) -> Table:
    rows = [getattr(getattr(shift, side), what) for shift in shifts]
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else 0)


def _correlation(
    x: Table, y: Table, per: tuple[Table, Table] | None, seed: int, how: str
) -> Correlation:
    if how == "log" and len(x):
        kept = (x.sum(1) > 0) & (y.sum(1) > 0)
        x, y = x[kept], y[kept]
        per = None if per is None else (per[0][kept], per[1][kept])
    n = len(x)
    if n < MIN_LATENTS:
        why = f"only {n} latents shift the predictions; {MIN_LATENTS} are needed"
        return Correlation(None, n, None, None, None, why)
    documents = x.shape[1]
    counts = np.concatenate([np.ones((1, documents)), resample_counts(documents, DRAWS, seed)])
    totals = [counts @ part.T for part in (x, y, *(per or ()))]  # rows: resamples of documents
    a, b = (_scaled(t, totals[2 + i] if per else None, how) for i, t in enumerate(totals[:2]))
    value = float(correlate(a[:1], b[:1], how)[0])
    if not np.isfinite(value):
        return Correlation(None, n, None, None, None, "one model is shifted alike by every latent")
    again = np.random.default_rng([seed, 1]).integers(n, size=(DRAWS, n))
    latents = _ends(correlate(a[0][again], b[0][again], how))
    if documents < MIN_DOCUMENTS:
        many = "1 document" if documents == 1 else f"{documents} documents"
        why = f"{many}, and an interval needs at least {MIN_DOCUMENTS}"
        return Correlation(value, n, latents, None, None, why)
    rows = np.arange(1, DRAWS + 1)[:, None]
    return Correlation(
        value,
        n,
        latents,
        _ends(correlate(a[1:], b[1:], how)),
        _ends(correlate(a[rows, again], b[rows, again], how)),
    )


def _scaled(
    totals: Float[np.ndarray, "draws latents"],
    per: Float[np.ndarray, "draws latents"] | None,
    how: str,
) -> Float[np.ndarray, "draws latents"]:
    """Logarithms; a latent without a shift in a resample is NaN there and left out of it."""
    if how != "log":
        return totals
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(totals if per is None else totals / per)
    return np.where(np.isfinite(logs), logs, np.nan)


def correlate(
    a: Float[np.ndarray, "draws n"], b: Float[np.ndarray, "draws n"], how: str = "log"
) -> Float[np.ndarray, " draws"]:
    """Row by row, over the latents that are known in both; NaN where one is constant or under 3.

    Args:
        how: rank = Spearman, else Pearson.
    """
    known = np.isfinite(a) & np.isfinite(b)
    if how == "rank":
        a, b = rankdata(a, axis=1), rankdata(b, axis=1)
    a, b = (_centred(v, known) for v in (a, b))
    norms = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    usable = (known.sum(1) >= MIN_LATENTS) & (norms > 1e-12)
    return np.where(usable, (a * b).sum(1) / np.where(usable, norms, 1), np.nan).clip(-1, 1)


def _centred(
    values: Float[np.ndarray, "draws n"], known: np.ndarray
) -> Float[np.ndarray, "draws n"]:
    filled = np.where(known, values, 0.0)
    mean = filled.sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    return np.where(known, filled - mean, 0.0)


def _ends(samples: Float[np.ndarray, " draws"]) -> tuple[float, float] | None:
    low, high = percentiles(samples)
    return None if low is None or high is None else (low, high)
