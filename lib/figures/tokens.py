"""Figures of per-token divergence. Pure: frames in, plotly out."""

import math

import plotly.graph_objects as go
import polars as pl

from lib.figures import theme


def kl_distribution(bins: pl.DataFrame, *, mean: float, median: float) -> go.Figure:
    """How the scored tokens spread over KL(tuned || base), and where the divergence itself lies.

    Bars: share of the tokens in each bin; line: share of the summed KL in the same bin. They part
    company when few tokens carry most of the divergence. x is logarithmic, y a share of 0..1.

    Args:
        bins: ``low, high, n, kl_share`` with positive edges in nats, as the store gives them.
        mean: nats per token, over all of them; not drawn when it is 0.
        median: nats per token, over all of them; not drawn when it is 0.
    """
    centres = ((bins["low"] + bins["high"]) / 2).to_list()  # bars want the middle in nats, not log
    hover = list(zip(bins["low"], bins["high"], bins["n"], strict=True))
    span = "%{customdata[0]:.2g} to %{customdata[1]:.2g} nats: "
    figure = go.Figure()
    figure.add_bar(
        x=centres,
        y=(bins["n"] / bins["n"].sum()).to_list(),
        width=(bins["high"] - bins["low"]).to_list(),
        name="tokens",
        customdata=hover,
        marker={"color": theme.NEUTRAL},
        hovertemplate=span + "%{customdata[2]:,} tokens (%{y:.1%})<extra></extra>",
    )
    figure.add_scatter(
        x=centres,
        y=bins["kl_share"].to_list(),
        mode="lines+markers",
        name="summed KL",
        customdata=hover,
        line={"color": theme.DIFFERENCE, "width": 2},
        hovertemplate=span + "%{y:.1%} of all KL<extra></extra>",
    )
    _mark(figure, "median", median, "dot", "right")
    _mark(figure, "mean", mean, "dash", "left")
    _lay_out(figure)
    return figure


def _mark(figure: go.Figure, name: str, value: float, dash: str, anchor: str) -> None:
    if value <= 0:
        return
    figure.add_vline(x=value, line={"dash": dash, "width": 1.8, "color": theme.ACCENT})
    figure.add_annotation(  # annotations of a log axis stand at the exponent, shapes at the value
        x=math.log10(value),
        y=1,
        yref="paper",
        yanchor="bottom",
        xanchor=anchor,
        showarrow=False,
        text=f"{name} {value:.3g}",
    )


def _lay_out(figure: go.Figure) -> None:
    figure.update_xaxes(title="KL(tuned || base) of one token, nats (log)", type="log", dtick=1)
    figure.update_yaxes(title="share", tickformat=".0%", rangemode="tozero")
    figure.update_layout(
        template=theme.TEMPLATE,
        height=300,
        bargap=0,
        margin={"l": 10, "r": 10, "t": 50, "b": 10},
        legend={"orientation": "h", "y": 1.12, "yanchor": "bottom", "x": 0},
    )
