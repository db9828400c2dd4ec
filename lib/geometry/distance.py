"""A score beside what chance gives, so that no angle or cosine is ever read bare."""

import math
from typing import NamedTuple

from lib.metrics.angles import Chance


class Distance(NamedTuple):
    """A score and its distance from chance; NaN where one of them is not defined."""

    value: float
    """In the unit of the score; a mean of ``n`` single scores."""
    chance: float
    """What unrelated directions score on average."""
    chance_sd: float
    """Of one single score under chance."""
    distance: float
    """(value - chance) / chance_sd: how far off, in standard deviations of a single chance score. It
    does not grow with the number of latents, so it is a size, not a significance."""
    errors: float
    """(value - chance) in standard errors of a mean of ``n`` independent scores: a significance, large
    for the smallest effect where n is large."""
    n: int
    seed: int | None
    """Of the simulated chance; None where chance is known exactly."""


def from_chance(value: float, chance: Chance, *, seed: int, n: int = 1) -> Distance:
    """A mean of ``n`` scores beside a simulated chance; ``errors`` counts the simulation's error."""
    gap = value - chance.mean
    size = gap / chance.sd if chance.sd > 0 else math.nan
    return Distance(value, chance.mean, chance.sd, size, chance.distance(value, n), n, seed)


def from_exact(value: float, mean: float, sd: float) -> Distance:
    """One score beside a chance that is known exactly; NaN distances where it does not vary."""
    size = (value - mean) / sd if sd > 0 else math.nan
    return Distance(value, mean, sd, size, size, 1, None)
