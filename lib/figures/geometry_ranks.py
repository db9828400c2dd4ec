"""Density and divergence against rank, a line for every depth, corpora side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from lib.figures import theme
from lib.figures.geometry import SYMBOLS, TONES

_DODGE = 1.035
"""Factor between the depths' marks at one rank, so that their intervals can be told apart."""


class Side(NamedTuple):
    """One experiment: frames with rank, layer, value, low, high (null = no interval), hover."""

    title: str
    density: pl.DataFrame
    distance: pl.DataFrame
    """In standard deviations of chance, more = nearer."""
    baselines: dict[str, pl.DataFrame]
    """Name -> rank and value: the mean over depths of what two seeds score."""
    null_half: float | None


def by_rank(
    sides: Sequence[Side], names: tuple[str, str], *, bounded: bool, height: int = 560
) -> go.Figure:
    """Density above, distance from chance below; the null band of chance is grey.

    Args:
        names: titles of the two vertical axes.
        bounded: density axis from 0.
    """
    figure = make_subplots(
        rows=2, cols=len(sides), shared_xaxes=True, shared_yaxes="rows", vertical_spacing=0.07,
        horizontal_spacing=0.03, subplot_titles=[side.title for side in sides],
    )  # fmt: skip
    layers = sorted({layer for side in sides for layer in side.density["layer"]})
    ranks = sorted({rank for side in sides for rank in side.density["rank"]})
    for column, side in enumerate(sides, 1):
        for row, frame in ((1, side.density), (2, side.distance)):
            for layer in layers:
                part = frame.filter(layer=layer).drop_nulls("value").sort("rank")
                _line(figure, part, layer, layers, row, column)
        for number, (name, frame) in enumerate(side.baselines.items()):
            _baseline(figure, frame, name, ("dot", "dash")[number % 2], column)
        _chance(figure, side.null_half, column)
    figure.update_xaxes(type="log", tickvals=ranks, ticktext=[str(rank) for rank in ranks])
    figure.update_xaxes(title="rank of the adapter (log)", row=2)
    figure.update_yaxes(nticks=6, zeroline=False)
    for row, name in enumerate(names, 1):
        figure.update_yaxes(title=name, row=row, col=1)
    if bounded:
        figure.update_yaxes(rangemode="tozero", row=1)
    for note in figure.layout.annotations[: len(sides)]:
        note.update(font={"size": theme.FONT_SIZE})
    return figure.update_layout(
        template=theme.TEMPLATE, height=height, hovermode="closest",
        margin={"l": 10, "r": 20, "t": 58, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yref": "container", "yanchor": "top", "x": 0},
    )  # fmt: skip


def _chance(figure: go.Figure, half: float | None, column: int) -> None:
    """After the lines: plotly draws no shape in a panel that is still empty."""
    place = {"row": 2, "col": column}
    if half is not None:
        figure.add_hrect(y0=-half, y1=half, fillcolor=theme.NULL_BAND, line_width=0, layer="below",
                         **place)  # fmt: skip
    figure.add_hline(y=0, line={"color": theme.NEUTRAL, "width": 1}, **place)


def _line(
    figure: go.Figure, part: pl.DataFrame, layer: int, layers: Sequence[int], row: int, column: int
) -> None:
    if part.is_empty():
        return
    at = list(layers).index(layer)
    tone, name = TONES[at % len(TONES)], f"layer {layer}"
    shift = _DODGE ** (at - (len(layers) - 1) / 2)
    ends = part.with_columns(
        up=(pl.col("high") - pl.col("value")).fill_null(0.0),
        down=(pl.col("value") - pl.col("low")).fill_null(0.0),
    )
    figure.add_scatter(
        x=[rank * shift for rank in part["rank"]], y=part["value"].to_list(), mode="lines+markers",
        name=name, legendgroup=name, showlegend=row == column == 1, row=row, col=column,
        line={"color": tone, "width": 1.8},
        marker={"size": 8, "symbol": SYMBOLS[at % len(SYMBOLS)], "color": tone},
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.3, "width": 3, "color": tone,
            "array": ends["up"].to_list(), "arrayminus": ends["down"].to_list(),
        },
        customdata=part["hover"].to_list(), hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _baseline(figure: go.Figure, frame: pl.DataFrame, name: str, dash: str, column: int) -> None:
    rows = frame.drop_nulls("value").sort("rank")
    if rows.is_empty():
        return
    figure.add_scatter(
        x=rows["rank"].to_list(), y=rows["value"].to_list(), mode="lines", name=name,
        legendgroup=name, showlegend=column == 1, row=2, col=column,
        line={"color": theme.NEUTRAL, "width": 2, "dash": dash},
        hovertemplate=f"{name}, mean over depths, rank %{{x}}: %{{y:+.2f}} sd of chance"
        "<extra></extra>",
    )  # fmt: skip
