"""The parts of the perplexity page."""

from collections.abc import Sequence

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.figures import panels
from lib.figures.panels import Panel
from lib.ui import (
    cache,
    claims,
    limits,
    novelty,
    orders,
    reads,
    regime_tables,
    surprise,
    surprise_claims,
    tables,
)
from lib.ui.frame import provenance_all
from lib.ui.links import url_choice
from lib.ui.nulls import Nulls
from lib.ui.texts import HELP, TEXTS

ALL = "all"


def measured(columns: Sequence[DeltaGenerator], foot: DeltaGenerator) -> None:
    """Our experiments: three panels over base perplexity, verdict, the published claim, tables."""
    known = cache.experiments()
    if known.is_empty():
        _say_empty()
        return
    models = known["base_model"].unique(maintain_order=True).to_list()
    with columns[0]:
        model = url_choice(
            "Model", [*([ALL] if len(models) > 1 else []), *models], "model",
            help="Perplexities of models with other tokens do not compare: orders are within models.",
        )  # fmt: skip
    with columns[1]:
        kind = url_choice(
            "Novel features", list(novelty.KINDS), "novel", "strict", novelty.KINDS.__getitem__,
        )  # fmt: skip
    with columns[2]:
        null = _pick_null()
    with columns[3]:
        text = url_choice("KL on", list(TEXTS), "text", "corpus", TEXTS.__getitem__, help=HELP)
    axes = cache.axes("corpus").filter(pl.lit(model == ALL) | (pl.col("base_model") == model))
    found = _points(axes, text, kind, null)
    if found.points.is_empty():
        _say_empty()
        return
    shown = surprise.panels(kind, null)
    _draw(found, shown, _bands(reads.nulls(text), found.points["model"].unique().to_list()))
    every = _every_order(cache.store_id())
    _say(found, surprise.tests(found.points, shown), every, kind, null)
    _tables(found, every, kind)
    with foot:
        provenance_all(
            found.runs["experiment_id"].to_list(), f"perplexity on corpus text, KL on {TEXTS[text]}"
        )


def _say(
    found: surprise.Surprise,
    counted: list[surprise.Counted],
    every: pl.DataFrame,
    kind: str,
    null: novelty.Null,
) -> None:
    """Ours beside the published claim, and what n, models, nulls and dictionaries allow."""
    models = found.points.unique("model").sort("n_parameters", "model")["model"].to_list()
    if len(models) > 1:
        st.caption(
            f"Larger marks are larger models: {', '.join(models)}. Each corpus is named once."
        )
    ours, theirs = st.columns(2)
    ours.markdown(surprise_claims.verdict(counted))
    ours.markdown(surprise_claims.sign(counted))
    theirs.markdown(surprise_claims.claim())
    st.markdown(f"{surprise_claims.allowed(counted, every)} {limits.families(models)}")
    st.markdown(surprise_claims.counted(found.runs, kind, null))


def _pick_null() -> novelty.Null:
    """Which null is taken off; without any null control there is nothing to take off."""
    counted = reads.novelty()
    if counted.is_empty() or not (counted["null_draws"].fill_null(0) > 0).any():
        return url_choice(
            "Null taken off", ["kept"], "null", "kept", novelty.NULLS.__getitem__,
            help="Null counts are not measured.",
        )  # fmt: skip
    return url_choice(
        "Null taken off", list(novelty.NULLS), "null", "model", novelty.NULLS.__getitem__,
        help="The share of novel latents where nothing was learned: in all null draws of the model, or "
        "in the training's own.",
    )  # fmt: skip


def _points(axes: pl.DataFrame, text: str, kind: str, null: novelty.Null) -> surprise.Surprise:
    return surprise.points(axes, cache.axes(text), reads.novelty(), kind, reads.nulls(text), null)


def _tables(found: surprise.Surprise, every: pl.DataFrame, kind: str) -> None:
    one, two = st.tabs(["Trainings", "All orders, corrected"])
    with one:
        tables.show(found.runs, COLUMNS, name=f"perplexity-{kind}")
    with two:
        st.markdown(claims.tested(every))
        tables.show(every, regime_tables.ORDERS, name="perplexity-orders")


