"""The two views of the regimes page: what we measured, and what the seeds publish."""

from collections.abc import Sequence

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.figures import scatter
from lib.figures.axis import Axis
from lib.ui import cache, names, points, tables, verdicts
from lib.ui.frame import provenance_all
from lib.ui.links import url_choice, url_multi

_OUTER = "outer change: KL(tuned || base) on {} text, nats per token"
_HEIGHT = 470


def measured(columns: Sequence[DeltaGenerator], foot: DeltaGenerator) -> None:
    """Controls, scatter, verdict and table of every experiment in the store."""
    known = cache.experiments()
    with columns[0]:
        models = _filter("Model", known["base_model"].unique().sort().to_list(), "model")
    with columns[1]:
        corpora = _filter("Corpus", known["corpus"].unique().sort().to_list(), "corpus")
    with columns[2]:
        inner = points.INNER[url_choice(
            "Inner change", list(points.INNER), "inner", "ratio",
            lambda key: points.INNER[key].label,
        )]  # fmt: skip
    with columns[3]:
        text = url_choice(
            "Outer change: KL on", ["corpus", "neutral"], "text", "corpus",
            lambda text: f"{text} text",
        )  # fmt: skip
    axes = cache.axes(text)
    everything, cuts = points.measured(axes, inner)
    chosen = everything.filter(pl.col("model").is_in(models), pl.col("corpus").is_in(corpora))
    if chosen.is_empty():
        _say_empty(inner, text)
        return
    labels = names.labels(known.filter(pl.col("experiment_id").is_in(chosen["experiment_id"])))
    chosen = chosen.with_columns(name=pl.col("experiment_id").replace_strict(labels))
    cuts = [cut for cut in cuts if cut.label in set(chosen["model"])]
    rows = axes.join(everything.select("experiment_id", "regime"), on="experiment_id")
    rows = rows.filter(pl.col("experiment_id").is_in(chosen["experiment_id"].to_list()))
    null = _null(rows) if inner.column == "ratio" else None
    x = Axis.over(
        inner.title,
        points.extent(chosen, "x", [*(cut.internal for cut in cuts), *(null or ())]),
        start=inner.start,
    )
    y = Axis.over(
        _OUTER.format(text), points.extent(chosen, "y", [cut.output for cut in cuts]), start=0.0
    )
    _draw(scatter.regimes(chosen, x, y, cuts, null=null, size=(1120, _HEIGHT)))
    found, pooled = points.correlations(chosen), points.within_models(chosen)
    st.markdown(
        verdicts.correlation(found, pooled, points.steadiness(chosen), f"KL on {text} text")
    )
    st.markdown(verdicts.regimes(chosen, cuts))
    if not inner.bounded:
        st.caption("The centred ratio has no interval yet; the others have.")
    tables.show(rows, tables.AXES, name=f"regimes-{text}")
    with foot:
        provenance_all(rows["experiment_id"].to_list(), f"{text} text")


def published(columns: Sequence[DeltaGenerator], foot: DeltaGenerator) -> None:
    """The seeds' twelve cells: the pairs as hollow points, every cell in the table."""
    cells = cache.published("cells")
    with columns[0]:
        scales = _filter("Scale", cells["scale"].unique(maintain_order=True).to_list(), "scale")
    with columns[1]:
        corpora = _filter(
            "Corpus", cells["corpus"].unique(maintain_order=True).to_list(), "seed-corpus"
        )
    with columns[2]:
        st.selectbox("Inner change", ["peak reconstruction ratio"], disabled=True, key="seed-inner")
    with columns[3]:
        st.selectbox("Outer change: KL on", ["text not stated"], disabled=True, key="seed-outer")
    chosen = cells.filter(pl.col("scale").is_in(scales), pl.col("corpus").is_in(corpora))
    pairs = points.published(chosen)
    cuts = points.PUBLISHED_CUTS
    title = "inner change: peak cross / self reconstruction error, as published (log)"
    x = Axis.over(title, points.extent(pairs, "x", [cuts.internal]))
    y = Axis.over(
        "outer change: KL as published, nats per token",
        points.extent(pairs, "y", [cuts.output]), start=0.0,
    )  # fmt: skip
    _draw(scatter.regimes(pairs, x, y, [cuts], size=(1120, _HEIGHT)))
    st.markdown(verdicts.correlation(points.correlations(pairs), None, {}, "KL"))
    st.markdown(verdicts.published(pairs, len(chosen), points.within_margin(pairs, cuts)))
    tables.show(chosen, tables.CELLS, name="published-cells")
    tables.show(cache.published("aggregates"), tables.AGGREGATES, name="published-aggregates")
    foot.caption(
        "published · Llama 3B, 8B and 70B · LoRA rank 16, attention-only, 50 steps · "
        f"{len(pairs)} of {len(chosen)} cells have both values · empty = not published · seeds "
        "unknown · no interval published · S0 = podcast, S1 = post (data/published/)"
    )


def _filter(label: str, options: list[str], key: str) -> list[str]:
    """Chosen options; none chosen means all of them, which the field says."""
    return url_multi(label, options, key, default=[], placeholder="all") or options


def _null(rows: pl.DataFrame) -> tuple[float, float] | None:
    known = rows.drop_nulls(["ratio_null_low", "ratio_null_high"])
    if known.is_empty():
        return None
    return float(known["ratio_null_low"].min()), float(known["ratio_null_high"].max())


def _say_empty(inner: points.Inner, text: str) -> None:
    st.info(
        f"No experiment has both {inner.label} and KL on {text} text under these filters. Choose "
        "other filters, or run `python -m lib run data/experiments/embedded.yaml` to the end."
    )


def _draw(figure: object) -> None:
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
