"""The measured view of the regimes page. The published one is in published.py."""

from collections.abc import Callable, Collection, Sequence

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.figures import scatter
from lib.figures.axis import Axis
from lib.figures.scatter import Plane
from lib.ui import (
    cache,
    causal,
    claims,
    limits,
    orders,
    paths_reads,
    paths_timing,
    points,
    reads,
    regime_claims,
    regime_tables,
    retest,
    scale,
)
from lib.ui.frame import provenance_all
from lib.ui.inner import INNER, CutSource, Inner
from lib.ui.links import url_choice, url_multi
from lib.ui.nulls import Nulls, Reach
from lib.ui.nulls import known as known_nulls
from lib.ui.texts import HELP, TEXTS
from lib.ui.verdicts import listed

OUTER = "outer change: KL(tuned || base) on {}, nats per token"
HEIGHT = 470
SIZE = (1120, HEIGHT)
_MOST = 3  # panels side by side
_SOURCES = {"medians": "medians", "nulls": "null controls"}


def measured(columns: Sequence[DeltaGenerator], foot: DeltaGenerator) -> None:
    """Controls, scatter, verdict and tables of every experiment in the store."""
    known = cache.experiments()
    with columns[0]:
        models = pick("Model", known["base_model"].unique().sort().to_list(), "model")
    with columns[1]:
        corpora = pick("Corpus", known["corpus"].unique().sort().to_list(), "corpus")
    with columns[2]:
        inner = INNER[url_choice(
            "Inner change", list(INNER), "inner", "ratio", lambda key: INNER[key].label,
        )]  # fmt: skip
    with columns[3]:
        text = url_choice("KL on", list(TEXTS), "text", "corpus", TEXTS.__getitem__, help=HELP)
    axes, controls = cache.axes(text), reads.nulls(text)
    with columns[4]:
        source = _pick_source(models, inner, controls)
    everything = points.measured(axes, inner, source, controls)
    chosen = everything.points.filter(
        pl.col("model").is_in(models), pl.col("corpus").is_in(corpora)
    )
    if chosen.is_empty():
        _say_empty(inner, text)
        return
    chosen = points.named(chosen)
    shown = paths_timing.shown(everything, chosen, paths_reads.sweep(), inner, text)
    ablations = reads.causal()
    trainings = shown.runs.group_by("point").agg("experiment_id").iter_rows()
    found = causal.links(ablations, dict(trainings))
    _scatter(shown._replace(points=causal.marked(chosen, found)), inner, text, controls)
    _say(shown, inner, text, source, controls)
    st.markdown(causal.said(chosen, found, ablations, reads.tokens_read()))
    _say_left_out(known.filter(
        pl.col("base_model").is_in(models), pl.col("corpus").is_in(corpora)
    ), shown.runs, text)  # fmt: skip
    regime_tables.show(shown, axes, inner, text, source, controls, ablations)
    scale.measured(chosen)
    with foot:
        provenance_all(shown.runs["experiment_id"].to_list(), TEXTS[text])


def _pick_source(models: Sequence[str], inner: Inner, controls: Nulls) -> CutSource:
    """Null controls are the default where they were measured; otherwise the field says so."""
    if known_nulls(controls, models, inner.column):
        return url_choice("Cuts", ["nulls", "medians"], "cuts", "nulls", _SOURCES.__getitem__)
    return url_choice(
        "Cuts", ["medians"], "cuts", "medians", _SOURCES.__getitem__,
        help="Null controls are not measured yet for this inner metric.",
    )  # fmt: skip


def _scatter(shown: points.Measured, inner: Inner, text: str, controls: Nulls) -> None:
    """One panel per model; with more than ``_MOST`` models one panel for all of them."""
    models = shown.points["model"].unique(maintain_order=True).to_list()
    reaches = {model: controls.reach(model, inner.column) for model in models}
    x, y = _axes(shown, inner, text, list(reaches.values()))
    if len(models) > _MOST:
        marked = shown.points.with_columns(word=pl.col("name") + pl.col("mark"))
        draw(scatter.regimes(marked, x, y, shown.cuts, runs=shown.runs, size=SIZE))
        return
    planes = []
    for model in models:
        null = [reach and reach[:2] for reach in reaches[model]]
        part = points.named(shown.points.filter(model=model))
        runs = shown.runs.filter(model=model)
        cuts = [cut for cut in shown.cuts if cut.label == model]
        full = dict(shown.points.select("experiment_id", "name").iter_rows())
        part = part.with_columns(
            word=pl.col("name") + pl.col("mark"), name=pl.col("experiment_id").replace_strict(full)
        )  # fmt: skip
        title = model if len(models) > 1 else ""
        planes.append((title, Plane(part, x, y, cuts, *null, runs)))
    draw(scatter.assemble(planes, SIZE))


