"""Ways to measure inner change: columns of the store, their names and units. No Streamlit."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lib.ui.verdicts import listed


class Inner(NamedTuple):
    """One way to measure inner change: a column of ``store.read.axes`` and how it is named."""

    column: str
    label: str
    title: str
    unit: str
    bounded: bool = True
    """Whether the store has ``*_low`` and ``*_high`` of the column."""
    start: float = 0.0
    """The value of no change."""
    interval: str = "at the layer shown; the choice of that layer is not in it"
    """What the interval holds besides the error over documents."""


CutSource = Literal["medians", "nulls"]

INNER = {
    "ratio": Inner(
        "ratio", "peak reconstruction ratio",
        "inner change: peak cross / self reconstruction error, held-out (1 = none)",
        "cross / self error", start=1.0,
        interval="with the choice of the depth: each resample of the documents takes its own peak",
    ),
    "centred": Inner(
        "ratio_centred", "centred ratio at that depth",
        "inner change: cross / self error without the mean shift (1 = none)",
        "cross / self error", False, 1.0,
    ),
    "excess": Inner(
        "excess_fvu", "excess FVU at the peak",
        "inner change: (cross - self error) / variance at the peak (0 = none)",
        "share of variance",
    ),
    "displacement": Inner(
        "displacement", "largest CKA displacement",
        "inner change: largest 1 - CKA of all layers (0 = none)", "1 - CKA",
    ),
    "moved": Inner(
        "moved", "largest relative displacement",
        "inner change: largest rms of change / rms of base of all layers (0 = none)",
        "rms of change / rms of base",
    ),
}  # fmt: skip


def interval(inner: Inner, without: Sequence[str] = (), lacking: Sequence[str] = ()) -> str:
    """What the interval of the inner axis holds, in words.

    Args:
        without: names of experiments whose store holds no resampled peak.
        lacking: names of experiments whose store holds no interval of this metric.
    """
    if not inner.bounded:
        return "not measured"
    text = f"95 % over documents, {inner.interval}{missing(lacking)}"
    if inner.column != "ratio" or not without:
        return text
    return f"{text} (of {listed(without)}: at that depth alone)"


def missing(lacking: Sequence[str]) -> str:
    """Words behind what an interval holds; empty where every experiment has one."""
    return f"; none was measured of {listed(list(lacking))}" if lacking else ""


OPINIONS = ("ratio", "displacement", "moved")
"""Inner metrics whose labels are compared: one with dictionaries, two without."""
