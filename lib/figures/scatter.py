"""The scatter of the two axes: inner change to the right, outer change upwards."""

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go
import polars as pl

from lib.figures import ground, marks, panels, theme
from lib.figures.axis import Axis
from lib.figures.ground import Cuts
from lib.figures.labels import Box

COLUMNS = (
    "name", "experiment_id", "corpus", "model", "n_parameters", "published", "regime", "n",
    "x", "x_low", "x_high", "y", "y_low", "y_high", "says",
)  # fmt: skip
"""Of the frame of points. Bounds may be null (none was measured), x and y may not. ``says``: what
the pointer tells of the label."""


class Plane(NamedTuple):
    """One panel of the scatter: what is drawn in it and on which axes."""

    points: pl.DataFrame
    """Columns ``COLUMNS``, in any order; where they are there, ``word`` is written instead of ``name``
    and ``unit`` stands behind x in what the pointer says."""
    x: Axis
    y: Axis
    cuts: Sequence[Cuts] = ()
    """Dotted lines; more than one when models have cuts of their own."""
    null: tuple[float, float] | None = None
    """Range of x that null controls reach, as a grey band."""
    null_output: tuple[float, float] | None = None
    """The same of y."""
    runs: pl.DataFrame | None = None
    """Training seeds of points that are means over several: columns point (experiment_id of the
    point), experiment_id, seed, x, y."""


def regimes(
    points: pl.DataFrame,
    x: Axis,
    y: Axis,
    cuts: Sequence[Cuts] = (),
    *,
    null: tuple[float, float] | None = None,
    null_output: tuple[float, float] | None = None,
    runs: pl.DataFrame | None = None,
    size: tuple[int, int] = (1120, 470),
) -> go.Figure:
    """Every point once: intervals, regime as colour, corpus as symbol.

    Published points are hollow, measured ones filled, indeterminate ones hollow with a grey rim.
    Training seeds are small marks joined to their mean. ``customdata[0]`` of a mark is its
    experiment_id (empty for a published one).

    Args:
        points, x, y, cuts, null, null_output, runs: as in ``Plane``.
        size: pixels, used to keep labels apart; the height is also the figure's.
    """
    return assemble([("", Plane(points, x, y, cuts, null, null_output, runs))], size)


