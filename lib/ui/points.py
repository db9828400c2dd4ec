"""Points of the regime scatter: which columns, which cuts, which label. No Streamlit."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from lib.figures.scatter import COLUMNS, Cuts
from lib.metrics.regimes import QUARTERS
from lib.metrics.support import Judgement
from lib.ui import labelling, names, nulls, pointer, retest
from lib.ui.inner import INNER, OPINIONS, CutSource, Inner

MORE = ("base_model", "hook", "rank", "steps", "seed", "seeds", "x_sd", "y_sd", "unit")
"""Columns of the points besides ``lib.figures.scatter.COLUMNS``."""


class Measured(NamedTuple):
    """Points in the columns of the scatter, cuts by model, and why each label is what it is."""

    points: pl.DataFrame
    """One row per model, corpus and recipe: means over training seeds."""
    cuts: list[Cuts]
    judgements: dict[str, Judgement]
    """By experiment_id of the point, which is that of its lowest seed."""
    courses: dict[str, str]
    """By experiment_id: the label, with its course where a trajectory shows one."""
    runs: pl.DataFrame
    """Every experiment, ``point`` = experiment_id of the point that it is part of."""


def measured(
    axes: pl.DataFrame,
    inner: Inner,
    source: CutSource = "medians",
    controls: nulls.Nulls | None = None,
) -> Measured:
    """Points of ``store.read.axes`` with their labels.

    Cuts are made within a model over all rows given here, so pass the rows before a filter by
    corpus. Medians: a model with fewer than two corpora has none. Nulls: a model whose null controls
    were not measured for this inner metric has none. Without cuts a point is indeterminate.
    """
    runs = bare(axes, inner)
    points = retest.cells(runs, ("x", "y"))
    cuts, judgements = [], {}
    for (model,), part in points.group_by("model", maintain_order=True):
        rows = axes.filter(base_model=model)
        found = _cuts(str(model), part, rows, inner, source, controls)
        labels = labelling.judged(part, found, inner.start, redrawn=source == "medians")
        judgements |= dict(zip(part["experiment_id"], labels, strict=True))
        if found.internal is not None:
            cuts.append(found)
    timed = labelling.timed(points, judgements)
    points = _described(points, judgements, timed, inner, controls)
    belongs = points.select(pl.col("experiment_id").alias("point"), pl.col("runs")).explode("runs")
    runs = runs.join(belongs, left_on="experiment_id", right_on="runs", maintain_order="left")
    runs = runs.with_columns(says=_of_seeds(runs, _reaches(runs["model"], inner, controls)))
    cuts.sort(key=lambda cut: cut.label)
    return Measured(points.select(*COLUMNS, *MORE), cuts, judgements, timed, runs)


def _described(
    points: pl.DataFrame,
    judgements: dict[str, Judgement],
    timed: dict[str, str],
    inner: Inner,
    controls: nulls.Nulls | None,
) -> pl.DataFrame:
    """Adds regime, name, and what the pointer says: label, nulls, seeds, tokens."""
    reaches = _reaches(points["model"], inner, controls)
    says = [
        "<br>".join([
            pointer.label(
                judgements[row["experiment_id"]], timed[row["experiment_id"]],
                [axis for axis, column in (("inner", "x_low"), ("outer", "y_low"))
                 if row[column] is None],
            ),
            pointer.null(reaches[row["model"]]), pointer.seeds(row), f"{row['n_tokens']:,} tokens",
        ])
        for row in points.iter_rows(named=True)
    ]  # fmt: skip
    return named(points).with_columns(
        unit=pl.lit(inner.unit),
        regime=pl.Series([judgements[e].label for e in points["experiment_id"]], dtype=pl.String),
        says=pl.Series(says, dtype=pl.String),
    )


def _reaches(
    models: pl.Series, inner: Inner, controls: nulls.Nulls | None
) -> dict[str, tuple[nulls.Reach | None, nulls.Reach | None]]:
    """What the null controls of each model reach on both axes."""
    return {
        str(model): controls.reach(str(model), inner.column) if controls else (None, None)
        for model in models.unique()
    }


def _of_seeds(
    runs: pl.DataFrame, reaches: Mapping[str, tuple[nulls.Reach | None, nulls.Reach | None]]
) -> pl.Series:
    """What the pointer says of a single training: nulls, intervals that are missing, n."""
    return pl.Series(
        [
            "<br>".join([pointer.null(reaches[row["model"]]), pointer.counts(row)])
            for row in runs.iter_rows(named=True)
        ],
        dtype=pl.String,
    )


def named(points: pl.DataFrame) -> pl.DataFrame:
    """Names by what tells these points apart; the training seed never does."""
    shown = names.labels(points.with_columns(seed=pl.lit(0)))
    return points.with_columns(name=pl.col("experiment_id").replace_strict(shown, default=None))


def table(found: Measured) -> pl.DataFrame:
    """By experiment_id, every seed its point's: regime, course, undecided axes, seeds, and
    ``p_LABEL`` of the decided labels."""
    rows = [
        {
            "point": e, "regime": j.label, "course": found.courses[e],
            "undecided": " and ".join(j.undecided) or None,
            **{f"p_{label}": j.support.get(label) for label in QUARTERS},
        }
        for e, j in found.judgements.items()
    ]  # fmt: skip
    schema = {"point": pl.String, "regime": pl.String, "course": pl.String,
              "undecided": pl.String} | {f"p_{label}": pl.Float64 for label in QUARTERS}  # fmt: skip
    seeds = found.points.select(pl.col("experiment_id").alias("point"), "seeds")
    return (
        found.runs.select("experiment_id", "point")
        .join(pl.DataFrame(rows, schema=schema), on="point", maintain_order="left")
        .join(seeds, on="point", maintain_order="left")
        .drop("point")
    )


def opinions(axes: pl.DataFrame, source: CutSource, controls: nulls.Nulls | None) -> pl.DataFrame:
    """The label by each of ``OPINIONS``, and whether they agree; by experiment_id.

    Columns: experiment_id, one per metric (null = not measured), opinion.
    """
    table = axes.select("experiment_id")
    for key in OPINIONS:
        found = measured(axes, INNER[key], source, controls)
        points = dict(found.runs.select("experiment_id", "point").iter_rows())
        labels = {e: found.judgements[point].label for e, point in points.items()}
        table = table.with_columns(
            pl.Series(f"label_{key}", [labels.get(e) for e in table["experiment_id"]],
                      dtype=pl.String)
        )  # fmt: skip
    said = [
        labelling.opinions([label for label in row if label is not None])
        for row in table.drop("experiment_id").iter_rows()
    ]
    return table.with_columns(opinion=pl.Series(said, dtype=pl.String))


def bare(axes: pl.DataFrame, inner: Inner) -> pl.DataFrame:
    """Experiments of ``store.read.axes`` with both values, before anything is said of their regime."""
    finite = [pl.col(column).is_finite() for column in (inner.column, "kl")]
    rows = axes.filter(*finite)  # drops what was not measured, and NaN
    none = pl.lit(None, pl.Float64)
    bounds = {
        f"x_{end}": pl.col(f"{inner.column}_{end}") if inner.bounded else none
        for end in ("low", "high")
    }
    return rows.with_columns(
        name=names.label(rows), model="base_model", published=pl.lit(False), n="n_documents",
        x=inner.column, y="kl", y_low="kl_low", y_high="kl_high", **bounds,
    )  # fmt: skip


def _cuts(
    model: str,
    part: pl.DataFrame,
    rows: pl.DataFrame,
    inner: Inner,
    source: CutSource,
    controls: nulls.Nulls | None,
) -> Cuts:
    if source == "medians":
        return labelling.medians(part, model, inner.start)
    found = controls and nulls.cuts(controls, model, rows, inner.column, inner.start)
    return Cuts(found.internal, found.output, model) if found else Cuts(None, None, model)


def extent(points: pl.DataFrame, axis: str, more: Sequence[float | None] = ()) -> list[float]:
    """Every value that an axis must hold: points, bounds, and what else is drawn."""
    columns = [
        points[name].drop_nulls().to_list() for name in (axis, f"{axis}_low", f"{axis}_high")
    ]
    return [v for column in columns for v in column] + [v for v in more if v is not None]
