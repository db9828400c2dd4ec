"""Two-level bootstrap of shares reversed: documents, and control draws within a control.

Row 0 of every array here is the estimate itself, the further rows are resamples of the documents,
the same resample for every run, so that differences and ratios of runs are paired.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lib.ablation.outcome import Condition
from lib.ablation.request import AblationResult
from lib.metrics.intervals import Interval, percentiles, resample_counts


@dataclass(frozen=True)
class Shares:
    """The documents of one ablation and their resamples."""

    counts: Float[np.ndarray, "rows documents"]
    """How often each document counts; row 0 is all ones."""
    denominator: Float[np.ndarray, " rows"]
    """Sum of KL(tuned || base), nats."""
    seed: int

    @property
    def documents(self) -> int:
        return self.counts.shape[1]

    @property
    def tuned(self) -> float:
        """Sum of KL(tuned || base) over all documents, nats."""
        return float(self.denominator[0])

    def of(self, run: Condition) -> Float[np.ndarray, " rows"]:
        """Share of KL that a run reverses; NaN in a resample without any difference to undo."""
        left = self.counts @ kl_sums(run)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.denominator > 0, 1 - left / self.denominator, np.nan)

    def mean_over_draws(
        self, table: Float[np.ndarray, "draws rows"], stream: str
    ) -> Float[np.ndarray, " rows"]:
        """Mean over a control's draws, which are drawn anew in every resample of documents.

        ``stream`` names the control, so that each has random numbers of its own.
        """
        n, rows = table.shape
        rng = np.random.default_rng([self.seed, zlib.crc32(stream.encode())])
        again = rng.multinomial(n, np.full(n, 1 / n), size=rows) / n
        again[0] = 1 / n
        return (table.T * again).sum(1)

    def interval(self, rows: Float[np.ndarray, " rows"]) -> Interval:
        """The estimate with the central 95 % of its resamples; no ends for a single document."""
        if self.documents < 2:
            return Interval(float(rows[0]), None, None)
        return Interval(float(rows[0]), *percentiles(rows[1:]))


def shares_of(result: AblationResult, resamples: int, seed: int) -> Shares:
    """Resampled documents of a result, after checking that all runs scored the same tokens.

    Raises:
        ValueError: see ``judge``.
    """
    scored = [d.tokens for d in result.tuned.documents]
    if not scored:
        raise ValueError("the ablation has no document: run it on at least one text")
    draws = [(f"{d.control} draw {d.draw}", d.condition) for d in result.controls]
    for name, run in [("treated", result.treated), ("ceiling", result.ceiling), *draws]:
        if [d.tokens for d in run.documents] != scored:
            raise ValueError(f"{name} and tuned did not score the same tokens; run it again")
    ones = np.ones((1, len(scored)))
    counts = np.concatenate([ones, resample_counts(len(scored), resamples, seed)])
    return Shares(counts, counts @ kl_sums(result.tuned), seed)


def kl_sums(run: Condition) -> Float[np.ndarray, " documents"]:
    """Sum of KL(run || base) over each document's scored tokens, nats.

    Raises:
        ValueError: one is not finite.
    """
    sums = np.array([d.kl_sum for d in run.documents], dtype=np.float64)
    if not np.isfinite(sums).all():
        at = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise ValueError(
            f"KL of {run.name} on document {at + 1} is {sums[at]}: the edit drove the model out of "
            "range; use a smaller strength"
        )
    return sums
