"""Small scatters side by side that share what lies to the right, such as base perplexity."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from lib.figures import marks, theme
from lib.figures.axis import Axis

NARROW = 870
"""Pixels of the figure on a page of 1024: names that are clear of marks there are so on wider ones."""


class Panel(NamedTuple):
    """One column of the points against the shared one, with bounds ``*_low`` and ``*_high``."""

    column: str
    title: str
    start: float | None = 0.0
    percent: bool = False

    @property
    def spoken(self) -> str:
        """The title before a value, as the pointer says it: one colon, behind it."""
        return f"{self.title.replace(': ', ' ')}:"


def shared(
    points: pl.DataFrame,
    x: Panel,
    panels: Sequence[Panel],
    *,
    height: int = 440,
    runs: pl.DataFrame | None = None,
    bands: Mapping[str, tuple[float, float]] | None = None,
) -> go.Figure:
    """One panel per column; corpus = symbol and line colour, model = size, published = hollow.

    A panel without any value says that nothing was published or measured for it.

    Args:
        points: columns name, corpus, model, n_parameters, published, experiment_id, the panels'
            columns and their bounds; a null value leaves the point out of that panel.
        runs: training seeds of points that are means, as small marks: columns point (experiment_id
            of the point), experiment_id, seed, and the panels' columns.
        bands: null range by panel column, in grey.
    """
    figure = make_subplots(
        rows=1, cols=len(panels), subplot_titles=[panel.title for panel in panels],
        horizontal_spacing=0.07,
    )  # fmt: skip
    span, traces, columns = _axis(points, x).roomier(), [], []
    for at, panel in enumerate(panels, 1):
        rows = points.drop_nulls([x.column, panel.column])
        band = (bands or {}).get(panel.column)
        up = _axis(rows, panel, _values(runs, panel.column), band or ())
        own = _traces(rows, runs, (x, panel), (span, up), (NARROW // len(panels) - 58, height - 90))
        traces += own
        columns += [at] * len(own)
        figure.update_yaxes(_upright(up, percent=panel.percent), row=1, col=at)
        figure.update_xaxes(span.plotly, row=1, col=at)
        _under(figure, "" if at == 1 else str(at), band, empty=rows.is_empty())
    figure.add_traces(traces, rows=[1] * len(traces), cols=columns)  # at once: one by one is slow
    figure.update_annotations(font={"size": theme.LABEL_SIZE})
    return figure.update_layout(
        template=theme.TEMPLATE, height=height, showlegend=False, hovermode="closest",
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
    )  # fmt: skip


def _upright(axis: Axis, *, percent: bool) -> dict[str, object]:
    """What plotly wants to know of a panel's own axis; its title stands above the panel."""
    up = axis.plotly | {"title": None}
    if percent:
        ticks = [f"{100 * tick:g}%" for tick in up.get("tickvals", [])]
        up |= {"tickformat": ".2~%", "ticktext": ticks}
    return up


def _traces(
    rows: pl.DataFrame,
    runs: pl.DataFrame | None,
    panels: tuple[Panel, Panel],
    axes: tuple[Axis, Axis],
    area: tuple[int, int],
) -> list[go.Scatter]:
    """Training seeds and the points over them; an empty trace for a panel without points."""
    if rows.is_empty():
        return [go.Scatter(x=[None], y=[None])]  # or no axes are drawn at all
    x, panel = panels
    found = []
    if runs is not None:
        form = ".2%" if panel.percent else ".3g"
        look = marks.Look("corpus", (".3g", form), (x.spoken, panel.spoken))
        found += marks.seeds(rows, runs, (x.column, panel.column), look)
    # On one level names only cover each other; the other panels and the pointer have them.
    level = rows[panel.column].n_unique() == 1
    words, places = marks.named(rows, (x.column, panel.column), axes, area)
    if level and len(rows) > 3:
        words = [""] * len(rows)
    sizes = rows["n_parameters"].to_list()
    texts = zip(words, places, strict=True)
    found += [
        _point(row, x, panel, text, sizes)
        for row, text in zip(rows.iter_rows(named=True), texts, strict=True)
    ]
    return found + [centre(trace) for trace in found if repeated(runs, trace)]


