"""What each lane of a generation does to the activations of its new tokens at one depth."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.ablation import limits
from lib.ablation.arithmetic import rescaled
from lib.ablation.generate import GenerateRequest
from lib.ablation.interventions import Change, edit_of, fallback_of, treatment
from lib.ablation.outcome import LayerSet
from lib.ablation.session import Session

LaneEdit = Callable[
    [int, Float[Tensor, "new d"], Float[Tensor, "new d"], int], Float[Tensor, "new d"]
]
"""(layer, activations of the new tokens, the base's on the same text, place of the first of them)
-> what the model continues with."""

CLAMPED, CONTROL = 2, 3


class Depth(NamedTuple):
    """The edits at one depth."""

    treat: Change
    control: Callable[
        [Float[Tensor, "1 new d"], Float[Tensor, "new d"], int], Float[Tensor, "1 new d"]
    ]
    """What the control adds before it gets the treated edit's size."""
    fallback: Float[Tensor, "1 d"]


def lane_edits(
    request: GenerateRequest,
    session: Session,
    selected: tuple[LayerSet, ...],
    drawn: tuple[LayerSet, ...],
    length: int,
) -> dict[int, LaneEdit] | None:
    """Edits by lane, clamped and control; None where the adapter itself is scaled.

    The control adds its own direction at every token, with the norm that the treatment would have
    there on the control lane's own activations: the two lanes write different texts.

    Args:
        length: of prompt and continuation at most, in tokens.
    """
    if request.ablation.intervention == limits.SCALE_LORA:
        return None
    controls = {part.layer: part for part in drawn}
    depths = {
        part.layer: _depth(request, session, part, controls.get(part.layer), length)
        for part in selected
    }
    skip = request.ablation.skip_first

    def clamped(
        layer: int, x: Float[Tensor, "new d"], x_base: Float[Tensor, "new d"], start: int
    ) -> Float[Tensor, "new d"]:
        out, left = x.clone(), max(0, skip - start)
        out[left:] = depths[layer].treat(x[None, left:], x_base[left:])[0]
        return out

    def control(
        layer: int, x: Float[Tensor, "new d"], x_base: Float[Tensor, "new d"], start: int
    ) -> Float[Tensor, "new d"]:
        out, left, at = x.clone(), max(0, skip - start), depths[layer]
        here, base = x[None, left:], x_base[left:]
        norms = (at.treat(here, base) - here).norm(dim=-1)
        added = at.control(here, base, start + left)
        out[left:] = (here + rescaled(added, norms, at.fallback.to(x.device)))[0]
        return out

    return {CLAMPED: clamped, CONTROL: control}


def _depth(
    request: GenerateRequest,
    session: Session,
    part: LayerSet,
    drawn: LayerSet | None,
    length: int,
) -> Depth:
    asked, d = request.ablation, session.loaded.d
    strength = torch.full((1, 1, 1), float(asked.strength))
    chosen = session.slices[part.layer].take(part.latents) if asked.has_latents else None
    treat = treatment(asked.intervention, chosen, strength)
    none = torch.zeros(1, d)
    if drawn is not None:
        latents = session.slices[part.layer].take(drawn.latents)
        edit = edit_of(asked.intervention, latents)
        return Depth(
            treat, lambda x, base, at: edit(x, base), fallback_of(asked.intervention, latents)
        )
    if request.matched_control == "sign_flipped":
        return Depth(treat, lambda x, base, at: x - treat(x, base), none)
    generator = torch.Generator().manual_seed(_mixed(asked.seed, part.layer))
    noise = torch.randn(length, d, generator=generator)  # fixed per place: later tokens change none
    return Depth(treat, lambda x, base, at: noise[None, at : at + x.shape[1]].to(x.device), none)


def _mixed(seed: int, layer: int) -> int:
    """One seed of two numbers, different for every depth."""
    return (seed * 1_000_003 + layer) % 2**63
