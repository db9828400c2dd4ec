"""Which latents are called exclusive, by norms and by latent scaling, and which of them are right."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.metrics.latents import CUTS, LatentScaling, delta_norm
from lib.sparse import Dictionary

ABSENT = (0.2, 0.5)
"""nu error and nu reconstruction below which the other model has next to nothing of a latent."""
ALIKE = 0.8
"""Cosine from which on a latent is a planted feature."""
MIN_FIRINGS = 10
RULES = ("norms", "norms and scaling", "scaling")


class Called(NamedTuple):
    """Per latent and side (0 = base only, 1 = tuned only): called exclusive, by either rule."""

    norms: Bool[Tensor, "sides latents"]
    """delta_norm below 0.1 or above 0.9."""
    both: Bool[Tensor, "sides latents"]
    """Of those, the ones that latent scaling confirms."""
    scaling: Bool[Tensor, "sides latents"]
    """Confirmed by latent scaling among all that lean to one side: delta_norm below 0.4, above 0.6."""


class Score(NamedTuple):
    """Counts, so that they add up over seeds."""

    found: Bool[Tensor, "sides planted"]
    """Planted features with a latent that is called exclusive for their side."""
    right: int
    """Latents called exclusive that are a planted feature of their side."""
    called: int


def call(made: Dictionary, x: Float[Tensor, "tokens sides d"]) -> Called:
    """Classify every latent on tokens that were not trained on."""
    codes = made.encode(x)
    x_hat = made.decode(codes)
    delta = delta_norm(*made.norms.T).nan_to_num(0.5)
    alive = (codes > 0).sum(0) >= MIN_FIRINGS
    norms = torch.stack([delta < CUTS[0], delta > CUTS[3]]) & alive
    leaning = torch.stack([delta < CUTS[1], delta > CUTS[2]]) & alive
    absent = torch.zeros_like(leaning)
    for side, order in enumerate(([1, 0], [0, 1])):  # scales are other side over own side
        some = leaning[side].nonzero(as_tuple=True)[0]
        if not len(some):
            continue
        decoder = made.decoder[some][:, order]
        scaling = LatentScaling(decoder[:, 1])
        scaling.update(x[:, order], x_hat[:, order], codes[:, some], decoder)
        nu = scaling.value()
        absent[side, some] = (nu.nu_eps < ABSENT[0]) & (nu.nu_r < ABSENT[1])
    return Called(norms, norms & absent, absent)


def score(
    made: Dictionary,
    called: Bool[Tensor, "sides latents"],
    exclusive: Float[Tensor, "sides planted d"],
) -> Score:
    """Against the planted directions."""
    own = torch.nn.functional.normalize(made.decoder, dim=2).transpose(0, 1)
    match = torch.einsum("sld,spd->slp", own, exclusive) >= ALIKE
    match &= called[:, :, None]
    return Score(match.any(1), int(match.any(2).sum()), int(called.sum()))


def scores(
    made: Dictionary,
    x: Float[Tensor, "tokens sides d"],
    exclusive: Float[Tensor, "sides planted d"] | None,
) -> list[Score]:
    """One per rule, in the order of ``RULES``; with nothing planted every call is wrong."""
    known = torch.zeros(2, 0, made.d) if exclusive is None else exclusive
    return [score(made, called, known) for called in call(made, x)]


def rates(found: list[Score]) -> tuple[float, float]:
    """Recall and precision over the scores of one rule; NaN where nothing was planted or called."""
    planted = sum(s.found.numel() for s in found)
    called = sum(s.called for s in found)
    recall = sum(int(s.found.sum()) for s in found) / planted if planted else math.nan
    return recall, sum(s.right for s in found) / called if called else math.nan


def shown(rate: float) -> str:
    return "-" if math.isnan(rate) else f"{rate:.2f}"
