"""How large an adapter's update of every matrix is, and how many directions it has.

From the adapter's files alone. Products are never formed: everything comes from the r x r core of
``factors.product``.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch

from lib.geometry.factors import Factors, product
from lib.metrics.angles import Chance


class ModuleWeights(NamedTuple):
    """The update (alpha/r) B A of one matrix."""

    module: str
    layer: int | None
    kind: str
    r: int
    """Rows of A: the rank that was asked for."""
    spectral: float
    """Largest singular value, in units of the weights; 0 for an update of zero."""
    frobenius: float
    """sqrt of the sum of squared singular values."""
    entropy_rank: float
    """exp of the entropy of the squared singular values' shares: how many directions carry the update,
    1..r. NaN, not defined, for an update of zero."""
    stable_rank: float
    """frobenius^2 / spectral^2, 1..r; the stricter of the two. NaN for an update of zero."""
    share: float
    """Of the adapter's total squared Frobenius norm, 0..1; NaN where all of it is zero."""


class Shares(NamedTuple):
    """Shares of the total squared Frobenius norm; each sums to 1 (NaN where the total is 0)."""

    by_layer: dict[int | None, float]
    by_kind: dict[str, float]


def spectra(adapter: Sequence[Factors]) -> list[ModuleWeights]:
    """Norms and effective ranks of every adapted matrix, in the order given.

    Matrices differ in size, and a larger one has more squares to sum: compare a share with that of a
    random adapter of the same norms, or with the matrix's share of the parameters.

    Source: entropy rank after Roy & Vetterli 2007 (there of singular values, here of their squares,
        which add up to the norm); stable rank: Rudelson & Vershynin 2007.
    """
    sizes = [product(f).size for f in adapter]
    total = sum(float(s.square().sum()) for s in sizes)
    found = []
    for f, size in zip(adapter, sizes, strict=True):
        squares = size.square()
        norm = float(squares.sum())
        largest = float(size[0]) if len(size) else 0.0
        found.append(
            ModuleWeights(
                f.module,
                f.layer,
                f.kind,
                f.a.shape[0],
                spectral=largest,
                frobenius=math.sqrt(norm),
                entropy_rank=_entropy_rank(squares),
                stable_rank=norm / largest**2 if largest else math.nan,
                share=norm / total if total else math.nan,
            )
        )
    return found


def shares(modules: Sequence[ModuleWeights]) -> Shares:
    """Where the update's squared norm lies, summed over matrices of a layer and of a kind."""
    by_layer: dict[int | None, float] = defaultdict(float)
    by_kind: dict[str, float] = defaultdict(float)
    for module in modules:
        by_layer[module.layer] += module.share
        by_kind[module.kind] += module.share
    return Shares(dict(by_layer), dict(by_kind))


def chance_rank(
    outputs: int, inputs: int, r: int, *, draws: int = 32, seed: int = 0
) -> tuple[Chance, Chance]:
    """Entropy rank and stable rank of random updates: both factors Gaussian, nothing learned.

    An update whose effective rank lies below these has used fewer directions than it was given.

    Raises:
        ValueError: a rank that does not fit into the matrix, or fewer than two draws.
    """
    if not 1 <= r <= min(outputs, inputs) or draws < 2:
        raise ValueError(
            f"the chance of a rank needs 1 <= r <= min(outputs, inputs) and 2 draws; got r {r} of "
            f"{outputs} x {inputs}, {draws} draws"
        )
    draw = torch.Generator().manual_seed(seed)
    made = [
        Factors(
            str(i),
            None,
            "random",
            torch.randn(r, inputs, generator=draw),
            torch.randn(outputs, r, generator=draw),
            1.0,
        )
        for i in range(draws)
    ]
    found = spectra(made)
    entropy = torch.tensor([m.entropy_rank for m in found], dtype=torch.float64)
    stable = torch.tensor([m.stable_rank for m in found], dtype=torch.float64)
    return (
        Chance(float(entropy.mean()), float(entropy.std()), draws),
        Chance(float(stable.mean()), float(stable.std()), draws),
    )


def _entropy_rank(squares: torch.Tensor) -> float:
    if not len(squares):
        return math.nan
    share = squares / squares.sum()
    return math.exp(float(torch.special.entr(share).sum()))
