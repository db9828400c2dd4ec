"""Debiased CKA of two views of the same tokens, beside views whose tokens do not belong together."""

import torch
from jaxtyping import Float
from torch import Tensor

from lib.geometry.distance import Distance, from_chance
from lib.metrics.angles import Chance
from lib.metrics.cka import debiased_cka
from lib.metrics.inputs import refuse_unusable


def similarity(
    x: Float[Tensor, "tokens d_x"], y: Float[Tensor, "tokens d_y"], *, draws: int = 8, seed: int = 0
) -> Distance:
    """Debiased linear CKA, -1..1, and what it is when y is turned against x along the text.

    A turn keeps what neighbouring tokens have in common and takes away that the two views are of the
    same ones. For activations of two dictionaries on deltas, or of deltas and activations. Tokens must
    be in the order of the text. Each draw costs as much as the measure itself.

    Raises:
        ValueError: see ``lib.metrics.cka.debiased_cka``; fewer than two draws, or fewer than 16 tokens.
    """
    refuse_unusable("CKA", axes=2, x=x, y=y)
    n = len(x)
    if draws < 2 or n < 16:
        raise ValueError(
            f"the chance of CKA needs at least 2 draws and 16 tokens; got {draws} and {n}"
        )
    draw = torch.Generator().manual_seed(seed)
    turns = torch.randint(n // 8, n - n // 8, (draws,), generator=draw).tolist()
    drawn = torch.tensor([debiased_cka(x, y.roll(turn, 0)) for turn in turns], dtype=torch.float64)
    chance = Chance(float(drawn.mean()), float(drawn.std()), draws)
    return from_chance(debiased_cka(x, y), chance, seed=seed)
