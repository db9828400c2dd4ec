"""Mean differences along the layers, one line per position of the text."""

import math

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from lib.figures import theme

TONES = ("#8A4FA3", "#B25FA0", "#CC79A7", "#D98C6A", "#B89A2E")
"""By position, around the colour of what is said of differences; past the fifth they repeat."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
PANELS = (
    ("relative", "norm of the mean difference, % of the base's norm"),
    ("offset_share", "offset share, % of the squared differences"),
)


def by_layer(
    rows: pl.DataFrame, titles: dict[str, str], layer: int, *, height: int = 520
) -> go.Figure:
    """Two panels for every probe text: relative norm and offset share, in percent.

    Bars are one standard error of the mean, as a length. Dotted: what the noise of so many texts gives
    without any common difference, a norm of one standard error and a share of 1 / n.

    Args:
        rows: of ``lib.store.lens.differences``.
        titles: probe -> heading, in the order of the columns.
        layer: marked by a line.
    """  # fmt: skip
    figure = make_subplots(
        rows=2, cols=len(titles), shared_xaxes=True, shared_yaxes="rows", vertical_spacing=0.13,
        horizontal_spacing=0.04,
        subplot_titles=[f"{title}: {name}" for _, name in PANELS for title in titles.values()],
    )  # fmt: skip
    for column, probe in enumerate(titles, 1):
        of_probe = rows.filter(probe=probe)
        for position in sorted(of_probe["position"].unique()):
            line = of_probe.filter(position=position).sort("layer")
            _lines(figure, line, position, titles[probe], column)
        _noise(figure, of_probe, column)
    for row in (1, 2):
        for column in range(1, len(titles) + 1):
            figure.add_vline(x=layer, row=row, col=column,
                             line={"color": theme.NEUTRAL, "width": 1, "dash": "dash"})  # fmt: skip
    _finish(figure, rows, height)
    return figure


def _lines(figure: go.Figure, line: pl.DataFrame, position: int, title: str, column: int) -> None:
    tone = TONES[position % len(TONES)]
    error = (100 * line["error"] / line["base_norm"]).to_list()
    hovers = _hovers(line, position, title)
    for row, (name, _) in enumerate(PANELS, 1):
        figure.add_scatter(
            x=line["layer"].to_list(), y=(100 * line[name]).to_list(), mode="lines+markers",
            name=f"position {position}", legendgroup=str(position),
            showlegend=row == column == 1, row=row, col=column,
            line={"color": tone, "width": 1.8},
            marker={"symbol": SYMBOLS[position % len(SYMBOLS)], "size": 6},
            error_y={"type": "data", "array": error, "width": 0, "thickness": 1}
            if row == 1 else None,
            customdata=hovers[row - 1], hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip


def _hovers(line: pl.DataFrame, position: int, title: str) -> tuple[list[str], list[str]]:
    norms, shares = [], []
    for at in line.iter_rows(named=True):
        start = f"{title}, layer {at['layer']}, position {position}<br>"
        noise = "not defined" if at["error"] is None else f"{at['error']:.3g}"
        part = "" if at["error"] is None else f" \u00b1 {100 * at['error'] / at['base_norm']:.2g} %"
        cosine = "" if at["first_cosine"] is None else (
            f"<br>cosine with the one at position 0: {at['first_cosine']:.2f}"
        )  # fmt: skip
        norms.append(
            f"{start}norm {at['norm']:.3g}, base {at['base_norm']:.3g}: "
            f"{100 * at['relative']:.3g} %{part} (one standard error)"
            f"<br>null (no common difference): norm {noise}; n = {at['n']} texts{cosine}"
        )
        shares.append(
            f"{start}offset share {100 * at['offset_share']:.3g} %"
            f"<br>null (no common difference): {100 / at['n']:.2g} %; one vector for all texts: "
            f"100 %<br>n = {at['n']} texts; no interval is stored"
        )
    return norms, shares


def _noise(figure: go.Figure, rows: pl.DataFrame, column: int) -> None:
    """The mean over positions of what no common difference gives."""
    null = (
        rows.group_by("layer")
        .agg(norm=(100 * pl.col("error") / pl.col("base_norm")).mean(),
             share=(100 / pl.col("n")).mean())
        .sort("layer").drop_nulls()
    )  # fmt: skip
    for row, name in enumerate(("norm", "share"), 1):
        figure.add_scatter(
            x=null["layer"].to_list(), y=null[name].to_list(), mode="lines",
            name="null: no common difference", legendgroup="null", showlegend=row == column == 1,
            line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"}, row=row, col=column,
            hovertemplate="null, mean over positions, layer %{x}: %{y:.2g} %<extra></extra>",
        )  # fmt: skip


def _finish(figure: go.Figure, rows: pl.DataFrame, height: int) -> None:
    last = max(rows["layer"].to_list(), default=0)
    figure.update_xaxes(range=[-0.5, last + 0.5], dtick=max(1, math.ceil((last + 1) / 10)))
    figure.update_xaxes(title="layer (0 = after the first block)", row=2)
    figure.update_yaxes(nticks=6)
    relative = rows["relative"] + (rows["error"] / rows["base_norm"]).fill_null(0.0)
    for row, values in enumerate((relative, rows["offset_share"]), 1):
        figure.update_yaxes(range=[0, 106 * (values.max() or 0.01)], row=row)
    for note in figure.layout.annotations:
        note.update(font={"size": theme.LABEL_SIZE})
    figure.update_layout(
        template=theme.TEMPLATE, height=height, hovermode="closest",
        margin={"l": 10, "r": 10, "t": 62, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yref": "container", "yanchor": "top", "x": 0},
    )  # fmt: skip
