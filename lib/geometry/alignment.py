"""Are an adapter's directions those of a pretrained dictionary? Best cosines, against chance.

Give rows of latents that fire: a latent that never fired in training still points where it was drawn,
at random.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from lib.geometry.directions import (
    Expected,
    expected_cosine,
    random_directions,
    random_mixtures,
)
from lib.geometry.distance import Distance, from_chance
from lib.metrics.angles import Chance, Closest, max_cosine


class Cosines(NamedTuple):
    """Best cosine of every direction with any row of a dictionary, mean over directions."""

    signed: Distance
    """Chance: as many random unit directions against the same rows."""
    absolute: Distance
    """The same when a row and its opposite count as one."""
    signed_mixed: Distance
    """``signed`` against as many random mixtures of the directions themselves: the same subspace and
    the same preferred coordinates, other directions."""
    absolute_mixed: Distance
    expected: Expected
    """Chance of ``signed`` if the rows too were random and independent: exact, nothing drawn."""
    expected_absolute: Expected
    closest: Closest
    """Of each direction."""


class Alignment(NamedTuple):
    """An adapter's decoder against a pretrained one, and what another seed would score.

    Weak alignment is weak only beside the two seeds: an ``adapter_seeds`` near chance means that the
    adapter SAE found no reproducible directions, whatever they are compared with.
    """

    pretrained: Cosines
    adapter_seeds: Cosines | None
    """The adapter's rows against those of a second adapter SAE of another seed; None without one."""
    pretrained_seeds: Cosines | None
    """The pretrained rows against those of a second pretrained dictionary; None without one."""


def align(
    adapter: Float[Tensor, "latents d"],
    pretrained: Float[Tensor, "rows d"],
    *,
    other_adapter: Float[Tensor, "other_latents d"] | None = None,
    other_pretrained: Float[Tensor, "other_rows d"] | None = None,
    seed: int = 0,
) -> Alignment:
    """Best cosines of decoder rows, each with its chance.

    Raises:
        ValueError: see ``cosines``.
    """
    return Alignment(
        cosines(adapter, pretrained, seed=seed),
        None if other_adapter is None else cosines(adapter, other_adapter, seed=seed),
        None if other_pretrained is None else cosines(pretrained, other_pretrained, seed=seed),
    )


def cosines(
    directions: Float[Tensor, "directions d"], dictionary: Float[Tensor, "rows d"], *, seed: int = 0
) -> Cosines:
    """Best cosine of each direction, the mean over directions, and three chances of it.

    Directions of norm 0 are left out; so are such rows. ``errors`` of a distance takes directions as
    independent, which those of one dictionary are not quite.

    Raises:
        ValueError: fewer than two directions with a norm, no row with one, other widths, values that
            are not finite.

    Source: arXiv:2605.28896 (signed, without chance).
    """
    closest = max_cosine(directions, dictionary)
    kept = ~closest.signed.isnan()
    alive = int((dictionary.norm(dim=1) > 0).sum())
    n, d = int(kept.sum()), directions.shape[1]
    if n < 2 or not alive:
        raise ValueError(
            f"the mean best cosine needs at least 2 directions and 1 row with a norm; got {n} of "
            f"{len(directions)} and {alive} of {len(dictionary)}"
        )
    drawn = max_cosine(random_directions(n, d, seed), dictionary)
    mixed = max_cosine(random_mixtures(directions[kept], seed), dictionary)

    def beside(found: Tensor, unrelated: Tensor) -> Distance:
        chance = Chance(float(unrelated.mean()), float(unrelated.std()), n)
        return from_chance(float(found[kept].mean()), chance, seed=seed, n=n)

    return Cosines(
        beside(closest.signed, drawn.signed),
        beside(closest.absolute, drawn.absolute),
        beside(closest.signed, mixed.signed),
        beside(closest.absolute, mixed.absolute),
        expected_cosine(alive, d),
        expected_cosine(alive, d, absolute=True),
        closest,
    )
