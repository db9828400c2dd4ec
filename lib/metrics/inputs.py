"""What no metric takes: values that are not finite, other shapes, views of other tokens.

Torch would broadcast one token against many, and NaN would pass through a maximum as a number.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lib.metrics.shapes import refuse_shape


def refuse_unusable(
    what: str,
    *,
    same_width: bool = False,
    axes: int | None = None,
    groups: Shaped[Tensor, " _"] | None = None,
    **views: Tensor,
) -> None:
    """Check that views of the same tokens can be measured together.

    Args:
        what: the measure, to begin the message with.
        same_width: whether the views must also agree in every further axis.
        axes: how many axes each view must have; None = any number but 0.
        groups: document of each token.

    Raises:
        ValueError: other axes, unequal numbers of tokens (or shapes), NaN or infinity; names view
            and token.
    """
    first, *others = views.items()
    for name, view in views.items():
        if axes is not None or view.ndim == 0:
            refuse_shape(what, axes or 1, **{name: view})
    for name, view in others:
        if len(view) != len(first[1]) or (same_width and view.shape != first[1].shape):
            raise ValueError(
                f"{what} is not defined because {first[0]} {tuple(first[1].shape)} and {name} "
                f"{tuple(view.shape)} do not pair up; take both from the same tokens of one harvest"
            )
    if groups is not None:
        refuse_shape(what, 1, groups=groups)
        if len(groups) != len(first[1]):
            raise ValueError(
                f"{what} is not defined because {len(first[1])} tokens have {len(groups)} documents; "
                "give the document of each token"
            )
    for name, view in views.items():
        refuse_not_finite(what, name, view)


def refuse_not_finite(what: str, name: str, view: Tensor | np.ndarray) -> None:
    """
    Raises:
        ValueError: NaN or infinity; names the first row that has one.
    """
    good = torch.isfinite(torch.as_tensor(view))
    if good.all():
        return
    row = f" at row {int((~good).nonzero()[0, 0])}" if good.ndim else ""
    raise ValueError(
        f"{what} is not defined because {name} is not finite{row} (NaN or infinity); "
        "run the model in float32 and harvest again"
    )


def refuse_out_of_reach(what: str, **views: Tensor) -> None:
    """For sums of squares that are wanted in the values' own unit, so that scaling is no way out.

    Raises:
        ValueError: values so large, or all of them so small, that their squares are no float64.
    """
    for name, view in views.items():
        largest = float(view.abs().max()) if view.numel() else 0.0
        if largest and not 1e-140 < largest < 1e140:
            raise _reach(what, name, largest)


def exactly_scaled(
    *views: Float[Tensor, "..."], by: Float[Tensor, "..."] | None = None
) -> tuple[Tensor, ...]:
    """Views over one power of two, the size of the largest value, in float64.

    Powers of two round nothing, so what does not depend on the scale is the same to the last bit; but
    no product of values within float64 leaves it any more.

    Args:
        by: the view that sets the factor; None = all of them together.
    """
    wide = [view.double() for view in views]
    power = exponent(*((by,) if by is not None else wide))
    return tuple(torch.ldexp(view, torch.tensor(-power)) for view in wide)


def exponent(*views: Float[Tensor, "..."]) -> int:
    """Of the power of two next above the largest absolute value; 0 where all are 0."""
    largest = max((float(view.abs().max()) for view in views if view.numel()), default=0.0)
    return math.frexp(largest)[1]


def _reach(what: str, name: str, largest: float) -> ValueError:
    size = "large" if largest > 1 else "small"
    return ValueError(
        f"{what} is not defined because the values of {name} (up to {largest:.3g}) are too {size} for "
        "their squares in float64; scale all views by one factor first"
    )