def _axes(
    shown: points.Measured, inner: Inner, text: str, reaches: Collection[tuple[Reach | None, ...]]
) -> tuple[Axis, Axis]:
    """Both axes over points, their seeds, cuts and the upper ends of the null controls.

    Cuts and nulls do not choose the scale: far below the points they would squeeze those together.
    """
    made = []
    for at, (axis, part, title, start) in enumerate((
        ("x", "internal", inner.title, inner.start), ("y", "output", OUTER.format(TEXTS[text]), 0.0)
    )):  # fmt: skip
        values = points.extent(shown.points, axis, shown.runs[axis].to_list())
        held = [getattr(cut, part) for cut in shown.cuts]
        held += [reach[at].high for reach in reaches if reach[at] is not None]
        made.append(Axis.over(title, values, start=start, held=[v for v in held if v is not None]))
    return made[0], made[1]


def _say(
    shown: points.Measured, inner: Inner, text: str, source: CutSource, controls: Nulls
) -> None:
    chosen, outer = shown.points, f"KL on {TEXTS[text]}"
    st.markdown(claims.correlation(
        orders.correlations(chosen), orders.confound(chosen), orders.steadiness(chosen), outer,
        orders.without_one(chosen),
    ))  # fmt: skip
    st.markdown(limits.said(chosen))
    models = chosen["model"].unique(maintain_order=True).to_list()
    labels = regime_claims.regimes(chosen, shown.cuts, shown.judgements, source)
    reaches = {model: controls.reach(model, inner.column) for model in models}
    st.markdown(f"{labels} {regime_claims.nulls(reaches, source)}")
    st.markdown(retest.said(regime_tables.seeds(shown, inner, text), inner.label, outer))
    st.caption(f"Click a point to open it. {regime_claims.intervals(shown.runs, inner)}")


def _say_left_out(known: pl.DataFrame, drawn: pl.DataFrame, text: str) -> None:
    """Experiments that these filters ask for and the figure lacks; prompts that count."""
    lost = known.join(drawn, on="experiment_id", how="anti")["experiment_id"].to_list()
    if lost:
        st.warning(f"Not drawn, because an axis has no finite value: {', '.join(lost)}.")
    with_prompts = drawn.join(cache.responses(), on="experiment_id", how="semi")["corpus"]
    if text == "corpus" and len(with_prompts):
        st.caption(
            f"{listed(with_prompts.unique().sort().to_list())}: instructions, whose prompts count "
            "here; *responses* under KL on leaves those out."
        )


def pick(label: str, options: list[str], key: str, called: Callable[[str], str] = str) -> list[str]:
    """Chosen options; none chosen means all of them, which the field says."""
    return url_multi(label, options, key, [], called, placeholder="all") or options


def _say_empty(inner: Inner, text: str) -> None:
    st.info(
        f"No experiment has both {inner.label} and KL on {TEXTS[text]} under these filters. Choose "
        "other filters, or run `python -m lib run data/experiments/embedded.yaml` to the end."
    )


def draw(figure: object) -> None:
    """The figure; a click on a measured point opens that experiment.

    The key changes with every click: coming back finds a figure without a selection, so the page
    does not send the reader away again.
    """
    visit = st.session_state.get("regimes:visit", 0)
    event = st.plotly_chart(
        figure, on_select="rerun", selection_mode="points", key=f"regimes:{visit}",
        config={"displayModeBar": False, "scrollZoom": False},
    )  # fmt: skip
    clicked = [p["customdata"][0] for p in event.selection.points if p.get("customdata")]
    if clicked and clicked[0]:
        st.session_state["regimes:visit"] = visit + 1
        st.switch_page("pages/layers.py", query_params={"experiment": clicked[0]})
