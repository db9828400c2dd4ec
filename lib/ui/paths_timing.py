"""The course that a sweep adds to a label: was the output low at fewer steps, or at a lower rank?

No Streamlit. ``labelling.timed`` looks for the same among the experiments themselves.
"""

from collections.abc import Sequence

import polars as pl

from lib.figures.ground import Cuts
from lib.metrics.paths import Side
from lib.metrics.regimes import with_timing
from lib.ui import labelling, paths_points
from lib.ui.inner import INNER, Inner
from lib.ui.paths_points import INNERS, PEAK, Asked
from lib.ui.points import Measured

_OWN = {"checkpoint": "own_steps", "rank": "own_rank"}
"""Paths along which an adapter comes to be, and where on them the experiment stands."""


def shown(
    everything: Measured,
    chosen: pl.DataFrame,
    sweep: tuple[pl.DataFrame, pl.DataFrame],
    inner: Inner,
    text: str,
) -> Measured:
    """Some of the points with what belongs to them, their labels timed by ``timed``.

    Args:
        chosen: rows of ``everything.points``.
    """
    key = next(key for key, one in INNER.items() if one == inner)
    return everything._replace(
        courses=timed(everything, sweep, key, text),
        points=chosen,
        cuts=[cut for cut in everything.cuts if cut.label in set(chosen["model"])],
        runs=everything.runs.filter(pl.col("point").is_in(chosen["experiment_id"].implode())),
    )


def timed(
    found: Measured, sweep: tuple[pl.DataFrame, pl.DataFrame], key: str, text: str
) -> dict[str, str]:
    """``found.courses`` with those labels timed that had no course and whose experiment has paths.

    Args:
        found: points of every experiment, so that their cuts are those of the page.
        sweep: outputs and layers of ``lib.store.sweep``.
        key: inner metric of the points, of ``lib.ui.inner.INNER``.
        text: of the outer axis; paths have corpus and neutral text.
    """
    courses = dict(found.courses)
    points = dict(found.runs.select("experiment_id", "point").iter_rows())
    for experiment_id, sides in earlier(sweep, found.cuts, key, text).items():
        point = points.get(experiment_id)
        if point is not None and courses[point] == found.judgements[point].label:
            courses[point] = with_timing(courses[point], sides)
    return courses


def earlier(
    sweep: tuple[pl.DataFrame, pl.DataFrame], cuts: Sequence[Cuts], key: str, text: str
) -> dict[str, list[tuple[Side, Side]]]:
    """By experiment_id: (inner high, outer high) at checkpoints and ranks below its own.

    An untrained adapter is left out: it is low whatever follows. Where the inner metric is none that
    paths have, the inner side is unknown, and only the output tells a course.
    """
    outputs, layers = sweep
    by_model = {cut.label: cut for cut in cuts}
    inner = key if key in INNERS else "displacement"
    placed = paths_points.placed(outputs, layers, Asked("", inner, PEAK, text))
    found: dict[str, list[tuple[Side, Side]]] = {}
    for path, own in _OWN.items():
        before = placed.filter(
            pl.col("path") == path, pl.col("value") > 0, pl.col("value") < pl.col(own)
        )
        for (one, model), part in before.group_by("experiment_id", "base_model"):
            if model not in by_model:
                continue
            cut = by_model[str(model)]
            sides = found.setdefault(str(one), [])
            if key in INNERS:
                sides += _sides(part, cut)
            else:  # judged on the outer axis alone, put in the place of both
                alone = part.with_columns(x="y", x_low="y_low", x_high="y_high")
                outer = _sides(alone, Cuts(cut.output, cut.output))
                sides += [(None, side) for _, side in outer]
    return found


def _sides(part: pl.DataFrame, cut: Cuts) -> list[tuple[Side, Side]]:
    return [paths_points.high_or_low(j) for j in labelling.judged(part, cut, redrawn=False)]
