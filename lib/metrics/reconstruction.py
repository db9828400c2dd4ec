"""Does the base model's dictionary still explain the tuned model? Cross-reconstruction."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lib.metrics.inputs import refuse_out_of_reach, refuse_unusable
from lib.metrics.intervals import DRAWS, bootstrap, sums_by_group

FLOOR = 1e-4
"""Errors below this share of the variance count as this share, so a ratio never exceeds 1e4."""


class CrossRatio(NamedTuple):
    """All dimensionless; errors are squared, averaged over tokens and summed over coordinates."""

    ratio: float
    """cross error / self error (definition A), in [1e-4, 1e4] unless the cross error exceeds the
    variance; 1 = the base dictionary does as well."""
    excess_fvu: float
    """(cross - self) / variance: bounded by what there is to explain, no small denominator."""
    fve_self: float
    fve_cross: float
    bound: float
    """1 / (1 - fve_self): the ratio that predicting the mean would score."""


class RatioIntervals(NamedTuple):
    """95 % intervals over documents; None when there are fewer than two."""

    ratio_low: float | None
    ratio_high: float | None
    excess_low: float | None
    excess_high: float | None


def fve(x: Float[Tensor, "tokens d"], x_hat: Float[Tensor, "tokens d"]) -> float:
    """Fraction of variance explained: 1 - E|x - x_hat|^2 / E|x - mean|^2.

    At most 1; 0 for predicting the mean; negative for doing worse than that.

    Raises:
        ValueError: x is constant over tokens, shapes differ, values are not finite.
    """
    refuse_unusable("explained variance", same_width=True, axes=2, x=x, x_hat=x_hat)
    refuse_out_of_reach("explained variance", x=x, x_hat=x_hat)
    return 1.0 - float(_squares(x, x_hat).mean()) / _variance(x)


def cross_ratio(
    x_tuned: Float[Tensor, "tokens d"],
    from_base: Float[Tensor, "tokens d"],
    from_tuned: Float[Tensor, "tokens d"],
) -> CrossRatio:
    """Definition A: error of the base model's SAE on tuned activations over the tuned SAE's error.

    Only meaningful on tokens that neither dictionary was trained on: in-sample the self error is
    small for reasons of overfitting alone. Both errors are floored at ``FLOOR`` times the variance,
    so equal reconstructions give exactly 1, perfect ones included.

    Args:
        x_tuned: activations of the tuned model.
        from_base: their reconstruction by the dictionary trained on base activations.
        from_tuned: their reconstruction by the dictionary trained on tuned activations.

    Raises:
        ValueError: x_tuned is constant over tokens, shapes differ, values are not finite.

    Source: our reading of the unpublished peak cross-reconstruction ratio; floor and bound ours.
    """
    _check(x_tuned, from_base, from_tuned)
    variance = _variance(x_tuned)
    errors = [float(_squares(x_tuned, hat).mean()) for hat in (from_base, from_tuned)]
    floor = FLOOR * variance
    cross, own = errors
    return CrossRatio(
        ratio=max(cross, floor) / max(own, floor),
        excess_fvu=(cross - own) / variance,
        fve_self=1.0 - own / variance,
        fve_cross=1.0 - cross / variance,
        bound=variance / max(own, floor),
    )


def bootstrap_ratio(
    x_tuned: Float[Tensor, "tokens d"],
    from_base: Float[Tensor, "tokens d"],
    from_tuned: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> RatioIntervals:
    """Intervals of ``ratio`` and ``excess_fvu`` by resampling documents (``groups``).

    Variance is resampled too, around the mean of all tokens: that mean moves far less than the
    errors.

    Raises:
        ValueError: as for ``cross_ratio``, or not one document per token.
    """
    _check(x_tuned, from_base, from_tuned, groups)
    table = _error_table(x_tuned, from_base, from_tuned)
    sums = sums_by_group(table, groups.cpu().numpy())
    settings = {"draws": draws, "seed": seed, "level": level}
    ratio = bootstrap(lambda t: ratio_of_sums(t[:, 0], t[:, 1], t[:, 2]), sums, **settings)
    excess = bootstrap(lambda t: (t[:, 0] - t[:, 1]) / t[:, 2], sums, **settings)
    return RatioIntervals(ratio.low, ratio.high, excess.low, excess.high)


def error_sums(
    x_tuned: Float[Tensor, "tokens d"],
    from_base: Float[Tensor, "tokens d"],
    from_tuned: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    documents: Shaped[np.ndarray, " documents"],
) -> Float[np.ndarray, "documents 3"]:
    """Squared cross error, self error and deviation from the mean, summed over each document.

    Raises:
        ValueError: as for ``cross_ratio``, or not one document per token.
    """
    _check(x_tuned, from_base, from_tuned, groups)
    return sums_by_group(
        _error_table(x_tuned, from_base, from_tuned), groups.cpu().numpy(), documents
    )


def _check(
    x_tuned: Tensor, from_base: Tensor, from_tuned: Tensor, groups: Tensor | None = None
) -> None:
    views = {"x_tuned": x_tuned, "from_base": from_base, "from_tuned": from_tuned}
    what = "the cross-reconstruction ratio"
    refuse_unusable(what, same_width=True, axes=2, groups=groups, **views)
    refuse_out_of_reach(what, **views)


def ratio_of_sums(
    cross: Float[np.ndarray, "*rows"],
    own: Float[np.ndarray, "*rows"],
    variance: Float[np.ndarray, "*rows"],
) -> Float[np.ndarray, "*rows"]:
    """``cross_ratio``'s ratio from ``error_sums`` of any selection of documents."""
    return np.maximum(cross, FLOOR * variance) / np.maximum(own, FLOOR * variance)


def _error_table(x: Tensor, from_base: Tensor, from_tuned: Tensor) -> Float[np.ndarray, "tokens 3"]:
    """Squared cross error, self error and deviation from the mean, per token."""
    _variance(x)
    mean = x.double().mean(0, keepdim=True).expand(x.shape)
    columns = [_squares(x, hat) for hat in (from_base, from_tuned, mean)]
    return torch.stack(columns, dim=1).cpu().numpy()


def _squares(
    x: Float[Tensor, "tokens d"], x_hat: Float[Tensor, "tokens d"]
) -> Float[Tensor, " tokens"]:
    return (x.double() - x_hat.double()).square().sum(1)


def _variance(x: Float[Tensor, "tokens d"]) -> float:
    if not len(x):
        raise ValueError(
            "reconstruction of no tokens is undefined; check that the text is not empty"
        )
    wide = x.double()
    variance = float((wide - wide.mean(0)).square().sum(1).mean())
    if not variance > 1e-24 * float(wide.square().sum(1).mean()):
        raise ValueError(
            f"activations are constant over their {len(x)} tokens, so there is no variance to "
            "explain; drop that layer"
        )
    return variance
