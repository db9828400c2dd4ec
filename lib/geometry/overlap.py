"""Do two adapters change the same directions? Matrix by matrix, against chance."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.geometry.distance import Distance, from_chance, from_exact
from lib.geometry.factors import Factors, Product, product
from lib.metrics.angles import Chance, chance_angle, principal_angles


class Spans(NamedTuple):
    """Two column (or row) spaces beside two random ones of their dimensions in d."""

    angle: Distance
    """Mean principal angle, degrees, 0..90; negative distance = nearer than chance."""
    cosine_squared: Distance
    """Mean squared cosine of the principal angles, 0..1; chance is exactly max(ranks) / d, that is r/d
    for equal ranks."""
    angles: Float[Tensor, " angles"]
    """Every principal angle, degrees, smallest first; as many as the smaller rank."""


class ModuleOverlap(NamedTuple):
    """Two updates of one matrix. NaN throughout, not defined, where one of them is zero."""

    module: str
    layer: int | None
    kind: str
    ranks: tuple[int, int]
    """Dimensions of the two updates."""
    outputs: Spans
    """Column spaces, from B: the directions that are written."""
    inputs: Spans
    """Row spaces, from A: the directions that are read. peft draws A at random and training moves it
    little, so two adapters trained from one seed share most of this by their start alone: compare
    adapters of different seeds."""
    cosine: Distance
    """Of the two updates as vectors, -1..1: 1 = the same change up to its size, -1 = the opposite.
    Chance: independent random rotations of both their spaces, exactly 0 with sd 1/sqrt(out x in). A
    common seed raises it as well, through A."""


def overlap(
    one: Sequence[Factors], other: Sequence[Factors], *, seed: int = 0
) -> list[ModuleOverlap]:
    """Compare every matrix that both adapters change; ranks may differ.

    Uses the singular vectors of the products, so it does not depend on how an update is split into
    B and A. All directions of a space count alike, however little of the update they carry;
    ``cosine`` weighs them.

    Raises:
        ValueError: no matrix in common, or matrices of other sizes (another base model).
    """
    second = {f.module: f for f in other}
    both = [(f, second[f.module]) for f in one if f.module in second]
    if not both:
        raise ValueError(
            f"two adapters of {len(one)} and {len(other)} matrices have none in common; compare "
            "adapters of one model with common target modules"
        )
    return [_compare(f, g, seed) for f, g in both]


def exact_overlap(one: int, other: int, d: int) -> tuple[float, float]:
    """Mean squared cosine between random subspaces of these dimensions in d: expectation and sd.

    The trace of a product of two random projections has mean pq/d and variance
    2 p q (d-p) (d-q) / (d^2 (d-1) (d+2)); divided by the smaller dimension. sd 0 where one is all of d.
    """
    few = min(one, other)
    spread = 2 * one * other * (d - one) * (d - other) / (d**2 * max(1, d - 1) * (d + 2))
    return one * other / d / few, math.sqrt(spread) / few


def _compare(one: Factors, other: Factors, seed: int) -> ModuleOverlap:
    shapes = [(f.b.shape[0], f.a.shape[1]) for f in (one, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{one.module} is {shapes[0]} in one adapter and {shapes[1]} in the other (outputs, "
            "inputs); compare adapters of one model"
        )
    first, second = product(one), product(other)
    return ModuleOverlap(
        one.module,
        one.layer,
        one.kind,
        (len(first.size), len(second.size)),
        outputs=spans(first.left, second.left, seed),
        inputs=spans(first.right, second.right, seed),
        cosine=_cosine(first, second),
    )


def spans(one: Float[Tensor, "d p"], other: Float[Tensor, "d q"], seed: int = 0) -> Spans:
    """Orthonormal bases compared; not defined (NaN) where one is empty."""
    d, p = one.shape
    q = other.shape[1]
    if not min(p, q):
        undefined = from_exact(math.nan, math.nan, math.nan)
        return Spans(undefined, undefined, torch.zeros(0, dtype=torch.float64))
    angles = principal_angles(one.T, other.T)
    squared = float(torch.deg2rad(angles).cos().square().mean())
    return Spans(
        from_chance(float(angles.mean()), _chance(min(p, q), max(p, q), d, seed), seed=seed),
        from_exact(squared, *exact_overlap(p, q, d)),
        angles,
    )


@lru_cache(maxsize=256)
def _chance(few: int, many: int, d: int, seed: int) -> Chance:
    """Adapters have many matrices of few sizes, so each size is simulated once."""
    return chance_angle(few, many, d, draws=32, seed=seed)


def _cosine(one: Product, other: Product) -> Distance:
    sizes = float(one.size.norm() * other.size.norm())
    if not sizes:
        return from_exact(math.nan, math.nan, math.nan)
    across = (one.left.T @ other.left) * (one.right.T @ other.right)
    inner = float(one.size @ across @ other.size)
    spread = 1 / math.sqrt(one.left.shape[0] * one.right.shape[0])
    return from_exact(inner / sizes, 0.0, spread)
