"""Change by depth: one panel per metric, layers to the right, several experiments overlaid."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from lib.figures import marks, theme
from lib.figures.nulls import beside, draw_band, null_band
from lib.metrics.profile import late_start


class Metric(NamedTuple):
    """A column of the layer table with bounds ``*_low`` and ``*_high``, and how it is shown."""

    column: str
    title: str
    reference: float
    """The value of no change, drawn as a line."""
    digits: str = ".3g"


METRICS = (
    Metric("displacement", "CKA displacement, 1 - CKA (0 = same geometry)", 0.0),
    Metric("relative_displacement", "relative displacement, rms of change / rms of base", 0.0),
    Metric(
        "ratio", "reconstruction ratio, cross / self error, held-out (1 = no change)", 1.0, ".3f"
    ),
)


def by_depth(
    layers: pl.DataFrame,
    metrics: Sequence[Metric] = METRICS,
    *,
    nulls: pl.DataFrame | None = None,
    focus: str | None = None,
    height: int = 500,
) -> go.Figure:
    """One curve per experiment and metric, its 95 % interval as a band, the late layers shaded.

    Null draws are a light grey band from the smallest to the largest of them at each layer. With
    models of different numbers of layers x is relative depth, else the layer, from 0. A metric
    measured at a few depths only is drawn with bars.

    Args:
        layers: as ``store.read.layers`` gives it; nulls are gaps.
        nulls: null draws of one model, as ``lib.store.nulls.null_layers``; None = none measured.
        focus: an experiment whose curve is drawn thicker and on top.
    """
    depths = layers["n_layers"].n_unique() > 1
    along = "depth" if depths else "layer"
    figure = make_subplots(
        rows=len(metrics), cols=1, shared_xaxes=True, vertical_spacing=0.27 / (len(metrics) + 1),
        subplot_titles=[metric.title for metric in metrics],
    )  # fmt: skip
    dashes = theme.model_dashes(layers["base_model"])
    ids = sorted(layers["experiment_id"].unique(), key=lambda e: (e == focus, e))
    bands = [null_band(nulls, metric.column) for metric in metrics]
    for row, (metric, band) in enumerate(zip(metrics, bands, strict=True), 1):
        draw_band(
            figure, band, row, along, metric.digits, legend=not any(map(len, bands[: row - 1]))
        )
        for experiment_id in ids:
            curve = layers.filter(experiment_id=experiment_id).drop_nulls(metric.column)
            if len(curve):
                _draw(figure, beside(curve, band), metric, row, dashes, along, focus)
        figure.add_hline(
            y=metric.reference, row=row, col=1,
            line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"},
        )  # fmt: skip
    _finish(figure, layers, depths, height, len(metrics))
    return figure


def _draw(
    figure: go.Figure,
    curve: pl.DataFrame,
    metric: Metric,
    row: int,
    dashes: dict[str, str],
    along: str,
    focus: str | None,
) -> None:
    experiment_id, corpus, model = curve.row(0, named=True)["experiment_id"], *_names(curve)
    colour, chosen = theme.corpus_line(corpus), experiment_id == focus
    value, low, high = (curve[f"{metric.column}{end}"] for end in ("", "_low", "_high"))
    x, sparse = curve[along].to_list(), len(curve) <= 8
    bounded = low.null_count() + high.null_count() == 0
    if bounded and not sparse:
        figure.add_scatter(
            x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself",
            fillcolor=theme.fill(colour, 0.18), line={"width": 0}, hoverinfo="skip",
            showlegend=False, legendgroup=experiment_id, row=row, col=1,
        )  # fmt: skip
    bars = {
        "type": "data", "symmetric": False, "array": (high - value).to_list(),
        "arrayminus": (value - low).to_list(), "width": 3, "thickness": 1.2,
    }  # fmt: skip
    figure.add_scatter(
        x=x, y=value.to_list(), mode="lines+markers", row=row, col=1,
        name=f"{corpus} · {model}" if len(dashes) > 1 else corpus,
        legendgroup=experiment_id, showlegend=row == 1,
        line={"color": colour, "width": 3.2 if chosen else 1.6, "dash": dashes[model]},
        marker={"symbol": theme.corpus_symbol(corpus), "size": 8 if sparse else 5},
        error_y=bars if bounded and sparse else None,
        customdata=[
            (at["layer"], marks.span(at, metric.column, metric.digits), at["n_tokens"], at["null"])
            for at in curve.iter_rows(named=True)
        ],
        hovertemplate=(
            f"{corpus} · {model}, layer %{{customdata[0]}}: %{{y:{metric.digits}}}%{{customdata[1]}}"
            "<br>n = %{customdata[2]:,} tokens; null: %{customdata[3]}<extra></extra>"
        ),
    )  # fmt: skip


def _names(curve: pl.DataFrame) -> tuple[str, str]:
    return curve["corpus"][0], curve["base_model"][0]


def _finish(
    figure: go.Figure, layers: pl.DataFrame, depths: bool, height: int, panels: int
) -> None:
    n_layers = max(layers["n_layers"].to_list(), default=1)
    start, end = (0.7, 1.0) if depths else (late_start(n_layers) - 0.5, n_layers - 0.5)
    for row in range(1, panels + 1):
        figure.add_vrect(x0=start, x1=end, fillcolor=theme.SHADE, line_width=0, layer="below",
                         row=row, col=1)  # fmt: skip
    figure.add_annotation(
        text="last 30 % of layers", x=end, y=1, xref="x", yref="y domain", xanchor="right",
        yanchor="bottom", showarrow=False, font={"size": theme.LABEL_SIZE},
    )  # fmt: skip
    figure.update_xaxes(range=[-0.02, 1.0] if depths else [-0.5, n_layers - 0.5])
    if not depths:
        figure.update_xaxes(dtick=max(1, math.ceil(n_layers / 16)))
    name = "relative depth (layer / number of layers)" if depths else "layer (0 = first block)"
    figure.update_xaxes(title=name, row=panels, col=1)
    figure.update_yaxes(nticks=5)
    for note in figure.layout.annotations[:panels]:
        note.update(x=0, xanchor="left", font={"size": theme.LABEL_SIZE})
    figure.update_layout(
        template=theme.TEMPLATE, height=height, hovermode="closest",
        margin={"l": 10, "r": 10, "t": 48, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yref": "container", "yanchor": "top", "x": 0},
    )  # fmt: skip
