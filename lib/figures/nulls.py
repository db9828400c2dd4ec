"""Null draws along the layers: the light grey band, and the same range in words for a hover."""

import plotly.graph_objects as go
import polars as pl

from lib.figures import theme

BAND = pl.Schema({
    "base_model": pl.String, "layer": pl.Int32, "depth": pl.Float64, "null_low": pl.Float64,
    "null_high": pl.Float64, "null_draws": pl.Int64,
})  # fmt: skip


def null_band(nulls: pl.DataFrame | None, column: str) -> pl.DataFrame:
    """Smallest and largest null draw of each model and layer, and how many; columns ``BAND``.

    Args:
        nulls: as ``lib.store.nulls.null_layers``; None = none measured. A null of ``column`` is no
            draw.
    """
    if nulls is None or nulls.is_empty():
        return BAND.to_frame()
    return (
        nulls.drop_nulls([column, "n_layers"])
        .group_by("base_model", "layer")
        .agg(depth=pl.col("layer").first() / pl.col("n_layers").first(),
             null_low=pl.min(column), null_high=pl.max(column), null_draws=pl.len())
        .sort("base_model", "layer").cast(dict(BAND)).select(BAND.names())
    )  # fmt: skip


def beside(curve: pl.DataFrame, band: pl.DataFrame) -> pl.DataFrame:
    """A curve with ``null``: the null draws of its model at each layer, in words."""
    return (
        curve.with_columns(pl.col("layer").cast(pl.Int32))
        .join(band.drop("depth"), on=["base_model", "layer"], how="left", maintain_order="left")
        .with_columns(pl.col("null_low", "null_high").round_sig_figs(4))
        .with_columns(
            null=pl.format("{} to {} (n = {} draws)", "null_low", "null_high", "null_draws")
            .fill_null("not measured")
        )
    )  # fmt: skip


def draw_band(
    figure: go.Figure, band: pl.DataFrame, row: int, along: str, form: str, *, legend: bool
) -> None:
    """Draw one model's band in one panel; a single draw is a thick light line, none is nothing.

    Args:
        along: column of x, layer or depth.
        form: of the values in the hover, as ``.3f``.
        legend: whether this panel's band stands in the legend.
    """
    if band.is_empty():
        return
    x, low, high = (band[c].to_list() for c in (along, "null_low", "null_high"))
    words = [
        f"null at layer {layer}: {a:{form}} to {b:{form}}, n = {n} draws"
        for layer, a, b, n in band.select("layer", "null_low", "null_high", "null_draws").rows()
    ]
    figure.add_scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", mode="lines",
        fillcolor=theme.NULL_BAND, line={"width": 3, "color": theme.NULL_BAND}, name="null draws",
        legendgroup="null", showlegend=legend, text=[*words, *reversed(words)],
        hoveron="points", hovertemplate="%{text}<extra></extra>", row=row, col=1,
    )  # fmt: skip
