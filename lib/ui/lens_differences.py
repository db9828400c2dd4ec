"""The Differences view: how long the mean difference is at every layer, and how constant."""

from typing import Any

import polars as pl
import streamlit as st

from lib.figures.lens import by_layer
from lib.ui import lens_reads, tables

_COLUMNS = {
    "probe": ("text", None), "layer": ("layer", "%d"), "position": ("position", "%d"),
    "relative": ("norm / base norm", "percent"), "relative_error": ("standard error", "percent"),
    "norm": ("norm", "%.3g"), "error": ("standard error ", "%.3g"),
    "base_norm": ("base norm", "%.4g"), "tuned_norm": ("tuned norm", "%.4g"),
    "offset_share": ("offset share", "percent"), "null_share": ("its null, 1 / n", "percent"),
    "first_cosine": ("cosine with position 0", "%.2f"), "n": ("texts", "%d"),
}  # fmt: skip
_HELPS = {
    "relative": "length of the mean of tuned - base, over the mean length of the base's activations",
    "relative_error": "of the mean, as a length: also the norm that noise alone gives (the null)",
    "norm": "in units of the activations",
    "error": "of the mean, as a length",
    "offset_share": "n |mean|^2 / sum |difference|^2; 100 % = one vector for all texts",
    "null_share": "what differences without anything in common give",
    "first_cosine": "of the two mean differences; 1 = the same direction",
    "n": "texts that reach the position and are not massive there",
}


def show(experiment_id: str, run: dict[str, Any], layer: int) -> None:
    """Figure, verdict and every number."""
    rows = lens_reads.table("difference", experiment_id)
    titles = {
        probe: f"{run['corpus']}, held out" if probe == "corpus" else f"unrelated text ({probe})"
        for probe in sorted(rows["probe"].unique(), key=lambda probe: probe == "corpus")
    }
    st.plotly_chart(
        by_layer(rows, titles, layer), config={"displayModeBar": False}, key="lens:differences"
    )
    st.caption(
        "Bars: one standard error of the mean, as a length. Dotted: what noise alone gives. Dashed: "
        f"layer {layer}."
    )
    st.markdown(sentence(rows.filter(layer=layer), titles, layer))
    st.subheader(f"Layer {layer}", anchor=False)
    order = list(titles)
    table = rows.sort(pl.col("probe").replace_strict(order, range(len(order))), maintain_order=True)
    table = table.with_columns(
        probe=pl.col("probe").replace_strict(titles),
        relative_error=pl.col("error") / pl.col("base_norm"),
        null_share=1 / pl.col("n"),
    )
    tables.show(table.filter(layer=layer), _COLUMNS, name="lens_layer", helps=_HELPS)
    with st.expander("Every layer"):
        tables.show(table, _COLUMNS, name="lens_differences", helps=_HELPS)


def sentence(rows: pl.DataFrame, titles: dict[str, str], layer: int) -> str:
    """Length and offset share at one layer, least to most over positions, with error and null."""
    parts = [_of_text(rows.filter(probe=probe), title) for probe, title in titles.items()]
    return (
        f"**At layer {layer}, on {parts[0]}** "
        + " ".join(f"On {part}" for part in parts[1:])
        + " Whether it is one shift for every context, the *Robustness* view says."
    )


def _of_text(rows: pl.DataFrame, title: str) -> str:
    if rows.is_empty():
        return f"{title}, no text is long enough."
    relative = _span(100 * rows["relative"])
    share = _span(100 * rows["offset_share"])
    errors = (100 * rows["error"] / rows["base_norm"]).drop_nulls()
    error = f"{errors.max():.2g} points" if len(errors) else "not defined (one text)"
    n = _span(rows["n"], "d")
    return (
        f"{title}, the mean difference is {relative} % as long as the base's activations ("
        f"{len(rows)} positions; largest standard error {error}; n = {n} texts), and {share} % of "
        f"the squared differences are one common vector (by chance {100 / rows['n'].min():.2g} %)."
    )


def _span(values: pl.Series, form: str = ".3g") -> str:
    low, high = (f"{end:{form}}" for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
