"""Adapters against each other as a heat map whose cells can be clicked."""

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from lib.figures import theme
from lib.figures.weights import Quantity, coloured, titled

SAME_START = "="
"""Marks pairs that began with the same A."""
_MOST_WRITTEN = 16
"""Adapters past which the numbers would run into each other; the pointer still has them."""


class Between(NamedTuple):
    """One score of every pair of adapters."""

    ids: Sequence[str]
    labels: Sequence[str]
    values: Sequence[Sequence[float | None]]
    """Symmetric; None on the diagonal and where a pair was not compared."""
    texts: Sequence[Sequence[str]]
    hovers: Sequence[Sequence[str]]


def between(scores: Between, shown: Quantity, chosen: tuple[str, str] | None = None) -> go.Figure:
    """Adapters against adapters; the pair that is looked at is outlined.

    Every cell holds a mark that can be clicked, whose ``customdata`` are the ids of the pair.
    """
    size = len(scores.ids)
    written = size <= _MOST_WRITTEN
    figure = go.Figure(
        go.Heatmap(
            z=scores.values, x=list(range(size)), y=list(range(size)), text=scores.texts,
            texttemplate="%{text}" if written else None, xgap=3, ygap=3, hoverinfo="skip",
            colorbar={"thickness": 9, "nticks": 5, "x": 1.01},
            **coloured([v for row in scores.values for v in row], shown),
        )
    )  # fmt: skip
    figure.add_trace(_clickable(scores))
    if chosen and set(chosen) <= set(scores.ids):
        row, column = (scores.ids.index(name) for name in chosen)
        figure.add_shape(
            type="rect", x0=column - 0.49, x1=column + 0.49, y0=row - 0.47, y1=row + 0.47,
            line={"color": theme.TUNED, "width": 3},
        )  # fmt: skip
    ticks = {"tickvals": list(range(size)), "ticktext": list(scores.labels), "showgrid": False,
             "zeroline": False, "range": [-0.5, size - 0.5]}  # fmt: skip
    figure.update_xaxes(**ticks, side="top", tickangle=-35, ticklabeloverflow="allow")
    figure.update_yaxes(**ticks | {"range": [size - 0.5, -0.5]})
    return figure.update_layout(
        template=theme.TEMPLATE, height=146 + 34 * size, title=titled(shown.title),
        showlegend=False, clickmode="event+select", dragmode=False,
        margin={"l": 10, "r": 60, "t": 126, "b": 10},
    )  # fmt: skip


def _clickable(scores: Between) -> go.Scatter:
    places = [
        (row, column)
        for row, values in enumerate(scores.values)
        for column, value in enumerate(values)
        if value is not None
    ]
    return go.Scatter(
        x=[column for _, column in places], y=[row for row, _ in places], mode="markers",
        marker={"symbol": "square", "size": 30, "opacity": 0},
        customdata=[[scores.ids[row], scores.ids[column]] for row, column in places],
        hovertext=[scores.hovers[row][column] for row, column in places],
        hovertemplate="%{hovertext}<extra></extra>",
        selected={"marker": {"opacity": 0}}, unselected={"marker": {"opacity": 0}},
    )  # fmt: skip
