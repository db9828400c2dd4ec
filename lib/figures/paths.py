"""Paths in the plane of inner and outer change: lines through adapters in the order of one value."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import plotly.graph_objects as go
import polars as pl

from lib.figures import ground, marks, theme
from lib.figures.axis import Axis
from lib.figures.ground import Cuts
from lib.figures.labels import Box, Mark, place

COLUMNS = ("word", "experiment_id", "x", "x_low", "x_high", "y", "y_low", "y_high", "says")
"""Of a line's points. Bounds may be null; ``word``: the value, ``says``: the pointer's words on it."""
_SIZES = (6.0, 14.0)  # pixels, of a line's first and last marker
_MOST_HIDDEN = 60.0  # square pixels: a start's word that covers more is left to the pointer


class Line(NamedTuple):
    """One path, its points in the order in which they are joined."""

    name: str
    corpus: str
    points: pl.DataFrame
    """Columns ``COLUMNS``."""
    own: tuple[float, float] | None = None
    """Where the experiment itself stands."""
    law: tuple[float, float, float] | None = None
    """A point and the power of x that y follows from it."""


def paths(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    cuts: Sequence[Cuts] = (),
    *,
    size: tuple[int, int] = (1120, 470),
) -> go.Figure:
    """Each path in its corpus' colour, markers growing along it, thin intervals; names at its ends.

    A ring stands around the experiment itself, a dashed line is the small-change law. Points that a
    logarithmic axis cannot hold are left out. ``customdata[0]`` of a mark is its experiment_id.

    Args:
        cuts: dotted, as in ``lib.figures.scatter``.
        size: pixels, used to keep words apart; the height is also the figure's.
    """
    kept = [line._replace(points=_held(line.points, x, y)) for line in lines]
    kept = [line for line in kept if len(line.points)]
    words, sides = _words(kept, x, y, (size[0] - 80, size[1] - 70), cuts)
    traces = [_law(line, y) for line in kept if line.law is not None]
    for line, word, side in zip(kept, words, sides, strict=True):
        traces.append(_line(line, word, side))
        if line.own is not None:
            traces.append(_ring(line))
    area = (size[0] - 40, size[1] - 60)
    under = (
        ground.cut_lines(cuts, x, "internal", "")
        + ground.cut_lines(cuts, y, "output", "")
        + ground.corners((x, y), cuts, area, "")
    )
    return go.Figure(traces).update_layout(
        template=theme.TEMPLATE, height=size[1], showlegend=False, hovermode="closest",
        margin={"l": 10, "r": 10, "t": 18 if len(cuts) > 1 else 6, "b": 10}, dragmode="pan",
        clickmode="event+select", xaxis=x.plotly, yaxis=y.plotly,
        shapes=under.shapes, annotations=under.notes,
    )  # fmt: skip


def _held(points: pl.DataFrame, x: Axis, y: Axis) -> pl.DataFrame:
    for column, axis in (("x", x), ("y", y)):
        if axis.log:
            points = points.filter(pl.col(column) > 0)
    return points


def _sizes(n: int) -> list[float]:
    low, high = _SIZES
    return [high] if n == 1 else [low + (high - low) * at / (n - 1) for at in range(n)]


def _line(line: Line, words: list[str], sides: list[str]) -> go.Scatter:
    rows = line.points.to_dicts()
    colour = theme.corpus_line(line.corpus)
    return go.Scatter(
        x=line.points["x"].to_list(), y=line.points["y"].to_list(), mode="lines+markers+text",
        name=line.name, cliponaxis=False, line={"color": colour, "width": 1.8},
        error_x=_bars(rows, "x", colour), error_y=_bars(rows, "y", colour),
        text=[f"\u00a0{word}\u00a0" if word else "" for word in words], textposition=sides,
        textfont={"size": theme.LABEL_SIZE},
        marker={"symbol": theme.corpus_symbol(line.corpus), "size": _sizes(len(rows)),
                "color": colour, "opacity": 1, "line": {"width": 1, "color": colour}},
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
        customdata=[
            [r["experiment_id"], r["word"], marks.span(r, "x", ".3g"), marks.span(r, "y", ".3g"),
             r["says"]]
            for r in rows
        ],
        hovertemplate=f"<b>{line.name}, %{{customdata[1]}}</b><br>inner %{{x:.3g}}%{{customdata[2]}}"
        "<br>outer %{y:.3g} nats%{customdata[3]}<br>%{customdata[4]}<extra></extra>",
    )  # fmt: skip


def _bars(rows: Sequence[marks.Row], column: str, colour: str) -> dict[str, object]:
    """Thin and faint; of length 0 where there is no interval."""
    ends = [(r[column], r[f"{column}_low"], r[f"{column}_high"]) for r in rows]
    known = [None not in (low, high) for _, low, high in ends]
    return {
        "type": "data", "symmetric": False, "thickness": 0.8, "width": 0,
        "color": theme.fill(colour, 0.55),
        "array": [high - v if k else 0 for (v, _, high), k in zip(ends, known, strict=True)],
        "arrayminus": [v - low if k else 0 for (v, low, _), k in zip(ends, known, strict=True)],
    }  # fmt: skip


def _ring(line: Line) -> go.Scatter:
    x, y = line.own or (None, None)
    return go.Scatter(
        x=[x], y=[y], mode="markers", hoverinfo="skip", cliponaxis=False,
        marker={"symbol": "circle-open", "size": 22, "color": theme.corpus_line(line.corpus),
                "line": {"width": 2}},
    )  # fmt: skip


def _law(line: Line, y: Axis) -> go.Scatter:
    """From its point as far as the path goes; straight where both axes are logarithmic."""
    x0, y0, power = line.law or (1.0, 1.0, 1.0)
    top = min(line.points["x"].to_list()[-1], x0 * (y.high / y0) ** (1 / power))
    places = [x0 * (top / x0) ** (at / 30) for at in range(31)] if top > x0 > 0 else []
    return go.Scatter(
        x=places, y=[y0 * (v / x0) ** power for v in places], mode="lines", hoverinfo="skip",
        name="law", line={"color": theme.corpus_line(line.corpus), "width": 1.2, "dash": "dash"},
    )  # fmt: skip


def _words(
    lines: Sequence[Line], x: Axis, y: Axis, area: tuple[int, int], cuts: Sequence[Cuts]
) -> tuple[list[list[str]], list[list[str]]]:
    """At the end of each line its name and last value; at its start the value, where there is room."""
    spots: list[Mark] = []
    texts: list[tuple[str, list[int]]] = []
    for line in lines:
        start = len(spots)
        for (px, py), size in zip(
            line.points.select("x", "y").iter_rows(), _sizes(len(line.points)), strict=True
        ):
            spots.append(Mark(x.share(px) * area[0], y.share(py) * area[1], size))
        values = line.points["word"]
        texts.append((f"{line.name}, {values[-1]}", [len(spots) - 1]))
        if len(values) > 1:
            texts.append((values[0], [start]))
    corners = [Box(a, b, a + 160, b + 24) for a in (0, area[0] - 160) for b in (0, area[1] - 24)]
    drawn = [box for line in lines for box in _boxes(line, x, y, area)]
    obstacles = corners + _cut_boxes(cuts, x, y, area) + drawn
    placed = place(texts, spots, Box(0, 0, *area), obstacles)
    written, sides = [""] * len(spots), ["middle right"] * len(spots)
    counts = [len(line.points) for line in lines]
    at = [sum(counts[:i]) for i in range(len(counts) + 1)]
    for (text, _), spot in zip(texts, placed, strict=True):
        if spot.mark + 1 in at or spot.hidden <= _MOST_HIDDEN:  # + 1: the last of a line
            written[spot.mark], sides[spot.mark] = text, spot.position
    return [written[a:b] for a, b in pairwise(at)], [sides[a:b] for a, b in pairwise(at)]


def _boxes(line: Line, x: Axis, y: Axis, area: tuple[int, int]) -> list[Box]:
    """The ring, the error bars and the middles of the segments of one line, in pixels."""

    def pixels(px: float, py: float) -> tuple[float, float]:
        return x.share(px) * area[0], y.share(py) * area[1]

    found = []
    if line.own is not None:
        px, py = pixels(*line.own)
        found.append(Box(px - 12, py - 12, px + 12, py + 12))
    for row in line.points.iter_rows(named=True):
        (left, bottom), (right, top), (px, py) = (
            pixels(*(row["x" + end] if row["x" + end] is not None else row["x"],
                     row["y" + end] if row["y" + end] is not None else row["y"]))
            for end in ("_low", "_high", "")
        )  # fmt: skip
        found += [Box(left, py - 2, right, py + 2), Box(px - 2, bottom, px + 2, top)]
    places = [pixels(*point) for point in line.points.select("x", "y").iter_rows()]
    for (x0, y0), (x1, y1) in pairwise(places):
        for part in (0.1, 0.25, 0.5, 0.75, 0.9):
            px, py = x0 + part * (x1 - x0), y0 + part * (y1 - y0)
            found.append(Box(px - 4, py - 4, px + 4, py + 4))
    return found


def _cut_boxes(cuts: Sequence[Cuts], x: Axis, y: Axis, area: tuple[int, int]) -> list[Box]:
    width, height = area
    upright = [x.share(c.internal) * width for c in cuts if c.internal is not None]
    level = [y.share(c.output) * height for c in cuts if c.output is not None]
    return [Box(v - 1, 0, v + 1, height) for v in upright] + [
        Box(0, v - 1, width, v + 1) for v in level
    ]
