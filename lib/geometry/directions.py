"""Sets of directions to compare: an adapter's own, and the unrelated ones that chance would draw."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import betainc
from torch import Tensor

from lib.sparse import Dictionary

_GRID = 40_001
_STREAM = 1 << 31
"""Added to every seed here (the generator keeps 32 bits of it): a dictionary of the same seed starts at
the draws of the plain seed, and what is drawn as unrelated would be what its rows started from."""


class Expected(NamedTuple):
    """A chance that is computed, not drawn."""

    mean: float
    sd: float
    """Of a single score."""


def random_directions(count: int, d: int, seed: int) -> Float[Tensor, "count d"]:
    """Unit vectors, uniform over the sphere, float32."""
    draw = torch.Generator().manual_seed(_STREAM + seed)
    return torch.nn.functional.normalize(torch.randn(count, d, generator=draw), dim=1)


def random_mixtures(rows: Float[Tensor, "rows d"], seed: int) -> Float[Tensor, "rows d"]:
    """As many random combinations of the rows: Gaussian with the second moment of the unit rows.

    They prefer the same coordinates and the same subspace as the rows and share nothing else, so what
    rows score above them is owed to the single directions.
    """
    norms = rows.norm(dim=1, keepdim=True)
    unit = (rows / norms)[norms[:, 0] > 0].double()
    values, vectors = torch.linalg.eigh(unit.T @ unit / len(unit))
    draw = torch.Generator().manual_seed(_STREAM + seed)
    mixed = torch.randn(len(rows), rows.shape[1], generator=draw, dtype=torch.float64)
    return (mixed * values.clamp(min=0).sqrt()) @ vectors.T


def expected_cosine(rows: int, d: int, *, absolute: bool = False) -> Expected:
    """Exact mean and sd of the best cosine of a random direction with ``rows`` independent random ones.

    (1 + c) / 2 of one cosine c is Beta((d - 1) / 2, (d - 1) / 2); the best of n has the n-th power of
    its distribution function F, and mean 1 - integral of F^n (integrated over c on a fine grid).
    The rows of a real dictionary are neither independent nor uniform: compare the simulation, which
    uses them.

    Raises:
        ValueError: no rows, or d below 2.
    """
    if rows < 1 or d < 2:
        raise ValueError(f"the expected cosine needs at least 1 row and d of 2; got {rows}, {d}")
    c = np.linspace(0.0 if absolute else -1.0, 1.0, _GRID)
    half = (d - 1) / 2
    tail = betainc(half, half, (1 - c) / 2) * (2 if absolute else 1)
    with np.errstate(divide="ignore"):
        best = np.exp(rows * np.log1p(-np.minimum(tail, 1.0)))
    mean = 1 - np.trapezoid(best, c)
    square = 1 - 2 * np.trapezoid(c * best, c)
    return Expected(float(mean), math.sqrt(max(0.0, float(square - mean**2))))


def energy_rows(
    dictionary: Dictionary, x: Float[Tensor, "tokens d"], chunk: int = 2048
) -> Float[Tensor, "latents d"]:
    """Decoder rows of a one-sided dictionary times sqrt(E a^2) on ``x``.

    Their singular vectors are the directions in which the dictionary really writes there; a latent
    that never fires is a row of 0.

    Raises:
        ValueError: no tokens.
    """
    if not len(x):
        raise ValueError("the energy of latents is not defined without tokens; give some text")
    squares = torch.zeros(dictionary.latents, dtype=torch.float64)
    for part in x.split(chunk):
        squares += dictionary.encode(part[:, None]).double().square().sum(0)
    return dictionary.decoder[:, 0].double() * (squares / len(x)).sqrt()[:, None]
