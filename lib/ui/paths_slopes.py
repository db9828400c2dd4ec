"""Slopes of a scale path against the small-change law, in numbers and words. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from lib.metrics.paths import LAWS, Departure, Slope, departure, slope
from lib.ui.paths_points import Asked, Traced

FULL = 1.0
"""Slopes are taken up to the adapter as it was trained; beyond is an exaggeration of it."""


class Fit(NamedTuple):
    near: Slope
    """Of the two smallest points."""
    whole: Slope
    """Up to ``FULL``."""
    bend: Departure


def slopes(points: pl.DataFrame, column: str) -> dict[str, Fit]:
    """Of one scale path: ``kl`` and the inner metric's column.

    Args:
        points: columns value, x*, y*.
        column: of the inner metric, a key of ``LAWS``.
    """
    rows = points.filter(pl.col("value") > 0).sort("value")
    made = {}
    for name, axis in (("kl", "y"), (column, "x")):
        wanted = ["value", axis, f"{axis}_low", f"{axis}_high"]

        def lists(part: pl.DataFrame, columns: list[str] = wanted) -> list[list[float]]:
            return [part[c].to_list() for c in columns]

        near = rows.filter(pl.col(axis) > 0).head(2)
        made[name] = Fit(
            slope(*lists(near)),
            slope(*lists(rows.filter(pl.col("value") <= FULL))),
            departure(*lists(rows), LAWS[name]),
        )
    return made


def against_law(traced: Traced, asked: Asked, found: Mapping[str, Fit]) -> str:
    """One line: both slopes of a scale path beside the law's."""
    near = traced.points.filter(pl.col("value") > 0)["value"].head(2).to_list()
    between = " to ".join(f"{v:g}" for v in near)
    said = []
    for name, (first, whole, bend) in found.items():
        label = "KL" if name == "kl" else asked.label
        said.append(
            f"{label} {slope_words(first)} from {between}, {slope_words(whole)} up to "
            f"{FULL:g}, law {LAWS[name]}{bend_words(bend)}"
        )
    return f"- **{traced.name}, slope against s:** {'; '.join(said)}."


def slope_words(found: Slope) -> str:
    """``1.95 (95 % 1.8 to 2.1)``."""
    if found.value is None:
        return f"**not defined because** {found.why}"
    if found.low is None:
        return f"{found.value:.2f} (no interval: {found.why})"
    return f"{found.value:.2f} (95\u00a0% {found.low:.2f} to {found.high:.2f})"


def bend_words(found: Departure) -> str:
    if not found.tested:
        return ""
    if found.at is None:
        return ", never left within its intervals"
    return f", left at {found.at:g} ({found.factor:.2g} times what the law gives)"


def table(found: Sequence[Traced], asked: Asked) -> pl.DataFrame:
    """Slopes of scale paths, one row per path, quantity and range."""
    rows = []
    for traced in found:
        for name, (near, whole, bend) in slopes(traced.points, asked.column).items():
            label = "KL" if name == "kl" else asked.label
            for over, one in (("two smallest", near), (f"up to {FULL:g}", whole)):
                rows.append({
                    "name": traced.name, "quantity": label, "over": over, "n": one.n,
                    "slope": one.value, "slope_low": one.low, "slope_high": one.high,
                    "law": LAWS[name], "left": bend.at, "factor": bend.factor, "why": one.why or None,
                })  # fmt: skip
    numbers = ("slope", "slope_low", "slope_high", "left", "factor")
    kinds = dict.fromkeys(numbers, pl.Float64) | {"why": pl.String}
    return pl.DataFrame(rows, schema_overrides=kinds, infer_schema_length=None)
