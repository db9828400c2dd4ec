"""How the mean difference grows on the way from base to tuned: the adapter at parts of its strength."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.lens.pairs import Sample, compare, inner
from lib.lens.streams import streams
from lib.models import LoadedModel
from lib.models.scaling import reaches_base, scaled_adapter

SCALES = (0.25, 0.5, 0.75)


class Growth(NamedTuple):
    """Of one position; row 0 is the estimate, the others are resamples of the texts."""

    slope: Float[np.ndarray, " rows"]
    """Of log |mean difference| on log strength: 1 = twice the strength, twice the difference."""
    cosine: Float[np.ndarray, " rows"]
    """Between the mean differences at the smallest strength and at full strength."""


def differences_at(
    loaded: LoadedModel,
    ids: Int[Tensor, "texts seq"],
    layer: int,
    *,
    scales: Sequence[float] = SCALES,
    batch: int = 32,
) -> dict[float, Float[np.ndarray, "texts seq d"]]:
    """Tuned - base after block ``layer`` with the adapter at each strength, BOS included.

    Empty where the adapter cannot be scaled down to the base (it also replaces weights).
    """
    if not reaches_base(loaded):
        return {}
    with loaded.as_base():
        base = _stream(loaded, ids, layer, batch)
    found = {}
    for scale in scales:
        with scaled_adapter(loaded, scale):
            found[scale] = (_stream(loaded, ids, layer, batch) - base).numpy()
    return found


def growth(parts: dict[float, Sample], full: Sample) -> Growth:
    """Slope and direction along the strengths; NaN where one of the differences is only noise."""
    squares = [*(inner(part, part) for part in parts.values()), inner(full, full)]
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = np.log(np.where(np.stack(squares) > 0, np.stack(squares), np.nan)) / 2
    at = np.log([*parts, 1.0])
    at = at - at.mean()
    return Growth(
        slope=(at[:, None] * lengths).sum(0) / np.square(at).sum(),
        cosine=compare(parts[min(parts)], full).cosine,
    )


def _stream(loaded: LoadedModel, ids: Tensor, layer: int, batch: int) -> Tensor:
    found = streams(loaded, ids, [layer], batch)
    return torch.cat([part[layer].double().cpu() for part in found])
