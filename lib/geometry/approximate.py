"""Ways to write a delta with few directions: the baselines' arithmetic.

All of them fit signed coefficients to the very token that they describe, by least squares; a sparse
autoencoder has to find non-negative ones with one matrix. They are upper limits for a decoder.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.metrics.angles import span

_CHUNK = 1024
"""Tokens at a time: a token meets every direction in every step."""
_DEPENDENT = 1e-5
"""A direction of norm 1 with less than this outside those already chosen adds rounding only."""


class Principal(NamedTuple):
    """The strongest directions of some deltas around their mean."""

    mean: Float[Tensor, " d"]
    basis: Float[Tensor, "d k"]
    """Orthonormal, by variance, largest first."""
    share: Float[Tensor, " k"]
    """Of the variance, on the deltas they were fitted on."""


@torch.no_grad()
def pursuit(
    directions: Float[Tensor, "directions d"], x: Float[Tensor, "tokens d"], k: int
) -> Float[Tensor, "tokens d"]:
    """Each token as a least-squares sum of at most ``k`` directions, chosen one after the other.

    Orthogonal matching pursuit: take the direction with the largest absolute cosine with what is left,
    then fit all chosen ones again. Greedy, so close to, and never above, the best k directions.
    Directions of norm 0 are left out. tokens x k x directions x d multiplications.

    Raises:
        ValueError: k below 1, or no direction with a norm.

    Source: Pati, Rezaiifar & Krishnaprasad 1993.
    """
    norms = directions.norm(dim=1, keepdim=True)
    unit = (directions / norms)[norms[:, 0] > 0]
    if k < 1 or not len(unit):
        raise ValueError(
            f"matching pursuit needs k of at least 1 and directions with a norm; got k {k} and "
            f"{len(unit)} of {len(directions)} directions"
        )
    k = min(k, len(unit), x.shape[1])
    left = [_left(unit, part.to(unit.dtype), k) for part in x.split(_CHUNK)]
    return x - torch.cat(left).to(x.dtype) if left else torch.zeros_like(x)


def _left(
    unit: Float[Tensor, "directions d"], x: Float[Tensor, "tokens d"], k: int
) -> Float[Tensor, "tokens d"]:
    """What ``k`` steps leave over: an orthonormal basis of the chosen directions grows per token."""
    left = x.clone()
    chosen = x.new_zeros(len(x), k, x.shape[1])
    for step in range(k):
        new = unit[(left @ unit.T).abs().argmax(1)]
        held = chosen[:, :step]
        for _ in range(2):  # Gram-Schmidt once would lose digits where directions are close
            new = new - torch.einsum("tkd,tk->td", held, torch.einsum("tkd,td->tk", held, new))
        norm = new.norm(dim=1, keepdim=True)
        new = torch.where(norm > _DEPENDENT, new / norm.clamp_min(_DEPENDENT), 0.0)
        chosen[:, step] = new
        left = left - (left * new).sum(1, keepdim=True) * new
    return left


@torch.no_grad()
def project(
    directions: Float[Tensor, "directions d"], x: Float[Tensor, "tokens d"]
) -> tuple[Float[Tensor, "tokens d"], int]:
    """Least squares on all directions at once, and the rank of what they span.

    Raises:
        ValueError: see ``lib.metrics.angles.span``.
    """
    basis = span(directions)
    return ((x.double() @ basis) @ basis.T).to(x.dtype), basis.shape[1]


@torch.no_grad()
def principal(x: Float[Tensor, "tokens d"], k: int) -> Principal:
    """The ``k`` strongest principal components, in float64.

    Raises:
        ValueError: k is not in 1..min(tokens - 1, d); x is constant over tokens.
    """
    if not 1 <= k <= min(len(x) - 1, x.shape[1]):
        raise ValueError(
            f"{k} principal components of {len(x)} tokens in {x.shape[1]} dimensions do not exist; "
            "use more text or a smaller k"
        )
    wide = x.double()
    mean = wide.mean(0)
    values, vectors = torch.linalg.eigh((wide - mean).T @ (wide - mean))
    total = float(values.sum())
    if not total > 1e-24 * float(wide.square().sum()):
        raise ValueError(
            f"deltas are constant over their {len(x)} tokens and have no principal components; is "
            "every B of the adapter 0?"
        )
    first = values.flip(0)[:k].clamp(min=0)
    return Principal(mean, vectors.flip(1)[:, :k].contiguous(), first / total)
