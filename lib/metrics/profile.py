"""Where in a model's depth the change lies: numbers of a whole profile over layers."""

import numpy as np
from jaxtyping import Float

from lib.metrics.shapes import refuse_shape
from lib.metrics.shares import late_share

MID = (0.4, 0.6)
"""Relative depth (layer / layers) of the middle layers, both ends included."""


def late_start(n_layers: int) -> int:
    """First of the last 30 % of layers, counted from 0: ceil(0.7 L), in whole numbers.

    Equal to ``n_layers`` where a model has too few layers to have a late part.

    Raises:
        ValueError: there is no layer.
    """
    if n_layers < 1:
        raise ValueError(f"{n_layers} layers have no late part: give a model's number of layers")
    return -(-7 * n_layers // 10)


def late_part(displacement: Float[np.ndarray, "draws layers"]) -> Float[np.ndarray, " draws"]:
    """``late_share`` of the last 30 % of layers; NaN for a model without such layers.

    Raises:
        ValueError: no draws x layers.
    """
    refuse_shape("the late part", 2, displacement=displacement)
    start = late_start(displacement.shape[1])
    if not 0 < start < displacement.shape[1]:
        return np.full(len(displacement), np.nan)
    return late_share(displacement, start)


def late_minus_mid(displacement: Float[np.ndarray, "draws layers"]) -> Float[np.ndarray, " draws"]:
    """Mean displacement of the last 30 % of layers minus that of the middle ones (``MID``).

    In [-1, 1] for 1 - CKA; 0 = the change is no larger late than in the middle. NaN for a model that
    lacks one of the two parts.

    Raises:
        ValueError: no draws x layers.
    """
    refuse_shape("late minus middle", 2, displacement=displacement)
    n_layers = displacement.shape[1]
    depth = np.arange(n_layers) / n_layers
    middle = displacement[:, (depth >= MID[0]) & (depth <= MID[1])]
    late = displacement[:, late_start(n_layers) :]
    if not middle.shape[1] or not late.shape[1]:
        return np.full(len(displacement), np.nan)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        found = late.mean(1) - middle.mean(1)
    return np.where(np.isfinite(found), found, np.nan)
