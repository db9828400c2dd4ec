"""Tokens whose activations dwarf all others: found, counted, and left out of internal metrics.

A few tokens (the first, delimiters) can carry activations tens of times larger than the rest, whatever
the text says. They own every squared error, and two of them are enough to make CKA of independent
views 1, debiased or not.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.metrics.inputs import exactly_scaled, refuse_unusable

FACTOR = 5.0
"""Norm over the layer's median from which a token is massive. The rule over all 30 layers of
SmolLM2-135M (MLP outputs, held-out text of four experiments, 5,817 to 7,535 tokens each, positions 0-3
left out): the same four layers hold massive tokens in all four. Layer 2 has norms up to 53 in 2-3 % of
the tokens, with 94 % of the sum of squares; layers 1, 9 and 10 have norms up to 11-14 in 1-2 % of the
tokens, with 15-24 % (layer 1) and 38-56 %. In the other 26 layers no token passes 4.1. There the factor
does not matter; in those four layers norms run on without a gap, with 2-37 tokens between 4 and 5."""


class Massive(NamedTuple):
    """Massive-activation tokens of one layer."""

    keep: Bool[Tensor, " tokens"]
    """False for the tokens to leave out, on both sides, so that the pairs stay whole."""
    dropped: int
    """Tokens that are massive in either model."""
    base: int
    """Tokens that are massive in the base model."""
    tuned: int
    energy_base: float
    """Share of the base's sum of squared activations that the dropped tokens carry, in [0, 1]."""
    energy_tuned: float
    largest: float
    """Largest norm over the median norm of its side, at least 1."""


def massive_tokens(
    base: Float[Tensor, "tokens d"],
    tuned: Float[Tensor, "tokens d"],
    factor: float = FACTOR,
) -> Massive:
    """Tokens whose norm exceeds ``factor`` times the median norm of the layer, in either model.

    Each side has its own median, so a fine-tune that scales everything drops nothing; the median
    does not feel the massive tokens themselves (at most half of them can be). Decide per layer, and
    on all tokens that will be measured together. Free of the activations' scale.

    Raises:
        ValueError: no tokens, views that do not pair up, values that are not finite, a factor that is
            not above 1, or a median norm of 0.

    Source: Sun et al. 2024, arXiv:2402.17762 (massive activations); that rows above a multiple of the
        median are dropped follows Jiralerspong and Bricken, arXiv:2602.11729, whose factor of 2
        would take up to 6 % of the tokens of layers that have no massive one. The factor is ours.
    """
    refuse_unusable("the rule for massive tokens", same_width=True, axes=2, base=base, tuned=tuned)
    if not len(base):
        raise ValueError("massive tokens of no tokens: check that the text is not empty")
    if not factor > 1:
        raise ValueError(f"the factor for massive tokens must be above 1, got {factor}")
    norms = torch.stack([exactly_scaled(v)[0].norm(dim=1) for v in (base, tuned)], dim=1)
    middle = norms.median(dim=0).values
    if not (middle > 0).all():
        raise ValueError(
            "massive tokens are not defined because at least half of the tokens have no activation "
            "at all (median norm 0); drop that layer"
        )
    large = norms > factor * middle
    out = large.any(1)
    energy = norms.square()[out].sum(0) / norms.square().sum(0)
    return Massive(
        ~out,
        int(out.sum()),
        *large.sum(0).tolist(),
        *energy.tolist(),
        float((norms / middle).max()),
    )
