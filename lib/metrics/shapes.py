"""What no metric takes, as far as it shows without torch: other shapes, impossible levels, overflow."""

import math
from typing import Any

import numpy as np

_AXES = {
    1: "one number each",
    2: "(tokens, d); reshape it, one row a token",
    3: "(latents or tokens, sides, d)",
}


def refuse_shape(what: str, axes: int, **values: Any) -> None:
    """
    Raises:
        ValueError: a tensor, array or sequence with another number of axes; says which one.
    """
    for name, value in values.items():
        shape = tuple(np.shape(value))
        if len(shape) != axes:
            raise ValueError(
                f"{what} is not defined because {name} has shape {shape}, not {axes} "
                f"{'axis' if axes == 1 else 'axes'}: {_AXES[axes]}"
            )


def refuse_other_length(what: str, n: int, **values: Any) -> None:
    """
    Raises:
        ValueError: not one entry for each of the ``n`` things, or not one axis.
    """
    refuse_shape(what, 1, **values)
    for name, value in values.items():
        if len(value) != n:
            raise ValueError(
                f"{what} is not defined because {name} has {len(value)} entries for {n}; give one each"
            )


def refuse_level(level: float | int) -> None:
    """
    Raises:
        ValueError: a level of confidence or significance outside 0..1, ends excluded, or NaN.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, such as 0.95; got {level}")


def refuse_overflow(what: str, **numbers: float) -> None:
    """
    Raises:
        ValueError: a result that left float64, although everything that went in was finite.
    """
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ValueError(
                f"{what} is not defined because {name} overflows float64 ({number}); "
                "scale both views by one factor first"
            )
