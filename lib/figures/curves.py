"""Training curves: did the adapter learn, did the dictionaries reach their plateau?"""

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from lib.figures import theme

_LINES = (
    ("crosscoder", "fve_base", "crosscoder, base side", theme.BASE, "solid"),
    ("crosscoder", "fve_tuned", "crosscoder, tuned side", theme.TUNED, "solid"),
    ("crosscoder", "fve_difference", "crosscoder, difference", theme.DIFFERENCE, "solid"),
    ("sae_base", "fve_base", "SAE of base", theme.BASE, "dot"),
    ("sae_tuned", "fve_tuned", "SAE of tuned", theme.TUNED, "dot"),
)


def adapter_loss(curves: pl.DataFrame, *, height: int = 460) -> go.Figure:
    """Training loss of the fine-tune by step, nats per token; the rows with run = adapter.

    The loss of one batch jumps with its text, so a running mean over five steps lies on top.
    """
    rows = curves.filter(run="adapter").sort("step")
    smooth = rows["loss"].rolling_mean(5, min_samples=1, center=True)
    figure = go.Figure()
    figure.add_scatter(
        x=rows["step"].to_list(), y=rows["loss"].to_list(), mode="markers", name="one batch",
        marker={"color": theme.NEUTRAL, "size": 6, "opacity": 0.7},
        hovertemplate="step %{x}: %{y:.3f} nats per token<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=rows["step"].to_list(), y=smooth.to_list(), mode="lines", name="mean of five steps",
        line={"color": theme.TUNED, "width": 2.5},
        hovertemplate="around step %{x}: %{y:.3f} nats per token<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="step of the fine-tune", rangemode="tozero")
    figure.update_yaxes(title="training loss, nats per token")
    figure.update_layout(template=theme.TEMPLATE, height=height, hovermode="closest")
    return figure


def dictionary_quality(
    curves: pl.DataFrame, layers: Sequence[int], *, height: int = 460
) -> go.Figure:
    """Held-out fraction of variance explained by step, one panel per layer on one y axis.

    Base side, tuned side and their difference; crosscoder as full lines, SAEs dotted. The axis
    ends at 1 and starts at 0, or below it where a dictionary is worse than the mean.

    Args:
        layers: which panels, left to right; at least one.
    """
    figure = make_subplots(
        rows=1, cols=len(layers), shared_yaxes=True, horizontal_spacing=0.02,
        subplot_titles=[f"layer {layer}" for layer in layers],
    )  # fmt: skip
    lowest = 0.0
    for column, layer in enumerate(layers, 1):
        for run, value, name, colour, dash in _LINES:
            rows = curves.filter(run=run, layer=layer).drop_nulls(value).sort("step")
            if rows.is_empty():
                continue
            lowest = min(lowest, float(rows[value].min()))
            figure.add_scatter(
                x=rows["step"].to_list(), y=rows[value].to_list(), name=name, mode="lines",
                line={"color": colour, "dash": dash, "width": 2}, legendgroup=name,
                showlegend=column == 1, row=1, col=column,
                hovertemplate=f"{name}, step %{{x}}: %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
    figure.update_yaxes(range=[max(lowest, -1.0), 1])
    figure.update_yaxes(title="held-out fraction of variance explained", row=1, col=1)
    figure.update_xaxes(title="step", rangemode="tozero", nticks=5)
    for note in figure.layout.annotations:
        note.update(font={"size": theme.LABEL_SIZE})
    figure.update_layout(
        template=theme.TEMPLATE, height=height, margin={"l": 10, "r": 10, "t": 64, "b": 10},
        legend={"orientation": "h", "y": 1.09, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return figure
