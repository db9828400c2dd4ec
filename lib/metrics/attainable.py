"""What a number of points can support before anything is measured: the best p, the rho it takes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lib.metrics.permutation import MAX_ENUMERATED, null_distribution
from lib.metrics.ranks import unit
from lib.metrics.shapes import refuse_level


class Attainable(NamedTuple):
    """Limits of an exact two-sided rank test without ties."""

    n: int
    p_min: float
    """Of a perfect order inside every stratum."""
    needed: float | None
    """Smallest |mean rho| with p below the level; None where no order gets there."""


def attainable(sizes: Sequence[int], level: float = 0.05) -> Attainable | None:
    """Limits of the mean rank correlation within strata of these sizes, permuted within them.

    One stratum is plain Spearman. None past ``MAX_ENUMERATED`` points in a stratum, where nothing
    is enumerated and nothing is out of reach either.

    Args:
        sizes: points of each stratum.
        level: of significance.

    Raises:
        ValueError: no stratum, or a stratum with fewer than 3 points, which has no rank test; a
            level outside 0..1.
    """
    refuse_level(level)
    if not sizes or min(sizes) < 3:
        raise ValueError(f"a rank test needs strata of at least 3 points, got {list(sizes)}")
    if max(sizes) > MAX_ENUMERATED:
        return None
    parts = [(unit(np.arange(float(n))) / len(sizes), unit(np.arange(float(n)))) for n in sizes]
    found = null_distribution(parts)
    if found is None:
        return None
    sizes_of_rho, of_size = np.unique(np.abs(found[0]).round(9), return_inverse=True)
    weights = np.bincount(of_size, weights=found[1])
    p = np.cumsum(weights[::-1])[::-1]  # of each size: everything at least as large
    p_min = 2 / math.prod(math.factorial(n) for n in sizes)
    needed = sizes_of_rho[p < level]
    return Attainable(sum(sizes), p_min, float(needed[0]) if len(needed) else None)
