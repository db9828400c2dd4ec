"""How dense a dictionary's features are, by both definitions in use, and how many it really uses."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from lib.metrics.intervals import DRAWS, Interval, bootstrap, jackknife_interval
from lib.sparse import Dictionary

OFTEN = 0.001
"""Share of tokens on which a feature must fire to count."""


Statistic = Callable[[Float[np.ndarray, "rows columns"]], Float[np.ndarray, " rows"]]


class Firings(NamedTuple):
    """Sums over the tokens of each document."""

    tokens: Int[np.ndarray, " documents"]
    fired: Int[np.ndarray, "documents latents"]
    """Tokens on which each latent fires."""
    energy: Float[np.ndarray, "documents latents"]
    """Sum of the squared length that each latent adds: a^2 |decoder row|^2."""


class Density(NamedTuple):
    """Shares in 0..1, with 95 % intervals over documents."""

    per_token: Interval
    """Mean share of latents that fire on a token, L0 / latents. For a BatchTopK dictionary this is
    about k / latents by construction, whatever it was trained on: it measures only where L0 is free
    (L1, JumpReLU), or on text that the thresholds were not set on."""
    often: Interval
    """Share of latents that fire on more than ``OFTEN`` of the tokens. A resample holds fewer different
    documents, and so fewer latents: this and the next have delete-one-document jackknife intervals
    instead of the bootstrap, which would leave the value itself out."""
    effective: Interval
    """(sum of energies)^2 / sum of squared energies, over latents: as many equally strong latents would
    spread the energy as widely, as a share of all. k does not fix it. NaN where nothing fires."""
    latents: int
    tokens: int


def firings(
    dictionary: Dictionary,
    x: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " _"],
    chunk: int = 2048,
) -> Firings:
    """Count a one-sided dictionary's firings on ``x``, by document (``groups``, sorted).

    Raises:
        ValueError: no tokens, not one document per token, or a dictionary of another width.
    """
    if not len(x) or len(groups) != len(x):
        raise ValueError(
            f"feature density is not defined for {len(x)} tokens of {len(groups)} documents; give "
            "the document of every token, and at least one"
        )
    names, inverse = torch.unique(groups, return_inverse=True)
    fired = torch.zeros(len(names), dictionary.latents, dtype=torch.float64)
    energy = torch.zeros_like(fired)
    size = dictionary.norms[:, 0].double().square()
    for part, rows in zip(x.split(chunk), inverse.split(chunk), strict=True):
        z = dictionary.encode(part[:, None]).double()
        fired.index_add_(0, rows, (z > 0).double())
        energy.index_add_(0, rows, z.square() * size)
    tokens = torch.bincount(inverse, minlength=len(names))
    return Firings(tokens.numpy(), fired.long().numpy(), energy.numpy())


def density(counts: Firings, *, draws: int = DRAWS, seed: int = 0) -> Density:
    """Both densities and the effective share, from counts by document.

    A dictionary whose latents never fire has 0, 0 and NaN. Ends are None with one document; those of
    ``effective`` are 0 and 1, nothing is known, where leaving one out leaves nothing that fires.
    """
    tokens, fired, energy = (x.astype(float) for x in counts)
    latents = fired.shape[1]
    active = np.column_stack([fired.sum(1), tokens])
    return Density(
        bootstrap(lambda t: t[:, 0] / t[:, 1] / latents, active, draws=draws, seed=seed),
        _by_latent(np.column_stack([fired, tokens]), _often),
        _by_latent(energy, _effective),
        latents,
        int(tokens.sum()),
    )


def _often(t: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
    return (t[:, :-1] > OFTEN * t[:, -1:]).mean(1)


def _effective(t: Float[np.ndarray, "rows latents"]) -> Float[np.ndarray, " rows"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return t.sum(1) ** 2 / np.square(t).sum(1) / t.shape[1]


def _by_latent(sums: Float[np.ndarray, "documents columns"], statistic: Statistic) -> Interval:
    """By leaving out one document at a time, clipped to 0..1."""
    total = sums.sum(0, keepdims=True)
    value = float(statistic(total)[0])
    if len(sums) < 2 or np.isnan(value):
        return Interval(value, None, None)
    without = statistic(total - sums)
    if np.isnan(without).any():
        return Interval(value, 0.0, 1.0)
    low, high = jackknife_interval(np.array([value]), without[:, None])[0]
    return Interval(value, max(0.0, float(low)), min(1.0, float(high)))
