"""What the paths show, in words. Pure: numbers in, markdown out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from lib.metrics.paths import crossing
from lib.ui.paths_points import VARIED, Asked, Traced
from lib.ui.paths_slopes import FULL
from lib.ui.verdicts import number

_FIRST = "from the first value"
_ORDERS = {
    "inner first": "the output stays low while the inner rises: **delayed**",
    "outer first": "the output rises while the inner is still low",
    _FIRST: "**both are high from the first value on**, so the path shows no order",
    "together": "**both rise together**, at the resolution of this path",
    "inner only": "the inner rises and **the output never does**",
    "outer only": "the output rises and the inner never does",
    "neither": "neither rises above its cut",
    "undecided": "which axis is first is **undecided**",
}
_SHORT = {
    "inner first": "delayed output",
    "inner only": "inner change alone",
    "together": "both together",
    _FIRST: "no order seen",
    "outer first": "output first",
    "outer only": "output alone",
    "neither": "neither",
    "undecided": "undecided",
}


def course(traced: Traced, asked: Asked, text: str) -> str:
    """One line: does the output stay low while the inner rises?"""
    name, points, varied = traced.name, traced.points, VARIED[asked.path]
    counts = f"n = {points['documents'].max()} documents, {len(points)} points"
    if traced.course is None:
        ends = [_both(points.row(at, named=True), varied.form) for at in (0, -1)]
        why = "" if traced.cuts else " No cuts: this model has no null controls of this metric."
        return f"- **{name}:** from {ends[0]} to {ends[1]} ({counts}).{why}"
    found = traced.course
    said = _ORDERS[_kind(traced)]
    told = [
        _first(points, found.inner, "x", asked.label, varied.form),
        _first(points, found.outer, "y", f"KL on {text}", varied.form),
    ]
    return f"- **{name}:** {said}. {told[0]}. {told[1]}. {counts}."


def _kind(traced: Traced) -> str:
    """The order of the course, or that both axes are high wherever there is an adapter at all."""
    assert traced.course is not None
    above = [v for v in traced.points["value"] if v > 0]
    if traced.course.order == "together" and above and traced.course.inner == above[0]:
        return _FIRST
    return traced.course.order


def summary(found: Sequence[Traced]) -> str:
    """How many paths have which course; empty without cuts, or for a single path."""
    orders = [_kind(traced) for traced in found if traced.course is not None]
    if len(orders) < 2:
        return ""
    counts = [f"{_SHORT[order]} in {orders.count(order)}" for order in _SHORT if order in orders]
    return f"Of {number(len(orders))} paths: {', '.join(counts)}."


def remedy(name: str, neutral: pl.DataFrame, scales: pl.DataFrame, asked: Asked) -> str:
    """What neutral text in training changes, also at equal learning of the corpus.

    Args:
        neutral: one mixing path on neutral text, columns value, documents, x*, y*, offset_share, and
            nll_corpus, base_corpus: loss on held-out corpus text of the tuned and the base model.
        scales: the same experiment's scale path on neutral text, the same columns; may be empty.
    """
    if len(neutral) < 2:
        return f"- **{name}:** one mixture only, so nothing to compare."
    plain, mixed = neutral.row(0, named=True), neutral.row(-1, named=True)
    learned = [row["base_corpus"] - row["nll_corpus"] for row in (plain, mixed)]
    kept = (
        f"{100 * learned[1] / learned[0]:.0f}\u00a0% of the fall in loss on held-out corpus text "
        f"is kept ({learned[0]:.3g} to {learned[1]:.3g} nats, no interval)"
        if learned[0] > 0
        else "the adapter does not lower the loss on held-out corpus text, so no share of it is kept"
    )
    offsets = [f"{100 * row['offset_share']:.0f}" for row in (plain, mixed)]
    moved = (
        f"{asked.label} **{_change(plain, mixed, 'x')}**; offset share {offsets[0]} to {offsets[1]}"
    )
    return (
        f"- **{name}, {plain['value']:g} to {mixed['value']:g} parts of neutral text:** KL on neutral "
        f"text **{_change(plain, mixed, 'y')}**; {moved}\u00a0%; {kept}."
        f"{_equal(mixed, scales, asked)} n = {mixed['documents']} documents of each text."
    )


def _change(plain: Mapping[str, Any], mixed: Mapping[str, Any], axis: str) -> str:
    """Falls, rises, or cannot be told; intervals that overlap decide nothing."""
    low, high = f"{axis}_low", f"{axis}_high"
    ends = [row[end] for row in (plain, mixed) for end in (low, high)]
    verb = "does not clearly change"
    if None not in ends:
        verb = (
            "falls" if mixed[high] < plain[low] else "rises" if mixed[low] > plain[high] else verb
        )
    return f"{verb}: {_value(plain, axis)} to {_value(mixed, axis)}"


def _equal(mixed: Mapping[str, Any], scales: pl.DataFrame, asked: Asked) -> str:
    """The unmixed adapter, weakened until it has learned as much of the corpus."""
    rows = scales.filter(pl.col("value") <= FULL).sort("value")
    s, losses = rows["value"].to_list(), rows["nll_corpus"].to_list()
    at = crossing(s, losses, mixed["nll_corpus"])
    if at is None:
        return ""
    y, x = (float(np.interp(at, s, rows[axis])) for axis in "yx")
    return (
        f" At equal learning, which the unmixed adapter has at scale {at:.2f}: KL on neutral text "
        f"{mixed['y']:.3g} mixed against {y:.3g}, {asked.label} {mixed['x']:.3g} against {x:.3g} "
        "(between points, no interval)."
    )


def _value(row: Mapping[str, Any], axis: str) -> str:
    low, high = row[f"{axis}_low"], row[f"{axis}_high"]
    span = "" if low is None or high is None else f" (95\u00a0% {low:.3g} to {high:.3g})"
    return f"{row[axis]:.3g}{span}".replace("-", "\u2212")


def _both(row: Mapping[str, Any], form: str) -> str:
    return f"inner {_value(row, 'x')}, outer {_value(row, 'y')} nats at {form.format(row['value'])}"


def _first(points: pl.DataFrame, at: float | None, axis: str, label: str, form: str) -> str:
    if at is None:
        last = points.row(-1, named=True)
        end = form.format(last["value"])
        return (
            f"{label[0].upper()}{label[1:]} is nowhere decided high: {_value(last, axis)} at {end}"
        )
    row = points.filter(value=at).row(0, named=True)
    before = points.filter(pl.col("value") < at)
    was = ""
    if len(before) and before["value"][-1] > 0:
        was = f", just before {_value(before.row(-1, named=True), axis)}"
    return f"{label[0].upper()}{label[1:]} is high from {form.format(at)}: {_value(row, axis)}{was}"
