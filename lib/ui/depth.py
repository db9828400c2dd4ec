"""The parts of the layers page."""

import polars as pl
import streamlit as st

from lib.figures.layers import METRICS, Metric, by_depth, late_start
from lib.figures.nulls import beside, null_band
from lib.ui import cache, internal, internal_view, names, tables, verdicts
from lib.ui.links import url_choice, url_multi

_SHORT = {
    "all": "all three", "displacement": "1 - CKA", "relative_displacement": "displacement",
    "ratio": "ratio",
}  # fmt: skip


def pick_others(experiment_id: str) -> list[str]:
    """Experiments laid over the chosen one; at first those of the same model and recipe."""
    known = cache.experiments()
    own = cache.experiment(experiment_id)
    others = known.filter(pl.col("experiment_id") != experiment_id)
    alike = others.filter(
        [pl.col(c).eq_missing(pl.lit(own[c])) for c in ("base_model", "rank", "steps", "seed")]
    )
    return url_multi(
        "Laid over it", others["experiment_id"].to_list(), "with",
        alike["experiment_id"].to_list(), names.labels(known).__getitem__,
        placeholder="none",
    )  # fmt: skip


def pick_metrics() -> list[Metric]:
    """One metric, or all of them."""
    options = ["all", *(metric.column for metric in METRICS)]
    chosen = url_choice("Measure", options, "metric", "all", _SHORT.__getitem__)
    return [metric for metric in METRICS if chosen in ("all", metric.column)]


def view(experiment_id: str, overlaid: list[str], metrics: list[Metric]) -> None:
    """Figure and verdict. Without a single layer the page says which stage is missing."""
    rows = cache.layers([experiment_id, *overlaid])
    own = rows.filter(experiment_id=experiment_id)
    if own.is_empty():
        st.info(f"`{experiment_id}` has no layer metrics: its `metrics` stage has not run. Run "
                "`python -m lib run data/experiments/embedded.yaml` to the end.")  # fmt: skip
        return
    st.plotly_chart(
        by_depth(
            rows, metrics, nulls=internal_view.null_draws(experiment_id), focus=experiment_id,
            height=490,
        ),
        config={"displayModeBar": False}, key="layers:figure",
    )  # fmt: skip
    n_layers = own["n_layers"][0]
    late = None if n_layers is None else late_start(n_layers)
    st.markdown(f"**In {own['corpus'][0]}:** {verdicts.peaks(own, metrics, late)}")
    in_mlp = own["hook"][0] == "mlp"
    st.caption(
        _tokens(own)
        + (" MLP outputs: a change in one layer does not add up through the next ones, as it would "
           "in the residual stream." if in_mlp else "")
    )  # fmt: skip


def table(experiment_id: str, overlaid: list[str]) -> None:
    """Every layer of the experiments drawn, as numbers. Overfitted in-sample ratios are left out."""
    rows = cache.layers([experiment_id, *overlaid])
    if rows.is_empty():
        return
    st.subheader("Every layer", anchor=False)
    kept = pl.col("ratio_in_sample") <= internal.GUARD * pl.col("ratio")
    rows = rows.with_columns(ratio_in_sample=pl.when(kept).then("ratio_in_sample"))
    band = null_band(internal_view.null_draws(experiment_id), "displacement")
    tables.show(beside(rows, band), tables.LAYERS, name="layers", helps=tables.LAYER_HELPS)


def _tokens(own: pl.DataFrame) -> str:
    """How many tokens stand behind each layer, and where massive ones were left out."""
    least, most = (f"{end:,}" for end in (own["n_tokens"].min(), own["n_tokens"].max()))
    n = least if least == most else f"{least} to {most}"
    text = f"Intervals hold the peak's layer fixed. n = {n} held-out tokens per layer."
    dropped = own.filter(pl.col("massive_dropped") > 0)
    if dropped.is_empty():
        return text
    where = verdicts.listed([str(layer) for layer in dropped["layer"]])
    energy = 100 * dropped["massive_energy_base"].max()
    return (
        f"{text} Massive-activation tokens are left out at layer {where}: at most "
        f"{dropped['massive_dropped'].max():,}, carrying up to {energy:.0f} % of a layer's energy."
    )
