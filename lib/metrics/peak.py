"""The largest ratio over layers, with an interval that knows that the layer was chosen."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lib.metrics.intervals import DRAWS, bootstrap, resample_counts
from lib.metrics.reconstruction import error_sums, ratio_of_sums


class Peak(NamedTuple):
    """The largest ratio over layers."""

    value: float
    low: float | None
    """95 % interval over documents, each resample with its own maximum; None with fewer than two."""
    high: float | None
    shares: Float[np.ndarray, " layers"] | None
    """Share of the resamples in which each layer is the peak; they sum to 1."""


def peak_ratio(
    layers: list[tuple[Tensor, Tensor, Tensor]],
    groups: Shaped[Tensor, " tokens"] | Sequence[Shaped[Tensor, " _"]],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Peak:
    """Largest ratio over layers, its interval including the choice of the layer.

    A maximum is biased upwards by noise; each resample therefore takes its own maximum, over all
    layers of the same drawn documents.

    Args:
        layers: (x_tuned, from_base, from_tuned), one entry per layer.
        groups: document of each token, of all layers or one entry per layer where layers measure
            different tokens of the same documents.

    Raises:
        ValueError: no layers, or as for ``cross_ratio`` in any of them.
    """
    if not layers:
        raise ValueError("peak_ratio: no layers were given")
    of_layer = [groups] * len(layers) if isinstance(groups, Tensor) else groups
    if len(of_layer) != len(layers):
        raise ValueError(
            f"peak_ratio: {len(layers)} layers have {len(of_layer)} lists of documents; give one of "
            "each layer's tokens, or one for all"
        )
    documents = torch.cat(list(of_layer)).unique().cpu().numpy()
    tables = [
        error_sums(*layer, own, documents) for layer, own in zip(layers, of_layer, strict=True)
    ]
    return peak_of_sums(np.stack(tables, axis=1), draws, seed, level)


def peak_of_sums(
    sums: Float[np.ndarray, "documents layers 3"],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Peak:
    """``peak_ratio`` from each layer's ``error_sums``, so that layers need not be in memory at once.

    Raises:
        ValueError: no sums of documents x layers x 3, totals that are not finite, or a layer without
            variance.
    """
    if sums.ndim != 3 or sums.shape[2] != 3 or 0 in sums.shape:
        raise ValueError(
            f"peak_of_sums: sums have shape {sums.shape}, not (documents, layers, 3) with one or more "
            "of each"
        )
    documents, layers, _ = sums.shape
    still = np.flatnonzero(sums[..., 2].sum(0) <= 0)
    if len(still):
        raise ValueError(
            f"peak_of_sums: layer {still[0]} of {layers} has no variance to explain; leave it out"
        )

    def ratios(totals: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows layers"]:
        by_layer = totals.reshape(len(totals), layers, 3)
        return ratio_of_sums(by_layer[..., 0], by_layer[..., 1], by_layer[..., 2])

    flat = sums.reshape(documents, -1)
    peak = bootstrap(
        lambda totals: ratios(totals).max(1), flat, draws=draws, seed=seed, level=level
    )
    if documents < 2:
        return Peak(*peak, None)
    drawn = ratios(resample_counts(documents, draws, seed) @ flat).argmax(1)
    return Peak(*peak, np.bincount(drawn, minlength=layers) / draws)
