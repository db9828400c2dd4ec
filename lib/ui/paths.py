"""The paths of the regimes page: the plane with one thing varied."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.figures import paths as figure
from lib.figures.axis import Axis
from lib.figures.ground import Cuts
from lib.metrics.paths import LAWS
from lib.ui import cache, names, paths_points, paths_reads, paths_report, points, reads
from lib.ui.frame import provenance_all
from lib.ui.links import url_choice
from lib.ui.paths_points import INNERS, MEAN, PEAK, VARIED, Asked, Traced
from lib.ui.regimes import HEIGHT, OUTER, draw, pick
from lib.ui.texts import TEXTS

_READ = ("corpus", "neutral")


def view(columns: Sequence[DeltaGenerator], foot: DeltaGenerator) -> None:
    """Controls, paths in the plane, verdict and table of every experiment with a sweep."""
    outputs, layers = paths_reads.sweep()
    if outputs.is_empty():
        _say_empty()
        return
    chosen, asked = _controls(columns, outputs, layers)
    controls, axes = reads.nulls(asked.text), cache.axes(asked.text)
    cuts = {
        model: paths_points.cuts(controls, model, axes, asked)
        for model in outputs["base_model"].unique()
    }
    every = paths_points.placed(outputs, layers, asked)
    placed = every.filter(pl.col("experiment_id").is_in(chosen))
    found = paths_points.paths(placed, asked.path, cuts)
    if not found:
        st.info(f"No path of these has layer {asked.layer}. Choose another layer or experiment.")
        return
    own = {t.id: paths_points.own_point(placed, t.id) for t in found}
    _draw(found, own, asked)
    drawn = [len(controls.internal(t.cuts.label, asked.key)) for t in found if t.cuts]
    paths_report.say(found, own, asked, outputs, paths_reads.neutral(), min(drawn, default=0))
    paths_report.show(found, asked)
    with foot:
        provenance_all(chosen, f"{TEXTS[asked.text]}, first tokens of each document")


def _controls(
    columns: Sequence[DeltaGenerator], outputs: pl.DataFrame, layers: pl.DataFrame
) -> tuple[list[str], Asked]:
    """Experiments, and what is asked of them."""
    known = set(outputs["path"])
    swept = pl.col("experiment_id").is_in(outputs["experiment_id"].unique().implode())
    with columns[0]:
        path = url_choice(
            "Varied", [p for p in VARIED if p in known], "path", None,
            lambda key: VARIED[key].label,
        )  # fmt: skip
    with columns[1]:
        called = names.labels(cache.experiments().filter(swept))
        ids = outputs.filter(path=path)["experiment_id"].unique(maintain_order=True).to_list()
        chosen = pick("Experiment", ids, "path-of", called.__getitem__)
    with columns[2]:
        inner = url_choice(
            "Inner change", list(INNERS), "path-inner", "displacement",
            lambda key: INNERS[key].label,
        )  # fmt: skip
    with columns[3]:
        text = url_choice("KL on", list(_READ), "path-text", "corpus", TEXTS.__getitem__)
    with columns[4]:
        options = [PEAK, MEAN, *layers["layer"].unique().sort().to_list()]
        layer = url_choice("Layer", options, "path-layer", PEAK, _layer_name)
    return chosen, Asked(path, inner, layer, text)


def _layer_name(layer: str | int) -> str:
    return {PEAK: "largest", MEAN: "mean"}.get(str(layer), str(layer))


def _draw(found: Sequence[Traced], own: dict[str, dict[str, Any] | None], asked: Asked) -> None:
    lines = [_line(traced, own[traced.id], asked) for traced in found]
    cuts = list({traced.cuts.label: traced.cuts for traced in found if traced.cuts}.values())
    x, y = _axes(lines, cuts, asked)
    draw(figure.paths(lines, x, y, cuts, size=(1120, HEIGHT)))


def _line(traced: Traced, own: dict[str, Any] | None, asked: Asked) -> figure.Line:
    rows, form = traced.points, VARIED[asked.path].form
    says = [
        f"{r['course'] or 'no cuts: neither high nor low'}<br>{_where(r)}{r['documents']} documents, "
        f"{r['tokens']:,} tokens" + ("<br>the experiment itself" if r["own"] else "")
        for r in rows.iter_rows(named=True)
    ]
    drawn = rows.with_columns(
        word=pl.Series([form.format(v) for v in rows["value"]], dtype=pl.String),
        says=pl.Series(says, dtype=pl.String),
    )
    law = None
    small = rows.filter(pl.col("x") > 0, pl.col("y") > 0, pl.col("value") > 0)
    if asked.path == "scale" and len(small):
        law = (small["x"][0], small["y"][0], LAWS["kl"] / LAWS[asked.column])
    at = None if own is None or own["x"] is None else (own["x"], own["y"])
    return figure.Line(traced.name, traced.corpus, drawn, at, law)


def _where(row: dict[str, Any]) -> str:
    return "" if row["layer"] is None else f"inner at layer {row['layer']}<br>"


def _axes(lines: Sequence[figure.Line], cuts: Sequence[Cuts], asked: Asked) -> tuple[Axis, Axis]:
    """Over what is above 0: logarithmic axes make the law a straight line, and have no 0."""
    made = []
    for axis, part, at, title in (
        ("x", "internal", 0, f"inner change: {asked.label}, {asked.inner.title}"),
        ("y", "output", 1, OUTER.format(TEXTS[asked.text])),
    ):
        values = [v for line in lines for v in points.extent(line.points, axis) if v > 0]
        held = [getattr(cut, part) for cut in cuts]
        held += [line.own[at] for line in lines if line.own is not None]
        made.append(Axis.over(title, values, start=0.0, held=held))
    return made[0], made[1]


def _say_empty() -> None:
    st.info(
        "The store has no paths yet. A path is one experiment again with one thing varied (rank, "
        "training steps, strength of its adapter, or share of neutral text), drawn as a line through "
        "the plane. To get some, put these lines into the experiments file of the experiment (such "
        "as `data/experiments/embedded.yaml`) in place of its `recipe: {}`, or `sweep` alone under "
        "the `recipe` that it has; `corpora: [...]` inside `sweep` limits it to some corpora."
    )
    st.code(_LINES, language="yaml")
    st.markdown(
        "`python -m lib plan FILE` says what that costs before anything starts; `python -m lib run "
        "FILE` makes them, and trains no adapter twice."
    )


_LINES = """recipe:
  sweep:
    ranks: [4, 8, 16, 32]
    checkpoints: [0, 5, 10, 20, 50, 100]
    scales: [0, 0.25, 0.5, 1, 2]
    mixing: [0, 1]
"""
