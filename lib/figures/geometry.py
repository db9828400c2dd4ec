"""What adapters add: how much of it each description explains, and how far directions lie from chance.

A row for every description or comparison, a mark for every rank. Ranks have a tone and a symbol, so
nothing is told by colour alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lib.figures import theme

TONES = ("#B89A2E", "#D98C6A", "#CC79A7", "#8A4FA3", "#4F9DA6")
"""Of ranks or of depths, lowest first; past the fifth they repeat."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
ROW = 46
"""Pixels a row."""
FLOOR = -0.25
"""Explained shares below this are drawn here, as an arrow."""
_SPREAD = 0.56
"""Of a row's height, for the marks of all ranks."""


class Mark(NamedTuple):
    """One value; None ends = it has no interval."""

    row: str
    rank: int
    value: float
    low: float | None
    high: float | None
    hover: str


class Panel(NamedTuple):
    """One score: its marks in standard deviations of chance, and what 95 % of chance would give."""

    title: str
    marks: Sequence[Mark]
    rows: Sequence[str]
    null_half: float | None
    """Half the width of the null band, the widest of the marks'; None = not defined."""


def ranked(ranks: Sequence[int]) -> dict[int, tuple[str, str, float]]:
    """Tone, symbol and shift within a row of each rank, lowest at the top."""
    step = _SPREAD / max(1, len(ranks) - 1) if len(ranks) > 1 else 0.0
    return {
        rank: (TONES[i % len(TONES)], SYMBOLS[i % len(SYMBOLS)], (i - (len(ranks) - 1) / 2) * step)
        for i, rank in enumerate(sorted(ranks))
    }


def explained(
    marks: Sequence[Mark], rows: Sequence[str], fair: int, ranks: Sequence[int], title: str
) -> go.Figure:
    """Explained shares, 0 and 1 drawn as lines; those under ``FLOOR`` are arrows at the left edge.

    Args:
        rows: from the top; the first ``fair`` of them spend equally many directions on a token, and a
            line sets them off from the others.
        title: of the axis.
    """
    figure = go.Figure()
    for rank, look in ranked(ranks).items():
        part = [mark for mark in marks if mark.rank == rank]
        inside = [mark for mark in part if mark.value >= FLOOR]
        _marks(figure, inside, rows, f"rank {rank}", look, {})
        _arrows(figure, [mark for mark in part if mark.value < FLOOR], rows, rank, look)
    _below(figure, [mark for mark in marks if mark.value < FLOOR], rows)
    for x in (0, 1):
        figure.add_vline(x=x, line={"color": theme.NEUTRAL, "width": 1})
    low = FLOOR - 0.04 if any(mark.value < 0 for mark in marks) else -0.06
    figure.update_xaxes(title=title, range=[low, 1.04], zeroline=False, tickformat=".0%", nticks=8)
    _rows(figure, rows, {})
    if 0 < fair < len(rows):
        figure.add_hline(y=fair - 0.5, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    return _finish(figure, 84 + ROW * len(rows))


def directions(panels: Sequence[Panel], ranks: Sequence[int], across: int = 3) -> go.Figure:
    """A panel for every score: distance from chance, right = nearer, the null band grey around 0."""
    down = -(-len(panels) // across)
    figure = make_subplots(
        rows=down, cols=across, horizontal_spacing=0.035, vertical_spacing=0.2,
        subplot_titles=[panel.title for panel in panels],
    )  # fmt: skip
    named: set[int] = set()
    for at, panel in enumerate(panels):
        place = {"row": at // across + 1, "col": at % across + 1}
        for rank, look in ranked(ranks).items():
            part = [mark for mark in panel.marks if mark.rank == rank]
            if part:
                _marks(figure, part, panel.rows, f"rank {rank}", look, place, rank not in named)
                named.add(rank)
        if panel.null_half is not None:
            figure.add_vrect(x0=-panel.null_half, x1=panel.null_half, line_width=0, layer="below",
                             fillcolor=theme.NULL_BAND, **place)  # fmt: skip
        figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1}, **place)
        _rows(figure, panel.rows, place, named=place["col"] == 1)
        figure.update_xaxes(zeroline=False, nticks=6, **place)
    for note in figure.layout.annotations[: len(panels)]:
        note.update(font={"size": theme.LABEL_SIZE})
    figure.update_xaxes(
        title="sd of chance from chance (right = nearer)", title_font={"size": theme.LABEL_SIZE}
    )
    return _finish(figure, 60 + down * (126 + ROW * 3))


def _marks(
    figure: go.Figure, marks: Sequence[Mark], rows: Sequence[str], name: str,
    look: tuple[str, str, float], place: Mapping[str, int], legend: bool = True,
) -> None:  # fmt: skip
    tone, symbol, shift = look
    bars = [(m.value, m.value) if m.low is None or m.high is None else (m.low, m.high)
            for m in marks]  # fmt: skip
    bounded = any(m.low is not None for m in marks)  # else plotly draws the bars' caps alone
    figure.add_scatter(
        x=[m.value for m in marks], y=[rows.index(m.row) + shift for m in marks], mode="markers",
        name=name, legendgroup=name, showlegend=legend,
        marker={"color": tone, "size": 9, "symbol": symbol},
        error_x={
            "type": "data", "symmetric": False, "thickness": 1.6, "width": 4, "color": tone,
            "array": [high - m.value for m, (_, high) in zip(marks, bars, strict=True)],
            "arrayminus": [m.value - low for m, (low, _) in zip(marks, bars, strict=True)],
        } if bounded else None,
        customdata=[m.hover for m in marks], hovertemplate="%{customdata}<extra></extra>", **place,
    )  # fmt: skip


def _arrows(
    figure: go.Figure, marks: Sequence[Mark], rows: Sequence[str], rank: int,
    look: tuple[str, str, float],
) -> None:  # fmt: skip
    tone, _, shift = look
    if not marks:
        return
    figure.add_scatter(
        x=[FLOOR] * len(marks), y=[rows.index(m.row) + shift for m in marks], mode="markers",
        name=f"rank {rank}", legendgroup=f"rank {rank}", showlegend=False,
        marker={"color": tone, "size": 9, "symbol": "triangle-left"},
        customdata=[m.hover for m in marks], hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _below(figure: go.Figure, marks: Sequence[Mark], rows: Sequence[str]) -> None:
    """What the arrows of each row stand for, once beside them."""
    for row in dict.fromkeys(mark.row for mark in marks):
        values = [round(100 * mark.value) for mark in marks if mark.row == row]
        low, high = (f"{end:,}".replace("-", "\u2212") for end in (min(values), max(values)))
        figure.add_annotation(
            text=f"{low} %" if low == high else f"{low} to {high} %", x=FLOOR, y=rows.index(row),
            xanchor="left", xshift=9, showarrow=False, font={"size": theme.LABEL_SIZE},
        )  # fmt: skip


def _rows(
    figure: go.Figure, rows: Sequence[str], place: Mapping[str, int], named: bool = True
) -> None:
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=list(rows), showticklabels=named, showgrid=False,
        range=[len(rows) - 0.45, -0.55], zeroline=False, **place,
    )  # fmt: skip


def _finish(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        template=theme.TEMPLATE, height=height, hovermode="closest",
        margin={"l": 10, "r": 20, "t": 46, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yref": "container", "yanchor": "top", "x": 0},
    )  # fmt: skip
