"""Adapted matrices as a heat map of layers x kinds, with bars of every layer and kind."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from lib.figures import theme

_SEQUENTIAL = [[0.0, "#DDE3E8"], [1.0, theme.ACCENT]]
_SIGNED = [[0.0, "#B98A5A"], [0.5, "#DDE3E8"], [1.0, theme.ACCENT]]
_ORDER = ("q", "k", "v", "o", "gate", "up", "down")


class Quantity(NamedTuple):
    """One number of every matrix, and how it is drawn."""

    title: str
    """With its unit."""
    chance: str
    """What the grey marks are; empty = no such marks."""
    over: Literal["sum", "mean"] = "mean"
    """How matrices of a layer, and of a kind, are taken together."""
    percent: bool = False
    colours: Literal["from 0", "both sides", "less is more"] = "from 0"
    """both sides = 0 gets the middle of them; less is more = the smallest number gets the darkest."""


def by_module(rows: pl.DataFrame, shown: Quantity) -> go.Figure:
    """The heat map with layers to the right, bars of every layer above and of every kind beside it.

    Grey marks on the bars are what chance gives, where there is any. A matrix that was not adapted, or
    whose number is not defined, is a gap.

    Args:
        rows: ``layer`` (null = outside the blocks), ``kind``, ``value``, ``chance`` (may be null) and
            ``hover``; several matrices of one layer and kind are taken together.
    """
    factor = 100 if shown.percent else 1
    rows = rows.with_columns(
        at=pl.col("layer").cast(pl.String).fill_null("outside"),
        value=pl.col("value") * factor, chance=pl.col("chance") * factor,
    )  # fmt: skip
    layers = _layers(rows)
    kinds = sorted(rows["kind"].unique(), key=lambda k: (_ORDER.index(k) if k in _ORDER else 9, k))
    figure = make_subplots(
        rows=2, cols=2, column_widths=[0.85, 0.15], row_heights=[0.32, 0.68],
        shared_xaxes="columns", shared_yaxes="rows", horizontal_spacing=0.02, vertical_spacing=0.03,
    )  # fmt: skip
    figure.add_trace(_heat(rows, layers, kinds, shown), row=2, col=1)
    _margin(figure, _together(rows, "at", shown), layers, shown, upright=True)
    _margin(figure, _together(rows, "kind", shown), kinds, shown, upright=False)
    unit = " %" if shown.percent else ""
    figure.update_xaxes(title="layer (0 = first block)", row=2, col=1, showgrid=False)
    figure.update_xaxes(type="category", categoryarray=layers, col=1)
    figure.update_yaxes(
        type="category", categoryarray=kinds, autorange="reversed", row=2, showgrid=False
    )
    figure.update_yaxes(ticksuffix=unit, nticks=4, row=1, col=1)
    figure.update_xaxes(ticksuffix=unit, nticks=3, row=2, col=2)
    return figure.update_layout(
        template=theme.TEMPLATE, height=300 + 46 * max(4, len(kinds)), bargap=0.25,
        showlegend=False, title=titled(_heading(shown)), margin={"l": 10, "r": 10, "t": 46, "b": 100},
    )  # fmt: skip


def _heading(shown: Quantity) -> str:
    taken = "sums" if shown.over == "sum" else "means"
    marks = f"; grey marks: {shown.chance}" if shown.chance else ""
    return f"{shown.title} (bars: {taken}{marks})"


def _layers(rows: pl.DataFrame) -> list[str]:
    """Every layer from the first adapted one to the last, so that one that was left out is seen."""
    known = rows["layer"].drop_nulls()
    inside = [] if known.is_empty() else range(int(known.min()), int(known.max()) + 1)
    outside = ["outside"] if rows["layer"].null_count() else []
    return [*(str(layer) for layer in inside), *outside]


def _taken(shown: Quantity, column: str) -> pl.Expr:
    """Null, not 0, where nothing is defined."""
    if shown.over == "mean":
        return pl.col(column).mean()
    return pl.when(pl.col(column).count() > 0).then(pl.col(column).sum())


def _together(rows: pl.DataFrame, by: str, shown: Quantity) -> pl.DataFrame:
    return rows.group_by(by).agg(
        value=_taken(shown, "value"), chance=_taken(shown, "chance"), n=pl.len()
    )


def _heat(rows: pl.DataFrame, layers: list[str], kinds: list[str], shown: Quantity) -> go.Heatmap:
    cells = {
        (row["kind"], row["at"]): row
        for row in rows.group_by("kind", "at")
        .agg(value=_taken(shown, "value"), hover=pl.col("hover").str.join("<br>"))
        .iter_rows(named=True)
    }
    empty = {"value": None, "hover": "not adapted"}
    grid = [[cells.get((kind, layer), empty) for layer in layers] for kind in kinds]
    return go.Heatmap(
        z=[[cell["value"] for cell in row] for row in grid], x=layers, y=kinds,
        customdata=[[cell["hover"] for cell in row] for row in grid], xgap=2, ygap=2,
        hovertemplate="%{customdata}<extra></extra>", hoverongaps=False,
        **coloured(rows["value"].to_list(), shown),
        colorbar={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0,
                  "xanchor": "left", "len": 0.4, "thickness": 9, "nticks": 5,
                  "ticksuffix": " %" if shown.percent else ""},
    )  # fmt: skip


def _margin(
    figure: go.Figure, totals: pl.DataFrame, names: list[str], shown: Quantity, *, upright: bool
) -> None:
    """Bars of every layer (upright) or kind, each with its chance as a grey mark."""
    found = {row[totals.columns[0]]: row for row in totals.iter_rows(named=True)}
    kept = [name for name in names if name in found]
    values, chances = ([found[name][what] for name in kept] for what in ("value", "chance"))
    unit = " %" if shown.percent else ""
    hovers = [
        f"{'layer ' if upright and name != 'outside' else ''}{name}: "
        + f"{_number(found[name]['value'])}{unit}"
        + (f"<br>{shown.chance}: {_number(found[name]['chance'])}{unit}" if shown.chance else "")
        + f"<br>n = {found[name]['n']} matrices"
        for name in kept
    ]
    place = {"row": 1, "col": 1} if upright else {"row": 2, "col": 2}
    ends = {"x": kept, "y": values} if upright else {"x": values, "y": kept, "orientation": "h"}
    figure.add_trace(
        go.Bar(**ends, marker={"color": theme.ACCENT}, customdata=hovers,
               hovertemplate="%{customdata}<extra></extra>"),
        **place,
    )  # fmt: skip
    if shown.chance:
        ends = {"x": kept, "y": chances} if upright else {"x": chances, "y": kept}
        symbol = "line-ew-open" if upright else "line-ns-open"
        figure.add_trace(
            go.Scatter(**ends, mode="markers", hoverinfo="skip",
                       marker={"symbol": symbol, "size": 13, "color": theme.NEUTRAL,
                               "line": {"width": 3, "color": theme.NEUTRAL}}),
            **place,
        )  # fmt: skip


def coloured(values: Sequence[float | None], shown: Quantity) -> dict[str, object]:
    """Colours of a heat map; its numbers from 0 to the largest, so that a pale cell is a small one."""
    if shown.colours == "both sides":
        return {"colorscale": _SIGNED, "zmid": 0}
    if shown.colours == "less is more":
        return {"colorscale": [[1 - at, colour] for at, colour in reversed(_SEQUENTIAL)]}
    return {"colorscale": _SEQUENTIAL, "zmin": 0, "zmax": max((v for v in values if v), default=1)}


def titled(text: str) -> dict[str, object]:
    """A title at the upper left."""
    return {"text": text, "font": {"size": theme.FONT_SIZE}, "x": 0, "y": 1,
            "yref": "container", "yanchor": "top", "pad": {"t": 4}}  # fmt: skip


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3g}"
