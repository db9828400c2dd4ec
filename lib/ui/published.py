"""The published view of the regimes page: the seeds' cells, aggregates and gaps."""

from collections.abc import Sequence

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.figures import scatter
from lib.figures.axis import Axis
from lib.ui import cache, claims, limits, oracle, orders, points, scale, tables
from lib.ui.regimes import HEIGHT, draw, pick


def view(columns: Sequence[DeltaGenerator], foot: DeltaGenerator) -> None:
    """The seeds' twelve cells: the pairs as hollow points, every cell in the table."""
    cells = cache.published("cells")
    with columns[0]:
        scales = pick("Scale", cells["scale"].unique(maintain_order=True).to_list(), "scale")
    with columns[1]:
        corpora = pick(
            "Corpus", cells["corpus"].unique(maintain_order=True).to_list(), "seed-corpus"
        )
    with columns[2]:
        st.selectbox("Inner change", ["peak reconstruction ratio"], disabled=True, key="seed-inner")
    with columns[3]:
        st.selectbox("KL on", ["not stated"], disabled=True, key="seed-outer")
    with columns[4]:
        st.selectbox("Cuts", ["labels"], disabled=True, key="seed-cuts",
                     help="Ours: the middles of the gaps that give the published labels.")  # fmt: skip
    chosen = cells.filter(pl.col("scale").is_in(scales), pl.col("corpus").is_in(corpora))
    pairs = oracle.published(chosen)
    cuts = oracle.CUTS
    title = "inner change: peak cross / self reconstruction error, as published (log)"
    x = Axis.over(title, points.extent(pairs, "x", [cuts.internal]))
    y = Axis.over(
        "outer change: KL as published, nats per token",
        points.extent(pairs, "y", [cuts.output]), start=0.0,
    )  # fmt: skip
    draw(scatter.regimes(pairs, x, y, [cuts], size=(1120, HEIGHT)))
    st.markdown(
        claims.correlation(orders.correlations(pairs), None, {}, "KL", orders.without_one(pairs))
    )
    st.markdown(limits.said(pairs))
    st.markdown(claims.published(pairs, len(chosen), oracle.within_margin(pairs, cuts)))
    _tables(chosen)
    scale.published(pairs)
    foot.caption(
        "published · Llama 3B, 8B and 70B · LoRA rank 16, attention-only, 50 steps · "
        f"{len(pairs)} of {len(chosen)} cells have both values · empty = not published · seeds "
        "unknown · no interval published · S0 = podcast, S1 = post (data/published/)"
    )


def _tables(cells: pl.DataFrame) -> None:
    one, two, three, four = st.tabs(
        ["Our rule on the published table", "Cells", "Aggregates", "Not published, or in tension"]
    )
    with one:
        found = oracle.compared(cache.published("cells"), cache.published("labels"))
        st.markdown(oracle.verdict(found, cache.published("aggregates")))
        tables.show(found, COMPARED, name="published-labels")
    with two:
        tables.show(cells, tables.CELLS, name="published-cells")
    with three:
        tables.show(cache.published("aggregates"), tables.AGGREGATES, name="published-aggregates")
    with four:
        gaps = cache.published("gaps")
        counts = gaps.group_by("kind", maintain_order=True).len("n").iter_rows()
        st.markdown(", ".join(f"{n} {kind}" for kind, n in counts) + ".")
        tables.show(gaps, GAPS, name="published-gaps")


COMPARED = {
    "corpus": ("corpus", None), "scale": ("scale", None), "ratio": ("peak ratio", "%.1f"),
    "kl": ("KL, nats", "%.3f"), "words": ("called", None), "label": ("published label", None),
    "ours": ("label by our rule", None), "agrees": ("agree", None),
    "margin": ("undecided with our margin", None), "source": ("source", None),
}  # fmt: skip

GAPS = {
    "kind": ("kind", None), "what": ("what", None), "scope": ("of", None),
    "source": ("source", None), "note": ("note", None),
}  # fmt: skip
