"""The tables of the measured regimes page: labels, training seeds, every order."""

import polars as pl
import streamlit as st

from lib.ui import cache, causal, claims, names, orders, points, regime_claims, retest, tables
from lib.ui.inner import INNER, CutSource, Inner
from lib.ui.nulls import Nulls
from lib.ui.texts import TEXTS


def show(
    shown: points.Measured,
    axes: pl.DataFrame,
    inner: Inner,
    text: str,
    source: CutSource,
    controls: Nulls,
    ablations: pl.DataFrame,
) -> None:
    """Points with their labels, test-retest, and every order the page can show, corrected."""
    one, two, three = st.tabs(["Points and labels", "Training seeds", "All orders, corrected"])
    with one:
        _labels(shown, axes, inner, text, source, controls, ablations)
    with two:
        found = seeds(shown, inner, text)
        if found.is_empty():
            st.info(
                "No corpus was trained with two or more seeds. `seeds: [0, 1, 2]` in an experiments "
                "file repeats a corpus."
            )
        else:
            tables.show(found, SEEDS, name=f"seeds-{text}")
            st.caption(
                "sd with n - 1; range of the seeds; 95 % over documents = mean of the seeds' bounds. "
                "sd / sd = spread over seeds over spread over documents (interval / 3.92): above 1, "
                "training again moves the number more than other documents do."
            )
    with three:
        found = all_orders(cache.store_id())
        st.markdown(claims.tested(found))
        tables.show(found, ORDERS, name="orders")


def seeds(shown: points.Measured, inner: Inner, text: str) -> pl.DataFrame:
    """Test-retest of the experiments shown: the inner axis, KL, and the other inner metrics."""
    runs = shown.runs
    short = dict(shown.points.select("experiment_id", "name").iter_rows())
    empty = pl.lit(None, pl.Float64)
    unbounded = {
        f"{way.column}_{end}": empty
        for way in INNER.values() if not way.bounded for end in ("low", "high")
    }  # fmt: skip
    rows = runs.with_columns(name=pl.col("point").replace_strict(short), **unbounded)
    wanted = [retest.Quantity(way.column, way.label, way.unit) for way in INNER.values()]
    wanted.sort(key=lambda quantity: quantity.column != inner.column)
    outer = retest.Quantity("kl", f"KL on {TEXTS[text]}", "nats per token")
    return retest.spread(rows, [wanted[0], outer, *wanted[1:]])


def _labels(
    shown: points.Measured,
    axes: pl.DataFrame,
    inner: Inner,
    text: str,
    source: CutSource,
    controls: Nulls,
    ablations: pl.DataFrame,
) -> None:
    ids = shown.runs["experiment_id"]
    rows = axes.filter(pl.col("experiment_id").is_in(ids.implode()))
    labels = names.labels(cache.experiments().filter(pl.col("experiment_id").is_in(ids.implode())))
    table = (
        rows.join(points.table(shown), on="experiment_id", maintain_order="left")
        .join(points.opinions(axes, source, controls), on="experiment_id", maintain_order="left")
        .join(causal.columns(ablations), on="experiment_id", how="left", maintain_order="left")
        .with_columns(
            causal=pl.col("causal").fill_null(causal.MISSING),
            name=pl.col("experiment_id").replace_strict(labels),
            **_null_columns(controls, inner),
        )
    )
    st.markdown(regime_claims.opinions(table))
    tables.show(table, LABELS | causal.TABLE | tables.AXES | PEAK | NULLS, name=f"regimes-{text}")
    st.caption(
        "One row per training; the label belongs to the corpus, from the mean over its seeds. P = "
        "share of 2,000 draws of all points from their intervals over documents, both axes "
        "independent, log-normal with the stored 95 % interval (normal where that reaches no "
        "change), times Student's t for the error of a mean over seeds; cuts made from the points "
        "are made anew in each draw, null cuts are held. Indeterminate = under 90 %, or "
        f"{regime_claims.NEAR}."
    )


def _null_columns(controls: Nulls, inner: Inner) -> dict[str, pl.Expr]:
    """Null range of both axes by model, as columns."""
    models = {*controls.layers["base_model"], *controls.outputs["base_model"]}
    reaches = {model: controls.reach(model, inner.column) for model in models}
    made = {}
    for at, axis in enumerate(("inner", "outer")):
        for field in ("low", "high", "draws"):
            by = {m: getattr(r[at], field) for m, r in reaches.items() if r[at]}
            kind = pl.Int64 if field == "draws" else pl.Float64
            made[f"null_{axis}_{field}"] = pl.col("base_model").replace_strict(
                by, default=None, return_dtype=kind
            )
    return made


@st.cache_data(max_entries=4, show_spinner=False)
def all_orders(store_id: str) -> pl.DataFrame:
    """Every inner metric against every outer text, over all experiments of the store."""
    found = {}
    for inner in INNER.values():
        for text in TEXTS:
            runs = points.bare(cache.axes(text), inner)
            found[inner.label, f"KL on {TEXTS[text]}"] = retest.cells(runs, ("x", "y"))
    return orders.hypotheses(found)


LABELS = {
    "name": ("training", None), "corpus": ("corpus", None), "base_model": ("model", None),
    "seed": ("seed", "%d"), "seeds": ("seeds of the point", "%d"), "regime": ("regime", None),
    "undecided": ("undecided axis", None), "course": ("with its course", None),
    "p_near-unchanged": ("P near-unchanged", "percent"),
    "p_latent divergence": ("P latent divergence", "percent"),
    "p_behavioural capture": ("P behavioural capture", "percent"),
    "p_coupled adaptation": ("P coupled adaptation", "percent"),
    "label_ratio": ("by ratio", None), "label_displacement": ("by 1 - CKA", None),
    "label_moved": ("by displacement", None), "opinion": ("metrics", None),
}  # fmt: skip

PEAK = {"peak_share": ("resamples with this peak", "percent")}

NULLS = {
    "null_inner_low": ("null of the inner axis, low", "%.4g"),
    "null_inner_high": ("null of the inner axis, high", "%.4g"),
    "null_inner_draws": ("null draws, inner", "%d"),
    "null_outer_low": ("null KL low, nats", "%.4g"),
    "null_outer_high": ("null KL high, nats", "%.4g"),
    "null_outer_draws": ("null draws, outer", "%d"),
}

SEEDS = {
    "name": ("corpus", None), "base_model": ("model", None), "quantity": ("quantity", None),
    "unit": ("unit", None), "seeds": ("seeds", "%d"), "mean": ("mean", "%.4g"),
    "sd": ("sd over seeds", "%.3g"), "low": ("lowest seed", "%.4g"),
    "high": ("highest seed", "%.4g"), "documents_low": ("95 % over documents, low", "%.4g"),
    "documents_high": ("95 % over documents, high", "%.4g"), "share": ("sd / sd", "%.2f"),
}  # fmt: skip

ORDERS = {
    "inner": ("inner change", None), "outer": ("outer change", None), "over": ("over", None),
    "n": ("n corpora", "%d"), "rho": ("Spearman rho", "%.2f"), "p": ("p, exact", "%.2g"),
    "p_min": ("smallest possible p", "%.2g"), "p_holm": ("p after Holm", "%.2g"),
    "loo_low": ("rho without one, lowest", "%.2f"),
    "loo_high": ("rho without one, highest", "%.2f"),
    "same_sign": ("sign kept in draws", "percent"),
}  # fmt: skip
