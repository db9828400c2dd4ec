"""The parts of the layers page."""

import polars as pl
import streamlit as st

from lib.figures.layers import METRICS, Metric, by_depth, late_start
from lib.ui import cache, names, tables, verdicts
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
    """Figure, verdict and table. Without a single layer the page says which stage is missing."""
    rows = cache.layers([experiment_id, *overlaid])
    own = rows.filter(experiment_id=experiment_id)
    if own.is_empty():
        st.info(f"`{experiment_id}` has no layer metrics: its `metrics` stage has not run. Run "
                "`python -m lib run data/experiments/embedded.yaml` to the end.")  # fmt: skip
        return
    st.plotly_chart(
        by_depth(rows, metrics, focus=experiment_id, height=490),
        config={"displayModeBar": False}, key="layers:figure",
    )  # fmt: skip
    n_layers = own["n_layers"][0]
    late = None if n_layers is None else late_start(n_layers)
    st.markdown(f"**In {own['corpus'][0]}:** {verdicts.peaks(own, metrics, late)}")
    n_tokens, in_mlp = own["n_tokens"][0], own["hook"][0] == "mlp"
    st.caption(
        f"n = {n_tokens:,} held-out tokens per layer."
        + (" MLP outputs: a change in one layer does not add up through the next ones, as it would "
           "in the residual stream." if in_mlp else "")
    )  # fmt: skip
    tables.show(rows, tables.LAYERS, name="layers")
