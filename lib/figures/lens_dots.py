"""Dots with intervals: similarity to corpora, the search for a coefficient, changes of loss."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lib.figures import theme
from lib.metrics.shares import wilson

ROW = 42
"""Pixels a row."""


class Dot(NamedTuple):
    """One value with its interval; None ends = it has none."""

    row: str
    value: float
    low: float | None
    high: float | None
    hover: str


class Strip(NamedTuple):
    """Draws of one control in one row."""

    row: str
    values: tuple[float, ...]
    hovers: tuple[str, ...]


KINDS = {
    "steered": (theme.TUNED, "circle", -0.13),
    "unsteered": (theme.NEUTRAL, "circle-open", 0.13),
}
"""Colour, symbol and shift within the row."""


def similarities(dots: Mapping[str, Sequence[Dot]], rows: Sequence[str], unit: str) -> go.Figure:
    """Steered filled, unsteered hollow, a row for every corpus.

    Args:
        dots: kind (``steered``, ``unsteered``) -> one per corpus.
        rows: corpora from the top, as the axis names them.
        unit: of the axis.
    """
    figure = go.Figure()
    for kind, (colour, symbol, shift) in KINDS.items():
        part = dots.get(kind, ())
        if part:
            _dots(figure, part, rows, kind, colour, symbol, shift, {})
    _rows(figure, rows)
    figure.update_xaxes(title=unit, rangemode="tozero", zeroline=False)
    return _finish(figure, 90 + ROW * len(rows))


def search(
    tried: Sequence[float], shares: Sequence[float], kept: float, wanted: float, n: int
) -> go.Figure:
    """Coefficients that were tried, in order, against the share of ``n`` samples that are coherent.

    Args:
        kept: the coefficient that was chosen, drawn filled.
        wanted: the least share, drawn as a line.
    """
    figure = go.Figure()
    dotted = {"color": theme.NEUTRAL, "width": 1, "dash": "dot"}
    figure.add_hline(y=100 * wanted, line=dotted)
    figure.add_scatter(
        x=list(tried), y=[100 * share for share in shares], mode="lines+markers+text",
        text=[str(i) for i in range(1, len(tried) + 1)], textposition="top center",
        line={"color": theme.GRID, "width": 1},
        marker={
            "color": theme.TUNED, "size": 11,
            "symbol": ["circle" if c == kept else "circle-open" for c in tried],
        },
        customdata=[_held(share, n) for share in shares],
        hovertemplate="try %{text}: coefficient %{x:.3g}<br>coherent %{customdata}<extra></extra>",
    )  # fmt: skip
    ticks = sorted(set(tried))
    figure.update_xaxes(
        title="coefficient (length of the push / \u03b7, log)", type="log", tickvals=ticks,
        ticktext=[f"{c:.3g}" for c in ticks],
    )  # fmt: skip
    figure.update_yaxes(
        title=f"coherent, % (dotted: {100 * wanted:.0f} wanted)", range=[-5, 116],
        tickvals=[0, 25, 50, 75, 100],
    )  # fmt: skip
    return _finish(figure, 260).update_layout(showlegend=False)


def _held(share: float, n: int) -> str:
    if not n:
        return f"{100 * share:.0f} %"
    held = wilson(round(share * n), n)
    return (
        f"{100 * share:.0f} % (95 % {100 * held.low:.0f} to {100 * held.high:.0f} %, n = {n} texts)"
    )


def changes(
    dots: Mapping[str, Sequence[Dot]], strips: Mapping[str, Sequence[Strip]], rows: Sequence[str]
) -> go.Figure:
    """A panel for every text: the difference at each position, then the controls' draws.

    Args:
        dots: text -> one for each position.
        strips: text -> one for each control.
        rows: from the top.
    """
    titles = list(dots)
    figure = make_subplots(rows=1, cols=len(titles), shared_yaxes=True, subplot_titles=titles,
                           horizontal_spacing=0.03)  # fmt: skip
    for column, text in enumerate(titles, 1):
        place = {"row": 1, "col": column}
        for strip in strips.get(text, ()):
            _draws(figure, strip, rows, place)
        _dots(figure, dots[text], rows, "difference", theme.DIFFERENCE, "circle", 0.0, place)
        figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1}, **place)
    _rows(figure, rows)
    figure.update_xaxes(title="change of the tuned model\u2019s loss, nats per token", zeroline=False,
                        nticks=6, matches="x")  # fmt: skip
    for note in figure.layout.annotations:
        note.update(font={"size": theme.FONT_SIZE})
    finished = _finish(figure, 110 + ROW * len(rows)).update_layout(showlegend=False)
    return finished.update_layout(margin={"t": 34})


def _dots(
    figure: go.Figure, dots: Sequence[Dot], rows: Sequence[str], name: str, colour: str,
    symbol: str, shift: float, place: dict[str, int],
) -> None:  # fmt: skip
    ends = [(d.low, d.high) if d.low is not None and d.high is not None else (d.value, d.value)
            for d in dots]  # fmt: skip
    figure.add_scatter(
        x=[d.value for d in dots], y=[rows.index(d.row) + shift for d in dots], mode="markers",
        name=name, marker={"color": colour, "size": 11, "symbol": symbol,
                "line": {"width": 2, "color": colour}},
        error_x={
            "type": "data", "symmetric": False, "thickness": 1.6, "width": 5, "color": colour,
            "array": [high - d.value for d, (_, high) in zip(dots, ends, strict=True)],
            "arrayminus": [d.value - low for d, (low, _) in zip(dots, ends, strict=True)],
        },
        customdata=[d.hover for d in dots], hovertemplate="%{customdata}<extra></extra>", **place,
    )  # fmt: skip


def _draws(figure: go.Figure, strip: Strip, rows: Sequence[str], place: dict[str, int]) -> None:
    """Points spread over the row in a fixed pattern: equal draws stay countable."""
    at = rows.index(strip.row)
    figure.add_scatter(
        x=list(strip.values), y=[at + 0.3 * ((7 * i) % 5 - 2) / 2 for i in range(len(strip.values))],
        mode="markers", name=strip.row, marker={"color": theme.NEUTRAL, "size": 7, "opacity": 0.65},
        customdata=list(strip.hovers), hovertemplate="%{customdata}<extra></extra>", **place,
    )  # fmt: skip


def _rows(figure: go.Figure, rows: Sequence[str]) -> None:
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=list(rows), showgrid=False,
                        range=[len(rows) - 0.4, -0.6], zeroline=False)  # fmt: skip


def _finish(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        template=theme.TEMPLATE, height=height, hovermode="closest",
        margin={"l": 10, "r": 20, "t": 30, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yref": "container", "yanchor": "top", "x": 0},
    )  # fmt: skip
