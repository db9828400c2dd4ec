"""How far repeats and graders agree: Krippendorff's alpha."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

Level = Literal["nominal", "ordinal"]


def krippendorff_alpha(
    ratings: Sequence[Sequence[int | None]], values: Sequence[int], level: Level
) -> float | None:
    """1 = always the same value, 0 = as chance would have it, negative = worse than chance.

    None where it is not defined: fewer than two paired ratings, or one and the same value throughout,
    which leaves nothing to disagree about.

    Args:
        ratings: one row per unit, one rating per rater; None = not rated. A unit with one rating
            pairs with nothing and does not count.
        values: every possible value, in order.
        level: ``nominal``: values are equal or not; ``ordinal``: how many ratings lie between.

    Raises:
        ValueError: a rating that is none of ``values``.

    Source: Krippendorff, Content Analysis, 2nd ed. 2004, chapter 11 (coincidence matrix).
    """
    place = {value: i for i, value in enumerate(values)}
    coincidences = np.zeros((len(values), len(values)))
    for unit in ratings:
        given = [rating for rating in unit if rating is not None]
        if unknown := [rating for rating in given if rating not in place]:
            raise ValueError(f"rating {unknown[0]} is none of {list(values)}")
        counts = np.bincount([place[r] for r in given], minlength=len(values)).astype(float)
        if len(given) > 1:
            coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(given) - 1)
    totals = coincidences.sum(0)
    n = totals.sum()
    distance = _distances(totals, level)
    expected = float((np.outer(totals, totals) * distance).sum())
    if n < 2 or expected == 0:
        return None
    return 1 - (n - 1) * float((coincidences * distance).sum()) / expected


def _distances(
    totals: Float[np.ndarray, " values"], level: Level
) -> Float[np.ndarray, "values values"]:
    """Squared distance of each two values."""
    n = len(totals)
    if level == "nominal":
        return 1 - np.eye(n)
    running = np.cumsum(totals)
    between = np.abs(running[:, None] - running[None, :])
    # Ratings from one value to the other, half of those at each end: symmetric in the two.
    low = np.minimum.outer(np.arange(n), np.arange(n))
    high = np.maximum.outer(np.arange(n), np.arange(n))
    return np.square(between + totals[low] - (totals[low] + totals[high]) / 2) * (1 - np.eye(n))