def repeated(runs: pl.DataFrame | None, point: go.Scatter) -> bool:
    """Whether a point, known by ``customdata[0]``, is a mean over several of ``runs``."""
    if runs is None or point.mode != "markers+text":
        return False
    return runs.filter(pl.col("point") == point.customdata[0][0]).height > 1


def centre(point: go.Scatter) -> go.Scatter:
    """A mark once more, unseen and as small as those of its training seeds.

    Of all marks under the pointer plotly takes the smallest, however they are stacked, and of equal
    ones the last: without this one the centre of a mean tells of a seed that lies there.
    """
    unseen = {"marker": {"opacity": 0}}
    return go.Scatter(
        x=point.x, y=point.y, mode="markers", marker={"size": 6, "opacity": 0,
        "color": point.marker.color}, customdata=point.customdata, selected=unseen,
        unselected=unseen, hovertemplate=point.hovertemplate, cliponaxis=False,
    )  # fmt: skip


def _under(
    figure: go.Figure, number: str, band: tuple[float, float] | None, *, empty: bool
) -> None:
    """Null band of one panel; what an empty one says."""
    x, y = f"x{number}", f"y{number}"
    if band is not None:
        figure.add_shape(
            type="rect", x0=0, x1=1, xref=f"{x} domain", y0=band[0], y1=band[1], yref=y,
            fillcolor=theme.NULL_BAND, line={"width": 0}, layer="below",
        )  # fmt: skip
    if empty:
        figure.add_annotation(
            text="no value", x=0.5, y=0.5, xref=f"{x} domain", yref=f"{y} domain",
            showarrow=False,
        )  # fmt: skip


def _values(runs: pl.DataFrame | None, column: str) -> list[float]:
    return [] if runs is None else runs[column].drop_nulls().to_list()


def _axis(
    points: pl.DataFrame, panel: Panel, more: Sequence[float] = (), held: Sequence[float] = ()
) -> Axis:
    columns = [panel.column, f"{panel.column}_low", f"{panel.column}_high"]
    values = [v for column in columns for v in points[column].drop_nulls().to_list()]
    return Axis.over(panel.title, [*values, *more], start=panel.start, held=held)


def _point(
    row: dict[str, object],
    x: Panel,
    panel: Panel,
    text: tuple[str, str],
    sizes: Sequence[int | None],
) -> go.Scatter:
    symbol, colour = theme.corpus_symbol(str(row["corpus"])), theme.corpus_line(str(row["corpus"]))
    form = ".2%" if panel.percent else ".3g"
    return go.Scatter(
        x=[row[x.column]], y=[row[panel.column]], mode="markers+text", cliponaxis=False,
        text=[f"\u00a0{text[0]}\u00a0"], textposition=text[1], textfont={"size": theme.LABEL_SIZE},
        error_x=marks.bar(row, x.column, colour), error_y=marks.bar(row, panel.column, colour),
        marker={
            "symbol": f"{symbol}-open" if row["published"] else symbol,
            "size": theme.marker_size(row["n_parameters"], sizes), "color": colour,
            "line": {"width": 2.5 if row["published"] else 1, "color": colour},
        },
        customdata=[[row["experiment_id"] or ""]],
        hovertemplate=f"<b>{row['name']}</b><br>{x.spoken} %{{x:.3g}}"
        f"{marks.span(row, x.column, '.3g')}<br>{panel.spoken} %{{y:{form}}}"
        + marks.span(row, panel.column, form).replace("-", "\u2212")
        + f"<br>{row['says']}<extra></extra>",
    )  # fmt: skip
