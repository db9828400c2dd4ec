"""How much of held-out deltas a description explains, with intervals over documents."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lib.metrics.inputs import refuse_unusable
from lib.metrics.intervals import DRAWS, Interval, bootstrap, sums_by_group


class Fit(NamedTuple):
    """One description of the deltas."""

    fve: Interval
    """1 - squared error / variance around the deltas' own mean; at most 1, 0 for that mean, negative
    for worse."""
    energy: Interval
    """1 - squared error / sum of squares; 0 for saying nothing. Holds the constant offset, which FVE
    leaves out: the mean alone scores the offset's share here."""
    active: float
    """Directions used per token, mean."""
    rank: int | None
    """Dimensions of what all its reconstructions span; None where that was not measured."""
    sums: Float[np.ndarray, "documents 3"]
    """Squared error, squared deviation from the mean, sum of squares of each document."""


def score(
    x: Float[Tensor, "tokens d"],
    predicted: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    *,
    active: float,
    rank: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Fit:
    """Fit of ``predicted`` to the deltas ``x``; ``groups`` = document of each token.

    Variance is resampled with the errors, around the mean of all tokens. One seed gives one set of
    resamples, so fits of the same deltas are paired.

    Raises:
        ValueError: no tokens, deltas that are constant over tokens (not defined), shapes that differ,
            values that are not finite.
    """
    what = "the explained variance of deltas"
    refuse_unusable(what, same_width=True, axes=2, groups=groups, delta=x, predicted=predicted)
    if not len(x):
        raise ValueError(f"{what} is not defined without tokens; check that the text is not empty")
    wide = x.double()
    parts = (wide - predicted.double(), wide - wide.mean(0), wide)
    columns = torch.stack([part.square().sum(1) for part in parts], dim=1)
    if not float(columns[:, 1].sum()) > 1e-24 * float(columns[:, 2].sum()):
        raise ValueError(
            f"{what} is not defined because they are constant over their {len(x)} tokens; is every B "
            "of the adapter 0?"
        )
    sums = sums_by_group(columns.cpu().numpy(), groups.cpu().numpy())
    fve = bootstrap(lambda t: 1 - t[:, 0] / t[:, 1], sums, draws=draws, seed=seed)
    energy = bootstrap(lambda t: 1 - t[:, 0] / t[:, 2], sums, draws=draws, seed=seed)
    return Fit(fve, energy, active, rank, sums)


def gain(one: Fit, other: Fit, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """FVE of ``one`` minus that of ``other`` on the same deltas, resampled together.

    Far narrower than two intervals side by side, since both err on the same documents.

    Raises:
        ValueError: fits of other deltas.
    """
    if not np.array_equal(one.sums[:, 1:], other.sums[:, 1:]):
        raise ValueError("two fits of different deltas have no difference; score both on one text")
    sums = np.column_stack([one.sums[:, 0], other.sums[:, 0], one.sums[:, 1]])
    return bootstrap(lambda t: (t[:, 1] - t[:, 0]) / t[:, 2], sums, draws=draws, seed=seed)
