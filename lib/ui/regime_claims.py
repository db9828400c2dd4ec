"""What labels, cuts and null controls are worth, in words. Pure: numbers in, markdown out."""

from collections.abc import Mapping, Sequence

import polars as pl

from lib.figures.scatter import Cuts
from lib.metrics.support import Judgement
from lib.ui.inner import CutSource, Inner, interval, missing
from lib.ui.nulls import Reach
from lib.ui.verdicts import listed

NEAR = (
    "within a factor 1.28 of a cut, both counted from no change: of a ratio, (ratio \u2212 1) / "
    "(cut \u2212 1)"
)
"""What lies too near a cut to be on one side of it."""


def regimes(
    points: pl.DataFrame,
    cuts: Sequence[Cuts],
    judgements: Mapping[str, Judgement],
    source: str,
) -> str:
    """How many points each regime has, which axes are undecided, and what the cuts are worth."""
    counts = points.group_by("regime").len("n").sort("n", "regime", descending=[True, False])
    counted = ", ".join(f"{n} {name}" for name, n in counts.iter_rows())
    if not cuts:
        why = "two corpora" if source == "medians" else "null controls of this inner metric"
        return f"{counted}: no cuts, because no model here has {why}."
    bare = sorted(set(points["model"]) - {cut.label for cut in cuts})
    if bare:
        lack = "two corpora" if source == "medians" else "null controls of this inner metric"
        counted += f" ({listed(bare)}: no cuts without {lack})"
    worth = (
        "The dotted cuts are medians within the model, so they always put as many corpora above as "
        "below (of an odd number the middle one lies on its cut): high and low are ranks here. "
        "Whether a change is more than chance is a question for null controls."
        if source == "medians"
        else "The dotted cuts are the 95 % points of the null controls of each model (outer: at "
        "least 0.02 nats): high means more than chance gives, and nothing about the others."
    )
    return f"Regimes: {counted}. {undecided(points, judgements)}{worth}"


def undecided(points: pl.DataFrame, judgements: Mapping[str, Judgement]) -> str:
    """Which points are undecided on which axis; empty when every label is decided."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, experiment_id in points.select("name", "experiment_id").iter_rows():
        axes = judgements[experiment_id].undecided
        if axes:
            groups.setdefault(axes, []).append(name)
    if not groups:
        return ""
    said = [
        f"{listed(names)} on {'both axes' if len(axes) == 2 else f'the {axes[0]} axis'}"
        for axes, names in sorted(groups.items(), key=lambda item: (len(item[0]), item[0]))
    ]
    return (
        f"**Undecided: {'; '.join(said)}** ({NEAR}, or under 90 % of draws from the intervals on "
        "one side). "
    )


def opinions(table: pl.DataFrame) -> str:
    """Which labels change with the inner metric."""
    changed = table.filter(pl.col("opinion") == "metric-dependent")["name"].to_list()
    if changed:
        verb = "depends" if len(changed) == 1 else "depend"
        return (
            f"**Metric-dependent:** the label of {listed(changed)} {verb} on the inner metric "
            "(reconstruction ratio, CKA displacement, relative displacement)."
        )
    silent = table.filter(pl.col("opinion") == "none decides").height
    if silent == len(table):
        return "No inner metric decides a label, so none can contradict another."
    return "No label changes between reconstruction ratio, CKA displacement and displacement."


NULLS_MISSING = (
    "**Null controls are not measured yet** for this model and inner metric (the same measurement "
    "with another dictionary seed, or with a random adapter of the same size): nothing here says "
    "that a change is more than chance."
)


def nulls(
    reaches: Mapping[str, tuple[Reach | None, Reach | None]], source: CutSource = "nulls"
) -> str:
    """What the null controls of each model reach on both axes, with the number of draws.

    Args:
        reaches: by model, inner and outer.
        source: of the cuts, which few draws make rough only where they are made of null controls.
    """
    if all(inner is None for inner, _ in reaches.values()):
        return NULLS_MISSING
    said = [
        f"{model} inner {_reach(inner, 4)}, outer {_reach(outer, 2, ' nats')}"
        for model, (inner, outer) in reaches.items()
    ]
    told = f"Null controls (all draws of a model, grey in the figure): {'; '.join(said)}."
    if source == "medians":
        return told
    return f"{told} With fewer than 20 draws a cut is their largest, so such a cut is rough."


def _reach(reach: Reach | None, digits: int, unit: str = "") -> str:
    if reach is None:
        return "not measured"
    plural = "s" * (reach.draws != 1)
    ends = f"{reach.low:.{digits}g} to {reach.high:.{digits}g}".replace("-", "\u2212")
    return f"{ends}{unit} ({reach.draws} draw{plural})"


def intervals(runs: pl.DataFrame, inner: Inner) -> str:
    """What the bars of both axes are, and whose are missing, for the caption.

    Args:
        runs: of ``points.Measured``.
    """
    inside, outside = (_lacking(runs, axis) for axis in ("x", "y"))
    whole = runs.filter(~pl.col("name").is_in(inside))
    without = whole.filter(pl.col("peak_share").is_null())["name"].to_list()
    told = interval(inner, without, inside)
    if inner.bounded and len(inside) == len(runs):
        told = "none was measured"
    outer = f"95 % over documents{missing(outside)}"
    if len(outside) == len(runs):
        outer = "none was measured"
    return f"Interval of the inner axis: {told}. Of the outer axis: {outer}."


def _lacking(runs: pl.DataFrame, axis: str) -> list[str]:
    """Names of the experiments without an interval of this axis."""
    low, high = pl.col(f"{axis}_low"), pl.col(f"{axis}_high")
    return runs.filter(low.is_null() | high.is_null())["name"].to_list()
