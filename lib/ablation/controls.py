"""The five matched controls, many draws in one pass.

Each is as large as the treated edit of the same text: at every token (random latents, noise, real
differences, flipped signs), or as the same set of edits at other tokens (shuffled). A draw's random
numbers depend on the seed, the control, the draw and the text alone, not on its batch.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.ablation import limits
from lib.ablation.arithmetic import DictionarySlice, rescaled
from lib.ablation.documents import Reading
from lib.ablation.interventions import Change, edit_of, fallback_of
from lib.ablation.request import Draw, LayerSet
from lib.ablation.runs import Batch, Changes, Edits, Plan, damage, measure
from lib.ablation.selection import draw_random

HARM_DRAWS = 4
"""Of each control, how many draws read the neutral texts too: the damage is a mean over these, since
all of them would take as long again as the documents."""


class Drawn(NamedTuple):
    """Some draws of one control, before they are run."""

    changes: Changes
    sets: list[tuple[LayerSet, ...]]
    """Of each draw; empty where the control has no latents."""
    latents: dict[int, DictionarySlice]


def run_control(plan: Plan, name: str, treated: list[Edits]) -> Iterator[list[Draw]]:
    """The draws of one control, a batch at a time.

    Args:
        treated: what the treatment added to each text at each depth.
    """
    draws, rows = plan.request.draws, plan.rows
    blocks = [range(at, min(draws, at + rows)) for at in range(0, draws, rows)]
    total = sum(_passes(plan, block) for block in blocks)
    done = 0
    for block in blocks:
        yield _draws(plan, name, block, treated, (done, total))
        done += _passes(plan, block)
    plan.report(name, total, total)


def _passes(plan: Plan, draws: range) -> int:
    """Passes over a text that these draws take together."""
    harmed = draws.start < HARM_DRAWS
    return len(plan.readings) if harmed else plan.documents


def check_pool(plan: Plan) -> None:
    """Before anything is run: refuse a set for which no random one can be drawn."""
    if limits.RANDOM_LATENTS in plan.request.applicable_controls and plan.request.draws:
        draw_random(plan.selected, plan.session.offered, plan.request.seed, 0)


def _draws(
    plan: Plan, name: str, draws: range, treated: list[Edits], progress: tuple[int, int]
) -> list[Draw]:
    """Every draw on the documents, the first ones on the neutral texts too."""
    done, total = progress
    drawn = _drawn(plan, name, draws, treated)
    names = (name,) * len(draws)
    batch = Batch(names=names, changes=drawn.changes, latents=drawn.latents, neutral=False)
    made = measure(plan, batch, name, progress)
    harmed = draws[: max(0, HARM_DRAWS - draws.start)]
    if harmed and plan.request.neutral:
        again = Batch(
            names=names[: len(harmed)], changes=_drawn(plan, name, harmed, treated).changes
        )
        found = damage(plan, again, name, (done + plan.documents, total))
        made[: len(harmed)] = [
            replace(c, neutral_nll=nll) for c, nll in zip(made, found, strict=False)
        ]
    return [Draw(name, *one) for one in zip(draws, drawn.sets, made, strict=True)]


def _drawn(plan: Plan, name: str, draws: range, treated: list[Edits]) -> Drawn:
    if name == limits.RANDOM_LATENTS:
        return _random_latents(plan, draws, treated)
    return _added(plan, name, draws, treated)


def _random_latents(plan: Plan, draws: range, treated: list[Edits]) -> Drawn:
    """The same intervention with latents drawn at random, at the treated norm of every token."""
    offered, seed = plan.session.offered, plan.request.seed
    sets = [draw_random(plan.selected, offered, seed, draw) for draw in draws]
    slices = plan.slices(sets)
    kind = plan.request.intervention
    edits = {layer: edit_of(kind, chosen) for layer, chosen in slices.items()}
    fallbacks = {layer: fallback_of(kind, chosen) for layer, chosen in slices.items()}

    def changes(number: int, reading: Reading) -> dict[int, Change]:
        def change(layer: int) -> Change:
            norms, instead = treated[number][layer].norm(dim=-1)[None], fallbacks[layer]
            return lambda x, x_base: (
                x + rescaled(edits[layer](x, x_base), norms.to(x.device), instead.to(x.device))
            )

        return {layer: change(layer) for layer in plan.layers}

    return Drawn(changes, sets, slices)


def _added(plan: Plan, name: str, draws: range, treated: list[Edits]) -> Drawn:
    """A control whose edit is known before the run."""
    make, seed = _ADDED[name], plan.request.seed

    def changes(number: int, reading: Reading) -> dict[int, Change]:
        made = [
            make(plan, treated[number], draw, random_of(seed, name, draw, number)) for draw in draws
        ]
        return {layer: _plus(torch.stack([one[layer] for one in made])) for layer in plan.layers}

    return Drawn(changes, [()] * len(draws), {})


def _plus(edit: Float[Tensor, "batch tokens d"]) -> Change:
    return lambda x, x_base: x + edit.to(x.device)


def random_of(seed: int, name: str, draw: int, text: int) -> torch.Generator:
    """Random numbers that no other draw, control or text shares."""
    digest = hashlib.sha256(f"{seed}|{name}|{draw}|{text}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _gaussian(plan: Plan, treated: Edits, draw: int, random: torch.Generator) -> Edits:
    """Isotropic noise, independent for each token and depth."""
    noise = {
        layer: torch.randn(edit.shape, generator=random).to(edit.device)
        for layer, edit in sorted(treated.items())
    }
    return {layer: _sized(noise[layer], edit) for layer, edit in treated.items()}


def _real_difference(plan: Plan, treated: Edits, draw: int, random: torch.Generator) -> Edits:
    """x_i - x_j of the base's activations at two other tokens, the same two at every depth."""
    pool = plan.pool
    size = len(next(iter(pool.values())))
    count = len(next(iter(treated.values())))
    first = torch.randint(size, (count,), generator=random)
    other = (first + torch.randint(1, size, (count,), generator=random)) % size
    return {
        layer: _sized(pool[layer][first] - pool[layer][other], edit)
        for layer, edit in treated.items()
    }


def _shuffled(plan: Plan, treated: Edits, draw: int, random: torch.Generator) -> Edits:
    """Every token gets another token's edit, the same one's at every depth."""
    count = len(next(iter(treated.values())))
    circle = torch.randperm(count, generator=random)
    source = torch.empty_like(circle)
    source[circle] = circle.roll(1)  # one cycle through all tokens: none keeps its own
    return {layer: edit[source.to(edit.device)] for layer, edit in treated.items()}


def _sign_flipped(plan: Plan, treated: Edits, draw: int, random: torch.Generator) -> Edits:
    """Draw 0 turns every token's edit round, the others each token's with probability 1/2."""
    count = len(next(iter(treated.values())))
    signs = 2.0 * torch.randint(2, (count, 1), generator=random) - 1
    if draw == 0:
        signs = -torch.ones(count, 1)
    return {layer: signs.to(edit.device) * edit for layer, edit in treated.items()}


def _sized(
    direction: Float[Tensor, "tokens d"], edit: Float[Tensor, "tokens d"]
) -> Float[Tensor, "tokens d"]:
    """A direction for each token, as long as the edit there."""
    return rescaled(direction, edit.norm(dim=-1), fallback=torch.ones_like(direction))


_ADDED = {
    "gaussian": _gaussian,
    "real_difference": _real_difference,
    "shuffled": _shuffled,
    "sign_flipped": _sign_flipped,
}