@st.cache_data(max_entries=4, show_spinner=False)
def _every_order(store_id: str) -> pl.DataFrame:
    """Base perplexity against all that the page can show, over all experiments of the store."""
    axes, pairs = cache.axes("corpus"), {}
    for null in ("kept", "own"):  # the model's null is the same for all its points: no other order
        for kind, label in novelty.KINDS.items():
            rows = _points(axes, "corpus", kind, null)
            name = f"novel features ({label}{', own null taken off' * (null == 'own')})"
            pairs[name, "base perplexity"] = surprise.against(rows.points, "novel")
    for text in TEXTS:
        rows = _points(axes, text, "strict", "kept")
        pairs[f"KL on {TEXTS[text]}", "base perplexity"] = surprise.against(rows.points, "outer")
        pairs["peak reconstruction ratio", "base perplexity"] = surprise.against(
            rows.points, "inner"
        )
    return orders.hypotheses(pairs)


def published(columns: Sequence[DeltaGenerator], foot: DeltaGenerator) -> None:
    """The seeds' two perplexities, and what can be said of their correlation."""
    for column, label, value in zip(
        columns, ("Scale", "Novel features", "Null taken off", "KL on"),
        ("70B", "not defined", "not stated", "not stated"), strict=True,
    ):  # fmt: skip
        with column:
            st.selectbox(label, [value], disabled=True, key=f"seed-perplexity-{label}")
    rows = surprise.published(cache.published("cells"))
    shown = surprise.panels("strict", "kept")
    shown = (shown[0]._replace(title="novel features (not defined)"), *shown[1:])
    _draw(surprise.Surprise(rows, rows.clear()), shown, {})
    st.markdown(surprise_claims.claim())
    st.markdown(
        surprise_claims.verdict(surprise.tests(rows, shown), "From the published cells: rank")
    )
    cells = cache.published("cells").filter(scale="70B")
    tables.show(cells, tables.CELLS, name="published-perplexity")
    foot.caption(
        f"published · Llama 70B · {len(rows)} of {len(cells)} perplexities · no number of novel "
        "features is published · no interval · S0 = podcast, S1 = post (data/published/)"
    )


def _bands(controls: Nulls, models: list[str]) -> dict[str, tuple[float, float]]:
    """Null range by panel, where one model is shown; two models' would lie over each other."""
    if len(models) != 1:
        return {}
    inner, outer = controls.reach(models[0], "ratio")
    return {name: reach[:2] for name, reach in (("inner", inner), ("outer", outer)) if reach}


def _say_empty() -> None:
    st.info(
        "No experiment has a base perplexity on its corpus: the `metrics` stage has not run. Run "
        "`python -m lib run data/experiments/embedded.yaml` to the end."
    )


def _draw(
    found: surprise.Surprise,
    shown: Sequence[Panel],
    bands: dict[str, tuple[float, float]],
) -> None:
    st.plotly_chart(
        panels.shared(
            found.points, surprise.PERPLEXITY, shown, height=470, bands=bands,
            runs=None if found.runs.is_empty() else found.runs,
        ),
        config={"displayModeBar": False}, key="perplexity:figure",
    )  # fmt: skip


COLUMNS = {
    "name": ("training", None), "base_model": ("model", None), "seed": ("seed", "%d"),
    **tables.with_bounds("perplexity", "base perplexity", "%.1f"),
    "count": ("novel features", "%d"), "alive": ("alive latents", "%d"),
    "null_count": ("null count (mean of draws)", "%.1f"), "null_alive": ("null alive", "%.0f"),
    "null_draws": ("null draws", "%d"),
    **tables.with_bounds("novel", "novel share as drawn", "percent"),
    "layers": ("depths", "%d"), "fve_low": ("FVE of the difference, lowest", "%.2f"),
    "fve_high": ("FVE of the difference, highest", "%.2f"),
    **tables.with_bounds("inner", "peak ratio", "%.3f"),
    **tables.with_bounds("outer", "KL, nats", "%.3f"),
    "n_documents": ("documents", "%d"), "n_tokens": ("tokens", "%d"),
}  # fmt: skip
