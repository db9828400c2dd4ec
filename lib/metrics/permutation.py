"""Null distributions of rank statistics by permutation within strata, exact wherever possible.

A statistic is a sum over strata of dot products <a_s, permuted b_s>, so its null distribution is
the convolution of the strata's distributions: exact well beyond the number of joint permutations
that could be listed.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

MAX_ENUMERATED = 9
"""Largest stratum whose permutations are listed one by one (9! = 362,880)."""
MAX_SUPPORT = 1_000_000
"""Past this many combinations of stratum values the p value is a seeded Monte Carlo estimate."""
DRAWS = 100_000
TOLERANCE = 1e-9

Part = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]
"""a and b of one stratum, equally long; strata may differ in length."""


class RankTest(NamedTuple):
    rho: float
    """In [-1, 1]."""
    p: float
    """Two-sided: share of permutations with |rho| at least as large, the observed one included."""
    n: int
    p_min: float
    """The smallest p that any outcome could have reached with these points and ties."""
    exact: bool
    """False: p is a Monte Carlo estimate with ``DRAWS`` seeded permutations."""


def permutation_test(parts: list[Part], n: int, seed: int) -> RankTest:
    rho = round(float(sum(a @ b for a, b in parts)), 12)  # so that perfect order is exactly 1
    exact = null_distribution(parts)
    if exact is None:
        null = _sampled(parts, seed)
        extreme = np.abs(null) >= abs(rho) - TOLERANCE
        p = (1 + int(extreme.sum())) / (1 + len(null))
        reach = 2 / math.prod(math.factorial(len(a)) for a, _ in parts)
        return RankTest(rho, p, n, max(reach, 1 / (1 + len(null))), False)
    values, weights = exact

    def share(extreme: Bool[np.ndarray, " support"]) -> float:
        return min(1.0, float(weights[extreme].sum()))

    p = share(np.abs(values) >= abs(rho) - TOLERANCE)
    return RankTest(rho, p, n, share(np.abs(values) >= np.abs(values).max() - TOLERANCE), True)


def null_distribution(
    parts: list[Part],
) -> tuple[Float[np.ndarray, " support"], Float[np.ndarray, " support"]] | None:
    """Exact null distribution as values and probabilities; None when it is too large to list."""
    values, weights = np.zeros(1), np.ones(1)
    for a, b in parts:
        if len(a) > MAX_ENUMERATED:
            return None
        own, own_weights = _distinct(_permuted(a, b), np.full(math.factorial(len(a)), 1.0))
        if len(values) * len(own) > MAX_SUPPORT:
            return None
        sums = np.add.outer(values, own).ravel()
        values, weights = _distinct(
            sums, np.multiply.outer(weights, own_weights / own_weights.sum()).ravel()
        )
    return values, weights


def _permuted(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " permutations"]:
    """<a, permuted b> for every permutation."""
    flat = itertools.chain.from_iterable(itertools.permutations(range(len(a))))
    orders = np.fromiter(flat, dtype=np.int8).reshape(-1, len(a))
    return b[orders] @ a


def _distinct(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge values that differ by rounding only, adding their weights."""
    merged, inverse = np.unique(values.round(10), return_inverse=True)
    return merged, np.bincount(inverse, weights=weights)


def _sampled(parts: list[Part], seed: int) -> Float[np.ndarray, " draws"]:
    rng = np.random.default_rng(seed)
    total = np.zeros(DRAWS)
    for a, b in parts:
        total += rng.permuted(np.broadcast_to(b, (DRAWS, len(b))), axis=1) @ a
    return total
