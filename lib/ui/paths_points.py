"""Points of the paths: which inner value, which cuts, which label and course. No Streamlit."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from lib.figures.ground import Cuts
from lib.metrics.paths import Course, Side, course
from lib.metrics.regimes import with_timing
from lib.metrics.support import Judgement
from lib.ui import labelling, names, nulls
from lib.ui.inner import Inner

PEAK, MEAN = "largest", "mean"


class Varied(NamedTuple):
    """What one path varies."""

    label: str
    form: str
    """Of one value, in words."""
    courses: bool = True
    """Whether larger values mean more of the adapter, so that an order of the axes can be told."""


VARIED = {
    "checkpoint": Varied("training checkpoint", "{:g} steps"),
    "rank": Varied("LoRA rank", "rank {:g}"),
    "scale": Varied("LoRA scale", "\u00d7{:g}"),
    "mixing": Varied("share of neutral text", "neutral \u00d7{:g}", courses=False),
}
INNERS = {
    "displacement": Inner("displacement", "CKA displacement", "1 - CKA (0 = none)", "1 - CKA"),
    "moved": Inner(
        "relative", "relative displacement", "rms of change / rms of base (0 = none)",
        "rms of change / rms of base",
    ),
}  # fmt: skip
"""Keys as in ``lib.ui.inner.INNER``; columns those of ``lib.store.sweep.LAYERS``."""


class Asked(NamedTuple):
    """What the controls of the page ask for."""

    path: str
    """One of ``VARIED``."""
    key: str
    """One of ``INNERS``."""
    layer: str | int
    """One layer, ``PEAK`` (largest over layers, its interval at that layer) or ``MEAN`` (over layers;
    its bounds are means of theirs, as if the layers erred together: the widest that it can be)."""
    text: str
    """corpus | neutral"""

    @property
    def inner(self) -> Inner:
        return INNERS[self.key]

    @property
    def column(self) -> str:
        """Of ``lib.store.sweep.LAYERS``."""
        return self.inner.column

    @property
    def label(self) -> str:
        """The inner metric with its layer, in words."""
        where = {PEAK: "largest {}", MEAN: "mean {} over layers"}
        return where.get(str(self.layer), "{} at layer " + str(self.layer)).format(self.inner.label)


class Traced(NamedTuple):
    """One experiment's points on one path, in the order of the value."""

    name: str
    points: pl.DataFrame
    """Columns of ``placed``, and label, course (null without cuts)."""
    cuts: Cuts | None
    course: Course | None
    """None without cuts."""

    @property
    def id(self) -> str:
        return str(self.points["experiment_id"][0])

    @property
    def corpus(self) -> str:
        return str(self.points["corpus"][0])


def placed(outputs: pl.DataFrame, layers: pl.DataFrame, asked: Asked) -> pl.DataFrame:
    """Both axes of every point of every path: ``lib.store.sweep.outputs`` on one text, with x*, y*,
    layer (null for a mean), inner_tokens and offset_share; ``asked.path`` does not matter.
    """
    column, layer = asked.column, asked.layer
    keys = ["experiment_id", "path", "value"]
    ends = [column, f"{column}_low", f"{column}_high"]
    if layer == MEAN:
        whole = {
            c: pl.when(pl.col(c).null_count() == 0).then(pl.col(c).mean())
            for c in (*ends, "offset_share")
        }
        tokens = pl.col("tokens").min()
        found = layers.group_by(keys).agg(**whole, tokens=tokens, layer=pl.lit(None, pl.Int32))
    elif layer == PEAK:
        found = layers.sort(*keys, column, "layer", descending=[False] * 3 + [True, False])
        found = found.group_by(keys, maintain_order=True).first()
    else:
        found = layers.filter(layer=layer)
    inner = found.select(
        *keys, "layer", "offset_share", inner_tokens="tokens",
        x=ends[0], x_low=ends[1], x_high=ends[2],
    )  # fmt: skip
    outer = outputs.filter(text=asked.text).with_columns(y="kl", y_low="kl_low", y_high="kl_high")
    return outer.join(inner, on=keys).sort("base_model", "corpus", "seed", *keys)


def cuts(controls: nulls.Nulls, model: str, axes: pl.DataFrame, asked: Asked) -> Cuts | None:
    """Upper ends of a model's random adapters, read at the same layers; None where none was measured.

    Args:
        axes: of ``store.read.axes``, for the numerical floor of KL.
    """
    layer = asked.layer
    drawn = controls.layers
    if layer == MEAN:
        keys = ["experiment_id", "base_model", "control", "draw"]
        both = ("displacement", "relative_displacement")
        drawn = drawn.group_by(keys, maintain_order=True).agg(pl.mean(*both))
    elif layer != PEAK:
        drawn = drawn.filter(layer=layer)
    rows = axes.filter(base_model=model)
    found = nulls.cuts(nulls.Nulls(drawn, controls.outputs), model, rows, asked.key, 0.0)
    return found and Cuts(found.internal, found.output, model)


def paths(placed: pl.DataFrame, path: str, by_model: Mapping[str, Cuts | None]) -> list[Traced]:
    """One for each experiment that has this path, in the order of the rows."""
    rows = placed.filter(path=path)
    ids = placed.group_by("experiment_id", maintain_order=True).first()
    named = names.labels(ids.with_columns(rank="own_rank", steps="own_steps"))
    found = []
    for (experiment_id,), part in rows.group_by("experiment_id", maintain_order=True):
        cut = by_model.get(part["base_model"][0])
        found.append(_judged(named[str(experiment_id)], part.sort("value"), path, cut))
    return found


def own_point(placed: pl.DataFrame, experiment_id: str) -> dict[str, Any] | None:
    """The experiment's own adapter as any of its paths has it; None where none does."""
    rows = placed.filter(pl.col("experiment_id") == experiment_id, pl.col("own"))
    return rows.row(0, named=True) if len(rows) else None


def _judged(name: str, points: pl.DataFrame, path: str, cut: Cuts | None) -> Traced:
    none = pl.lit(None, pl.String)
    if cut is None:
        return Traced(name, points.with_columns(label=none, course=none), None, None)
    judgements = labelling.judged(points, cut, redrawn=False)
    sides = [high_or_low(judgement) for judgement in judgements]
    labels: list[str] = [judgement.label for judgement in judgements]
    values, timed = points["value"].to_list(), labels
    if VARIED[path].courses:
        timed = [
            with_timing(label, started(values[:at], sides[:at])) for at, label in enumerate(labels)
        ]
    found = points.with_columns(
        label=pl.Series(labels, dtype=pl.String), course=pl.Series(timed, dtype=pl.String)
    )
    order = course(values, sides) if VARIED[path].courses else None
    return Traced(name, found, cut, order)


def started(values: Sequence[float], sides: Sequence[tuple[Side, Side]]) -> list[tuple[Side, Side]]:
    """Sides of the values above 0: an adapter that does nothing is low on both axes, whatever it
    becomes, so it can make no course."""
    return [pair for value, pair in zip(values, sides, strict=True) if value > 0]


def high_or_low(judgement: Judgement) -> tuple[Side, Side]:
    """(inner high, outer high); None for an axis that is undecided."""
    return labelling._sides(judgement)
