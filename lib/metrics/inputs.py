"""What no metric takes: values that are not finite, and views that do not come from the same tokens.

Torch would broadcast one token against many, and NaN would pass through a maximum as a number.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor


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
        axes: how many axes each view must have; None = any number.
        groups: document of each token.

    Raises:
        ValueError: other axes, unequal numbers of tokens (or shapes), NaN or infinity; names view
            and token.
    """
    first, *others = views.items()
    for name, view in views.items():
        if axes is not None and view.ndim != axes:
            raise ValueError(
                f"{what} is not defined because {name} has shape {tuple(view.shape)}, not {axes} "
                "axes (tokens, d); reshape it, one row a token"
            )
    for name, view in others:
        if len(view) != len(first[1]) or (same_width and view.shape != first[1].shape):
            raise ValueError(
                f"{what} is not defined because {first[0]} {tuple(first[1].shape)} and {name} "
                f"{tuple(view.shape)} do not pair up; take both from the same tokens of one harvest"
            )
    if groups is not None and len(groups) != len(first[1]):
        raise ValueError(
            f"{what} is not defined because {len(first[1])} tokens have {len(groups)} documents; "
            "give the document of each token"
        )
    for name, view in views.items():
        refuse_not_finite(what, name, view)


def refuse_not_finite(what: str, name: str, view: Tensor) -> None:
    """
    Raises:
        ValueError: NaN or infinity; names the first row that has one.
    """
    if torch.isfinite(view).all():
        return
    row = int((~torch.isfinite(view)).nonzero()[0, 0])
    raise ValueError(
        f"{what} is not defined because {name} is not finite at row {row} (NaN or infinity); "
        "run the model in float32 and harvest again"
    )
