"""The scatter of the two axes: inner change to the right, outer change upwards."""

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go
import polars as pl

from lib.figures import theme
from lib.figures.axis import Axis
from lib.figures.labels import Box, place

COLUMNS = (
    "name", "experiment_id", "corpus", "model", "n_parameters", "published", "regime", "n",
    "x", "x_low", "x_high", "y", "y_low", "y_high",
)  # fmt: skip
"""Of the frame of points. Bounds may be null (none was measured), x and y may not."""


class Cuts(NamedTuple):
    """Where low ends and high begins, on one axis each, for one model; None = no cut."""

    internal: float | None
    output: float | None
    label: str = ""


def regimes(
    points: pl.DataFrame,
    x: Axis,
    y: Axis,
    cuts: Sequence[Cuts] = (),
    *,
    null: tuple[float, float] | None = None,
    size: tuple[int, int] = (1120, 470),
) -> go.Figure:
    """Every experiment once, with its intervals, its regime as colour and its corpus as symbol.

    Published points are hollow, measured ones filled, indeterminate ones hollow with a grey rim.
    ``customdata[0]`` of a point is its experiment_id (empty for a published one).

    Args:
        points: columns ``COLUMNS``, in any order.
        cuts: dotted lines; more than one when models have cuts of their own.
        null: range of x that a null control reaches, as a grey band.
        size: pixels, used to keep labels apart; the height is also the figure's.
    """
    figure = go.Figure()
    for row, position in zip(
        points.iter_rows(named=True), _positions(points, x, y, cuts, size), strict=True
    ):
        figure.add_trace(_point(row, position, points["n_parameters"].to_list()))
    _corners(figure)
    for cut in cuts:
        _cut(figure, cut, x, y, named=len(cuts) > 1)
    if null is not None:
        figure.add_vrect(
            x0=null[0], x1=null[1], fillcolor=theme.NULL_BAND, line_width=0, layer="below",
            annotation={"text": "null", "font": {"color": theme.NEUTRAL}},
            annotation_position="bottom left",
        )  # fmt: skip
    figure.update_xaxes(x.plotly)
    figure.update_yaxes(y.plotly)
    figure.update_layout(
        template=theme.TEMPLATE, height=size[1], showlegend=False, hovermode="closest",
        margin={"l": 10, "r": 10, "t": 18 if len(cuts) > 1 else 6, "b": 10},
        dragmode="pan", clickmode="event+select",
    )  # fmt: skip
    return figure


