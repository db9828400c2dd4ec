"""Base perplexity against novel features and both axes: points and tests. No Streamlit."""

from typing import NamedTuple

import polars as pl

from lib.figures.panels import Panel
from lib.metrics.statistics import RankTest, spearman_exact
from lib.ui import names, novelty, orders, pointer, retest
from lib.ui.labelling import corpus_means
from lib.ui.novelty import Null
from lib.ui.nulls import Nulls
from lib.ui.verdicts import number

PERPLEXITY = Panel("perplexity", "base perplexity of the corpus", start=None)
VALUES = ("perplexity", "novel", "inner", "outer")


def panels(kind: str, null: Null) -> tuple[Panel, Panel, Panel]:
    """What is drawn over base perplexity, from left to right.

    Args:
        kind: a key of ``novelty.KINDS``.
        null: what is taken off the novel features.
    """
    of = "share of energy" if kind.startswith("energy") else "share of alive latents"
    title = f"novel features{' above null' * (null != 'kept')}, {of}"
    return (
        Panel("novel", title, percent=True),
        Panel("inner", "inner: peak cross / self error", 1.0),
        Panel("outer", "outer: KL, nats per token"),
    )


class Surprise(NamedTuple):
    """Points of the panels, and the trainings behind them."""

    points: pl.DataFrame
    """One row per model, corpus and recipe: means over training seeds."""
    runs: pl.DataFrame
    """Every experiment; ``point`` = experiment_id of its point."""


class Counted(NamedTuple):
    """A rank test of one panel over one model or within models, or why there is none."""

    panel: Panel
    over: str
    test: RankTest | None
    why: str = ""


def points(
    corpus_axes: pl.DataFrame,
    text_axes: pl.DataFrame,
    counted: pl.DataFrame,
    kind: str,
    controls: Nulls,
    null: Null,
) -> Surprise:
    """Base perplexity of each corpus, novel features and both axes.

    Args:
        corpus_axes: ``store.read.axes`` on corpus text, for the perplexity.
        text_axes: the same on the text of the outer axis.
        counted: of ``lib.store.novelty``, summed over the layers with a crosscoder.
        kind: a key of ``novelty.KINDS``.
        controls: null controls of both axes, for the pointer.
        null: what is taken off the novel features; where it was not measured there are none.
    """
    outer = text_axes.select("experiment_id", outer="kl", outer_low="kl_low", outer_high="kl_high")
    rows = (
        corpus_axes.filter(pl.col("perplexity_base").is_finite())
        .join(
            novelty.counts(counted, kind), on="experiment_id", how="left", maintain_order="left"
        )
        .join(outer, on="experiment_id", how="left", maintain_order="left")
        .with_columns(
            model="base_model", published=pl.lit(False), perplexity="perplexity_base",
            perplexity_low="perplexity_base_low", perplexity_high="perplexity_base_high",
            inner="ratio", inner_low="ratio_low", inner_high="ratio_high",
        )
    )  # fmt: skip
    rows = novelty.above(rows, null)
    cells = _described(retest.cells(rows, VALUES), controls)
    belongs = cells.select(pl.col("experiment_id").alias("point"), pl.col("runs")).explode("runs")
    runs = rows.join(belongs, left_on="experiment_id", right_on="runs", maintain_order="left")
    runs = runs.with_columns(name=names.label(runs), says=_pointed(runs, controls))
    return Surprise(cells.drop("runs"), runs)


def _described(cells: pl.DataFrame, controls: Nulls) -> pl.DataFrame:
    """Adds the name, and what the pointer says."""
    shown = names.labels(cells.with_columns(seed=pl.lit(0)))
    return cells.with_columns(
        name=pl.col("experiment_id").replace_strict(shown, return_dtype=pl.String),
        says=_pointed(cells, controls),
    )


def _pointed(rows: pl.DataFrame, controls: Nulls) -> pl.Series:
    """What the pointer says of points, or of single trainings, besides their values."""
    nulls = {m: pointer.null(controls.reach(m, "ratio")) for m in set(rows["model"])}
    says = [f"{_says(row)}<br>{nulls[row['model']]}" for row in rows.iter_rows(named=True)]
    return pl.Series(says, dtype=pl.String)


def published(cells: pl.DataFrame) -> pl.DataFrame:
    """The published cells with a base perplexity, in the columns of ``points``."""
    empty = {
        f"{column}_{end}": pl.lit(None, pl.Float64)
        for column in VALUES
        for end in ("low", "high", "sd")
    }
    return cells.drop_nulls("perplexity_base").with_columns(
        name=pl.col("corpus") + " " + pl.col("scale"), model="scale", published=pl.lit(True),
        experiment_id=pl.lit(None, pl.String), perplexity="perplexity_base",
        novel=pl.col("novel_features").cast(pl.Float64), inner="ratio", outer="kl",
        says=pl.lit("published; no interval"), seeds=pl.lit(1), **empty,
    )  # fmt: skip


def _says(row: dict[str, object]) -> str:
    """What the pointer tells of one point besides its values."""
    counted = "no crosscoder"
    if row["count"] is not None:
        counted = (
            f"{row['count']:,} novel of {row['alive']:,} alive latents, {row['layers']} depths"
        )
        draws = "draw" if row["null_draws"] == 1 else "draws"
        counted += (
            f"; null {row['null_count']:g} of {row['null_alive']:,.0f} ({row['null_draws']} {draws})"
            if row["null_count"] is not None
            else "; null not measured"
        )
    n = f"{row['n_documents']} documents, {row['n_tokens']:,} tokens"
    many = row.get("seeds", 1)  # a single training has no such column
    if many < 2:
        return f"{counted}<br>{n}"
    return f"mean of {many} training seeds; of seed {row['seed']} alone: {counted}<br>{n}"


def against(points: pl.DataFrame, column: str) -> pl.DataFrame:
    """Points with a value of ``column`` in the form that ``lib.ui.orders`` takes: x = perplexity."""
    known = points.filter(pl.col(column).is_not_null())
    made = {
        f"{axis}{end}": pl.col(f"{source}{end}")
        for axis, source in (("x", "perplexity"), ("y", column))
        for end in ("", "_low", "_high", "_sd")
    }
    return known.with_columns(**made)


def tests(points: pl.DataFrame, shown: tuple[Panel, ...]) -> list[Counted]:
    """Spearman's rho of base perplexity with each panel: by model, and within models.

    Seeds and recipes of one corpus are averaged. A panel without a test says why.
    """
    found = []
    for panel in shown:
        known = against(points, panel.column)
        if known.is_empty():
            found.append(Counted(panel, "", None, "there is no value"))
        for (model,), part in corpus_means(known).group_by("model", maintain_order=True):
            why = _undefined(part)
            test = None if why else spearman_exact(part["x"].to_numpy(), part["y"].to_numpy())
            found.append(Counted(panel, str(model), test, why))
        if (several := orders.within(known)) is not None:
            found.append(Counted(panel, orders.WITHIN, several[0]))
    return found


def _undefined(part: pl.DataFrame) -> str:
    if len(part) < 3:
        return f"n = {len(part)}: it needs at least three corpora"
    if part["y"].n_unique() < 2:
        return f"all {number(len(part))} corpora have the same value ({part['y'][0]:.3g})"
    return "" if part["x"].n_unique() > 1 else "all corpora have the same perplexity"
