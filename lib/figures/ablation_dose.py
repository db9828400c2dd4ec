"""Dose and response: the share undone by strength, and by the number of features."""

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lib.figures import theme
from lib.figures.ablation import Span


class Dose(NamedTuple):
    """One treated run."""

    amount: float
    share: Span


def dose_response(panels: Sequence[tuple[str, Sequence[Dose]]]) -> go.Figure:
    """A panel for each kind of dose that was asked for.

    Args:
        panels: title of the x axis, and the points; the y axis, in percent, is shared.
    """
    figure = make_subplots(rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05)
    for column, (title, points) in enumerate(panels, 1):
        _curve(figure, sorted(points), column)
        figure.update_xaxes(title=title, col=column)
    figure.update_yaxes(title="undone, %", col=1)
    figure.update_yaxes(zeroline=True, zerolinecolor=theme.NEUTRAL)
    return figure.update_layout(
        template=theme.TEMPLATE,
        height=290,
        margin={"l": 10, "r": 10, "t": 12, "b": 10},
        showlegend=False,
    )


def _curve(figure: go.Figure, points: Sequence[Dose], column: int) -> None:
    shares = [point.share for point in points]
    above = [None if s.high is None else 100 * (s.high - s.value) for s in shares]
    below = [None if s.low is None else 100 * (s.value - s.low) for s in shares]
    ends = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "width": 4}
    figure.add_scatter(
        x=[point.amount for point in points],
        y=[100 * s.value for s in shares],
        error_y=None if None in above else ends,
        mode="lines+markers",
        line={"color": theme.DIFFERENCE, "width": 2},
        marker={"size": 8},
        hovertemplate="%{x:g}: %{y:.3g} % undone<extra></extra>",
        row=1,
        col=column,
    )