def _point(row: dict[str, object], position: str, sizes: list[int | None]) -> go.Scatter:
    colour = theme.REGIME_COLOURS[str(row["regime"])]
    hollow = bool(row["published"]) or row["regime"] == "indeterminate"
    symbol = theme.corpus_symbol(str(row["corpus"]))
    return go.Scatter(
        x=[row["x"]],
        y=[row["y"]],
        error_x=_bar(row, "x", colour),
        error_y=_bar(row, "y", colour),
        mode="markers+text",
        text=[f"\u00a0{row['name']}\u00a0"],  # spaces keep it off the marker
        textposition=position,
        textfont={"size": theme.LABEL_SIZE},
        cliponaxis=False,
        marker={
            "symbol": f"{symbol}-open" if hollow else symbol,
            "size": _marker_size(row["n_parameters"], sizes),
            "color": colour,
            "line": {"width": 2.5 if hollow else 1, "color": colour},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        customdata=[[row["experiment_id"] or "", row["regime"], _span(row, "x"), _span(row, "y")]],
        hovertemplate=(
            f"<b>{row['name']}</b><br>inner %{{x:.4g}}%{{customdata[2]}}<br>"
            f"outer %{{y:.3g}}%{{customdata[3]}}<br>%{{customdata[1]}}<br>"
            + (f"{row['n']} documents" if row["n"] else "published; no interval")
            + "<extra></extra>"
        ),
    )


def _bar(row: dict[str, object], axis: str, colour: str) -> dict[str, object]:
    low, high = row[f"{axis}_low"], row[f"{axis}_high"]
    if low is None or high is None:
        return {"visible": False}
    return {
        "type": "data", "symmetric": False, "array": [high - row[axis]],
        "arrayminus": [row[axis] - low], "thickness": 1.4, "width": 4, "color": colour,
    }  # fmt: skip


def _span(row: dict[str, object], axis: str) -> str:
    low, high = row[f"{axis}_low"], row[f"{axis}_high"]
    return "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"


def _marker_size(n_parameters: object, sizes: list[int | None]) -> int:
    """15 px, and 3 more for each next larger model in the figure."""
    known = sorted({n for n in sizes if n})
    return 15 + 3 * min(known.index(n_parameters), 3) if n_parameters in known else 15


def _cut(figure: go.Figure, cut: Cuts, x: Axis, y: Axis, *, named: bool) -> None:
    """Dotted lines; with the model's name at their ends where models have cuts of their own."""
    look = {"line": {"dash": "dot", "color": theme.NEUTRAL, "width": 1.6}, "layer": "below"}
    note = {"text": cut.label, "showarrow": False, "yanchor": "bottom", "font": {"size": 10}}
    if cut.internal is not None:
        figure.add_vline(x=cut.internal, **look)
        if named:
            figure.add_annotation(x=x.share(cut.internal), xref="x domain", y=1, yref="paper",
                                  **note)  # fmt: skip
    if cut.output is not None:
        figure.add_hline(y=cut.output, **look)
        if named:
            figure.add_annotation(y=y.share(cut.output), yref="y domain", x=1, xref="paper",
                                  xanchor="right", **note)  # fmt: skip


def _corners(figure: go.Figure) -> None:
    """What each quarter means; at the edges of the frame, not of the cuts, so they never cover."""
    for name, x, y in (
        ("behavioural capture", 0, 1), ("coupled adaptation", 1, 1),
        ("near-unchanged", 0, 0), ("latent divergence", 1, 0),
    ):  # fmt: skip
        mark = f'<span style="color:{theme.REGIME_COLOURS[name]}">\u25a0</span>'
        text = f"{name.upper()} {mark}" if x else f"{mark} {name.upper()}"
        figure.add_annotation(
            text=text, x=x, y=y, xref="paper", yref="paper", showarrow=False,
            xanchor="right" if x else "left", yanchor="top" if y else "bottom",
            xshift=-8 if x else 8, yshift=-6 if y else 6,
            font={"size": theme.LABEL_SIZE},
        )  # fmt: skip


def _positions(
    points: pl.DataFrame, x: Axis, y: Axis, cuts: Sequence[Cuts], size: tuple[int, int]
) -> list[str]:
    width, height = size[0] - 80, size[1] - 70
    frame = Box(0, 0, width, height)
    corners = [Box(a, b, a + 160, b + 24) for a in (0, width - 160) for b in (0, height - 24)]
    lines = [
        Box(x.share(c.internal) * width - 1, 0, x.share(c.internal) * width + 1, height)
        for c in cuts if c.internal is not None
    ] + [
        Box(0, y.share(c.output) * height - 1, width, y.share(c.output) * height + 1)
        for c in cuts if c.output is not None
    ]  # fmt: skip
    centres, bars = [], []
    for row in points.iter_rows(named=True):
        px, py = x.share(row["x"]) * width, y.share(row["y"]) * height
        centres.append((px, py))
        if row["x_low"] is not None and row["x_high"] is not None:
            bars.append(
                Box(x.share(row["x_low"]) * width, py - 3, x.share(row["x_high"]) * width, py + 3)
            )
        if row["y_low"] is not None and row["y_high"] is not None:
            bars.append(
                Box(px - 3, y.share(row["y_low"]) * height, px + 3, y.share(row["y_high"]) * height)
            )
    return place(centres, points["name"].to_list(), frame, [*corners, *lines, *bars])
