"""The interventions by name: what each makes of the tuned model's activations at one depth."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lib.ablation import limits
from lib.ablation.arithmetic import (
    DictionarySlice,
    clamp_edit,
    code_clamp_edit,
    subspace,
    swap_edit,
    zero_edit,
)

Change = Callable[
    [Float[Tensor, "batch tokens d"], Float[Tensor, "tokens d"]], Float[Tensor, "batch tokens d"]
]
"""Scored tokens of the current runs and of the base run -> what the model continues with, or what
is added."""

_BY_CODES = {
    limits.PAIR_CLAMP: clamp_edit,
    limits.CODE_CLAMP: code_clamp_edit,
    limits.ZERO: zero_edit,
}


def edit_of(kind: str, chosen: DictionarySlice) -> Change:
    """What an intervention on latents adds at strength 1.

    Args:
        kind: one of ``limits.WITH_LATENTS``.
        chosen: one set, or one for each run of the batch.
    """
    if kind in _BY_CODES:
        rule = _BY_CODES[kind]
        return lambda x, x_base: rule(x, x_base.expand_as(x), chosen.to(x.device))
    if kind == limits.SUBSPACE_SWAP:
        basis = subspace(chosen)
        return lambda x, x_base: swap_edit(x, x_base.expand_as(x), basis.to(x.device))
    direction = chosen.tuned.sum(-2, keepdim=True)  # steer: each latent fires with 1 more
    return lambda x, x_base: direction.to(x.device).expand_as(x)


def treatment(
    kind: str, chosen: DictionarySlice | None, strength: Float[Tensor, "batch 1 1"]
) -> Change:
    """What the treated runs continue with: the activations, edited with each run's strength.

    Strength 0 gives the activations back bit for bit, a full patch of strength 1 the base's.

    Args:
        chosen: None for a full patch, which has no latents.
    """
    if chosen is None:
        # lerp is exact at both ends, x + (x_base - x) is not
        return lambda x, x_base: torch.lerp(x, x_base.expand_as(x), strength.to(x.device))
    edit = edit_of(kind, chosen)
    return lambda x, x_base: x + strength.to(x.device) * edit(x, x_base)


def fallback_of(kind: str, chosen: DictionarySlice) -> Float[Tensor, "*batch 1 d"]:
    """Where none of a control's latents fires, the direction in which it is edited all the same."""
    if kind == limits.PAIR_CLAMP:
        return -chosen.change.sum(-2, keepdim=True)
    return -chosen.tuned.sum(-2, keepdim=True)
