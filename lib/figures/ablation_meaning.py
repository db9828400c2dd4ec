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
    """Base to the right, tuned upwards, the same scale on both; the dashed line is equality.

    A feature without any effect in one model has no place on a logarithmic axis and is left out.
    """
    drawn = [p for p in points if p.base > 0 and p.tuned > 0]
    values = [v for p in drawn for v in (p.base, p.tuned)]
    axis = Axis.over("KL when taken away", values)
    figure = go.Figure()
    figure.add_scatter(
        x=[axis.low, axis.high],
        y=[axis.low, axis.high],
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
    for update, side in ((figure.update_xaxes, "base"), (figure.update_yaxes, "tuned")):
        update(**axis.plotly | {"title": f"KL when taken away from {side}, nats per token"})
    return figure.update_layout(
        template=theme.TEMPLATE,
        height=460,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        showlegend=False,
    )