def assemble(planes: Sequence[tuple[str, Plane]], size: tuple[int, int]) -> go.Figure:
    """Panels side by side under their titles; the first one's axes hold for all.

    Args:
        planes: title (empty = none) and content of each panel, from left to right.
        size: pixels of the whole figure.
    """
    traces, under, axes = [], ground.Ground([], []), {}
    gap, width = 0.02, (1 + 0.02) / len(planes)
    for at, (title, drawn) in enumerate(planes):
        number = "" if at == 0 else str(at + 1)
        panel = (size[0] // len(planes), size[1] - 30 * bool(title))
        traces += _traces(drawn, panel, number)
        under += _under(drawn, panel, number)
        x, y = drawn.x.plotly, drawn.y.plotly
        if at > 0:
            y |= {"title": None, "showticklabels": False, "matches": "y"}
            x |= {"matches": "x"}
        if len(planes) > 1:
            x |= {"title": None, "domain": [at * width, (at + 1) * width - gap]}
            under.notes.append(_over(title, "x" + number, 1))
        axes |= {f"xaxis{number}": x | {"anchor": "y" + number}}
        axes |= {f"yaxis{number}": y | {"anchor": "x" + number}}
    if len(planes) > 1:
        under.notes.append(_over(planes[0][1].x.title, "", 0))
    figure = go.Figure(traces)
    top = 24 if planes[0][0] else 18 if len(planes[0][1].cuts) > 1 else 6
    return figure.update_layout(
        template=theme.TEMPLATE, height=size[1], showlegend=False, hovermode="closest",
        margin={"l": 10, "r": 10, "t": top, "b": 10 if len(planes) == 1 else 52},
        dragmode="pan", clickmode="event+select", shapes=under.shapes, annotations=under.notes,
        **axes,
    )  # fmt: skip


def _over(text: str, axis: str, y: int) -> dict[str, object]:
    """A panel's title above it, or the title of all panels' x axes below them."""
    return {
        "text": text, "x": 0.5, "xref": f"{axis} domain" if axis else "paper", "y": y,
        "yref": "paper", "showarrow": False, "xanchor": "center",
        "yanchor": "bottom" if y else "top", "yshift": 2 if y else -26,
        "font": {"size": theme.FONT_SIZE},
    }  # fmt: skip


def _traces(drawn: Plane, size: tuple[int, int], number: str) -> list[go.Scatter]:
    """Training seeds, and the points over them."""
    found = []
    if drawn.runs is not None:
        look = marks.Look(colour="regime", unit=(".4g", ".3g"), names=("inner", "outer, nats"))
        found += marks.seeds(drawn.points, drawn.runs, ("x", "y"), look)
    sizes = drawn.points["n_parameters"].to_list()
    rows = drawn.points.iter_rows(named=True)
    found += [
        _point(row, position, sizes)
        for row, position in zip(rows, _positions(drawn, size), strict=True)
    ]
    found += [panels.centre(trace) for trace in found if panels.repeated(drawn.runs, trace)]
    for trace in found:
        trace.update(xaxis=f"x{number}", yaxis=f"y{number}")
    return found


def _under(drawn: Plane, panel: tuple[int, int], number: str) -> ground.Ground:
    area = (panel[0] - 40, panel[1] - 60)
    return (
        ground.bands((drawn.x, drawn.y), drawn.null, drawn.null_output, area[0], number)
        + ground.cut_lines(drawn.cuts, drawn.x, "internal", number)
        + ground.cut_lines(drawn.cuts, drawn.y, "output", number)
        + ground.corners((drawn.x, drawn.y), drawn.cuts, area, number)
    )


def _point(row: dict[str, object], position: str, sizes: list[int | None]) -> go.Scatter:
    colour = theme.REGIME_COLOURS[str(row["regime"])]
    hollow = bool(row["published"]) or row["regime"] == "indeterminate"
    symbol = theme.corpus_symbol(str(row["corpus"]))
    return go.Scatter(
        x=[row["x"]],
        y=[row["y"]],
        error_x=marks.bar(row, "x", colour),
        error_y=marks.bar(row, "y", colour),
        mode="markers+text",
        text=[f"\u00a0{row.get('word', row['name'])}\u00a0"],  # spaces keep it off the marker
        textposition=position,
        textfont={"size": theme.LABEL_SIZE},
        cliponaxis=False,
        marker={
            "symbol": f"{symbol}-open" if hollow else symbol,
            "size": theme.marker_size(row["n_parameters"], sizes),
            "color": colour,
            "line": {"width": 2.5 if hollow else 1, "color": colour},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        customdata=[
            [
                row["experiment_id"] or "",
                row["regime"],
                marks.span(row, "x"),
                marks.span(row, "y"),
                f"<br>{row['says']}" if row["says"] else "",
            ]
        ],
        hovertemplate=(
            f"<b>{row['name']}</b><br>inner %{{x:.4g}}%{{customdata[2]}} {row.get('unit', '')}<br>"
            f"outer %{{y:.3g}} nats%{{customdata[3]}}<br>%{{customdata[1]}}%{{customdata[4]}}<br>"
            + (f"{row['n']} documents" if row["n"] else "published; no interval")
            + "<extra></extra>"
        ),
    )


def _positions(drawn: Plane, size: tuple[int, int]) -> list[str]:
    """Where each name is written, off corners, cuts and training seeds."""
    width, height = size[0] - 80, size[1] - 70
    x, y = drawn.x, drawn.y
    corners = [Box(a, b, a + 160, b + 24) for a in (0, width - 160) for b in (0, height - 24)]
    lines = [
        Box(x.share(c.internal) * width - 1, 0, x.share(c.internal) * width + 1, height)
        for c in drawn.cuts if c.internal is not None
    ] + [
        Box(0, y.share(c.output) * height - 1, width, y.share(c.output) * height + 1)
        for c in drawn.cuts if c.output is not None
    ]  # fmt: skip
    return marks.named(
        drawn.points, ("x", "y"), (x, y), (width, height),
        [*corners, *lines, *marks.seed_boxes(drawn.runs, (x, y), (width, height))],
        most=len(drawn.points), words="word" if "word" in drawn.points.columns else "name",
    ).positions  # fmt: skip
