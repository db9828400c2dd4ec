"""How far apart two subspaces of k directions lie, against two random ones."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.geometry.distance import Distance, from_chance, from_exact
from lib.geometry.overlap import exact_overlap
from lib.metrics.angles import Chance, principal_angles


class Subspaces(NamedTuple):
    """Two subspaces of ``k`` dimensions in ``d``, beside random ones of the same k and d."""

    k: int
    d: int
    angle: Distance
    """Mean principal angle, degrees, 0..90; negative distance = nearer than chance."""
    smallest: Distance
    """Smallest principal angle, degrees: is there any direction in common?"""
    cosine_squared: Distance
    """Mean squared cosine of the angles, 0..1: the share of one subspace that lies in the other. Chance
    is exactly k / d."""
    angles: Float[Tensor, " k"]
    """Every principal angle, degrees, smallest first."""
    chance_angles: Float[Tensor, " k"]
    """The same of random subspaces, mean over draws."""


def subspaces(
    one: Float[Tensor, "rows d"],
    other: Float[Tensor, "others d"],
    k: int,
    *,
    draws: int = 16,
    seed: int = 0,
) -> Subspaces:
    """Principal angles between the ``k`` strongest directions of two sets of rows.

    Lengths of rows matter: pass ``directions.energy_rows`` of a dictionary, or principal components
    times their standard deviations. A k near d makes any two subspaces close: chance says how close.

    Raises:
        ValueError: see ``lib.metrics.angles.principal_angles``; fewer than two draws.

    Source: arXiv:2605.28896 (without chance); chance by the same measure on Gaussian rows.
    """
    if draws < 2:
        raise ValueError(f"the chance of an angle needs at least 2 draws, got {draws}")
    angles = principal_angles(one, other, k)
    d = one.shape[1]
    draw = torch.Generator().manual_seed(seed)
    random = torch.stack(
        [
            principal_angles(torch.randn(k, d, generator=draw), torch.randn(k, d, generator=draw))
            for _ in range(draws)
        ]
    )
    mean, least = random.mean(1), random[:, 0]
    squared = float(torch.deg2rad(angles).cos().square().mean())
    return Subspaces(
        k,
        d,
        _beside(float(angles.mean()), mean, seed),
        _beside(float(angles[0]), least, seed),
        from_exact(squared, *exact_overlap(k, k, d)),
        angles,
        random.mean(0),
    )


def _beside(value: float, drawn: Float[Tensor, " draws"], seed: int) -> Distance:
    return from_chance(
        value, Chance(float(drawn.mean()), float(drawn.std()), len(drawn)), seed=seed
    )
