"""The picture of one ablation: the treated share against every control's draws and the ceiling."""

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from lib.figures import theme

TREATED, CEILING = "treated", "full patch"
ROW = 46
"""Pixels a row."""
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")


class Span(NamedTuple):
    """A share of KL undone, 1 = all of it, with its 95 % interval; None ends = it has none."""

    value: float
    low: float | None = None
    high: float | None = None


class Strip(NamedTuple):
    """One control: a point for each draw; a row without points while its draws still run."""

    label: str
    shares: tuple[float, ...] = ()
    percentile: float | None = None
    """97.5th of the draws: what the treated interval has to exceed."""


class Evidence(NamedTuple):
    """All that the picture shows. ``treated`` and ``ceiling`` are None where nothing can be undone."""

    treated: Span | None
    ceiling: Span | None
    controls: Sequence[Strip] = ()
    treatment: str = TREATED
    n: str = ""
    """How much text every point stands on, for the pointer."""


def evidence(shown: Evidence) -> go.Figure:
    """Treated as a line down the picture with its interval as a band; a row for every control.

    The x axis is the share of KL undone in percent: 0 = as far from base as tuned, 100 = base.
    """
    figure = go.Figure()
    labels = [strip.label for strip in shown.controls]
    rows = [shown.treatment, CEILING, *labels]
    if shown.treated is not None:
        _reference(figure, shown.treated)
        _interval(figure, shown.treatment, shown.treated, theme.DIFFERENCE, "circle")
    if shown.ceiling is not None:
        _interval(figure, CEILING, shown.ceiling, theme.BASE, "line-ns-open")
    for number, strip in enumerate(shown.controls):
        _draws(figure, strip, _SYMBOLS[number % len(_SYMBOLS)], len(rows) - 3 - number)
    figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1})
    ticks = list(range(len(rows) - 1, -1, -1))
    figure.update_yaxes(
        tickvals=ticks, ticktext=rows, range=[-0.6, len(rows) - 0.4], showgrid=False, zeroline=False
    )
    figure.update_xaxes(
        title="share of the output change undone, % (0 = tuned, 100 = base)", zeroline=False
    )
    return (
        figure.update_layout(
            template=theme.TEMPLATE,
            height=60 + ROW * len(rows),
            margin={"l": 10, "r": 20, "t": 8, "b": 10},
            showlegend=False,
            hovermode="closest",
            uirevision="ablation",
        )
        .for_each_trace(lambda trace: _add_n(trace, shown.n))
        .update_traces(y0=len(rows) - 1, selector={"name": shown.treatment})
        .update_traces(y0=len(rows) - 2, selector={"name": CEILING})
    )


def _add_n(trace: go.Scatter, n: str) -> None:
    if n:
        trace.hovertemplate = trace.hovertemplate.replace("<extra>", f"<br>{n}<extra>")


def _reference(figure: go.Figure, treated: Span) -> None:
    """The treated share through all rows, so that each draw can be held against it."""
    figure.add_vline(x=100 * treated.value, line={"color": theme.DIFFERENCE, "width": 2})
    if treated.low is not None and treated.high is not None:
        figure.add_vrect(
            x0=100 * treated.low,
            x1=100 * treated.high,
            fillcolor=theme.fill(theme.DIFFERENCE, 0.16),
            line_width=0,
            layer="below",
        )


def _interval(figure: go.Figure, label: str, span: Span, colour: str, symbol: str) -> None:
    ends = None
    if span.low is not None and span.high is not None:
        ends = {
            "type": "data",
            "symmetric": False,
            "array": [100 * (span.high - span.value)],
            "arrayminus": [100 * (span.value - span.low)],
            "thickness": 2,
            "width": 6,
        }
    figure.add_scatter(
        x=[100 * span.value],
        dy=0,
        mode="markers+text",
        text=[f"{100 * span.value:.3g} %".replace("-", "\u2212")],
        textposition="top right",
        textfont={"size": theme.LABEL_SIZE},
        name=label,
        marker={"color": colour, "size": 13, "symbol": symbol, "line": {"width": 3}},
        error_x=ends,
        hovertemplate=f"{label}: %{{x:.3g}} %{_ends(span)}<extra></extra>",
    )


def _draws(figure: go.Figure, strip: Strip, symbol: str, row: int) -> None:
    """Points spread over the row in a fixed pattern: equal draws stay countable."""
    spread = [row + 0.28 * ((7 * i) % 5 - 2) / 2 for i in range(len(strip.shares))]
    figure.add_scatter(
        x=[100 * share for share in strip.shares],
        y=spread,
        mode="markers",
        name=strip.label,
        marker={"color": theme.NEUTRAL, "size": 7, "opacity": 0.65, "symbol": symbol},
        hovertemplate=f"{strip.label}: %{{x:.3g}} %<extra></extra>",
    )
    if strip.percentile is None:
        return
    figure.add_scatter(
        x=[100 * strip.percentile] * 2,
        y=[row - 0.38, row + 0.38],
        mode="lines",
        name=f"{strip.label}, 97.5th percentile",
        line={"color": theme.NEUTRAL, "width": 3},
        hovertemplate=f"{strip.label}, 97.5th percentile of its draws: %{{x:.3g}} %<extra></extra>",
    )


def _ends(span: Span) -> str:
    if span.low is None or span.high is None:
        return ""
    return f" (95 % {100 * span.low:.3g} to {100 * span.high:.3g})"
