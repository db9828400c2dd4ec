"""Do shared features mean the same? Each as a point: what taking it away moves, base and tuned."""

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from lib.figures import theme
from lib.figures.axis import Axis


class Shift(NamedTuple):
    """One feature ablated alone: mean KL per scored token in either model, nats."""

    feature: int
    base: float
    tuned: float
    fires: int


def shifts(points: Sequence[Shift]) -> go.Figure:
    """Base to the right, tuned upwards; the dashed line is equality.

    A feature without any effect in one model has no place on a logarithmic axis and is left out.
    """
    drawn = [p for p in points if p.base > 0 and p.tuned > 0]
    axes = [Axis.over("", side) for side in ([p.base for p in drawn], [p.tuned for p in drawn])]
    ends = [min(axis.low for axis in axes), max(axis.high for axis in axes)]
    figure = go.Figure()
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": theme.NEUTRAL, "dash": "dash", "width": 1},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[p.base for p in drawn],
        y=[p.tuned for p in drawn],
        mode="markers",
        marker={"color": theme.DIFFERENCE, "size": 9, "opacity": 0.75},
        customdata=[[p.feature, p.fires] for p in drawn],
        hovertemplate="feature %{customdata[0]}: base %{x:.3g}, tuned %{y:.3g} nats, fires "
        "%{customdata[1]} times<extra></extra>",
    )
    for update, axis, side in zip(
        (figure.update_xaxes, figure.update_yaxes), axes, ("base", "tuned"), strict=True
    ):
        update(**axis.plotly | {"title": f"KL when taken away from {side}, nats per token"})
    return figure.update_layout(
        template=theme.TEMPLATE,
        height=460,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        showlegend=False,
    )
