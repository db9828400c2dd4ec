"""Figures of latents. Pure: frames in, plotly out."""

import html
from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl

from lib.figures import theme

LOOK = {
    "eliminated": (theme.BASE, "triangle-down"),
    "suppressed": (theme.BASE, "triangle-down-open"),
    "shared": (theme.NEUTRAL, "circle-open"),
    "amplified": (theme.TUNED, "triangle-up-open"),
    "new": (theme.TUNED, "triangle-up"),
    "dead": (theme.NEUTRAL, "x-thin-open"),
}
"""Colour and symbol of each class: pointing down what the base had more of, up what it gained."""
CUTS = (0.1, 0.4, 0.6, 0.9)
"""Of the relative norm, between the classes (Minder et al. 2025, arXiv:2504.02922, section 2.2)."""
_SMALLEST, _LARGEST = 5.0, 16.0


def latent_map(points: pl.DataFrame, n_tokens: int | None = None) -> go.Figure:
    """Where the change sits: relative decoder norm against share of the difference's energy.

    x always spans 0..1 (0 = base only, 1 = tuned only); y is logarithmic; the marker grows with the
    logarithm of the frequency. ``customdata[0]`` of a point is its latent.

    Args:
        points: ``latent, class, delta_norm, frequency, difference_share, promoted`` with positive
            shares, as ``latent_map`` of the store gives them.
        n_tokens: on which frequency and shares rest; None = not known.
    """
    figure = go.Figure()
    for name in LOOK:
        rows = points.filter(pl.col("class") == name)
        if not rows.is_empty():
            figure.add_trace(_class_trace(name, rows, n_tokens))
    for cut in CUTS:
        figure.add_vline(x=cut, line={"dash": "dot", "width": 1, "color": theme.NEUTRAL})
    figure.update_xaxes(
        title="relative decoder norm (0 = base only, 0.5 = equal, 1 = tuned only)",
        range=[-0.02, 1.02],
    )
    figure.update_yaxes(
        title="share of the difference's energy", type="log", tickformat="~p", dtick="D2"
    )
    figure.update_layout(
        template=theme.TEMPLATE,
        height=430,
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "itemsizing": "constant"},
        clickmode="event+select",
    )
    return figure


def activation_histogram(edges: Sequence[float], counts: Sequence[int]) -> go.Figure:
    """How strongly a latent fires where it fires; token counts on a log axis, empty bins left out.

    Args:
        edges: activations, one more than ``counts``, ascending.

    Raises:
        ValueError: edges and counts do not fit.
    """
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(edges)} edges for {len(counts)} bins; there must be one more edge")
    low, high = edges[:-1], edges[1:]
    figure = go.Figure(
        go.Bar(
            x=[(a + b) / 2 for a, b in zip(low, high, strict=True)],
            width=[b - a for a, b in zip(low, high, strict=True)],
            y=[count or None for count in counts],
            customdata=list(zip(low, high, strict=True)),
            marker={"color": theme.NEUTRAL},
            hovertemplate="%{y:,} tokens with activation %{customdata[0]:.3g} to "
            "%{customdata[1]:.3g}<extra></extra>",
        )
    )
    figure.update_xaxes(title="activation", rangemode="tozero")
    figure.update_yaxes(title="tokens (log)", type="log", dtick=1)
    figure.update_layout(
        template=theme.TEMPLATE, height=220, bargap=0, margin={"l": 10, "r": 10, "t": 6, "b": 10}
    )
    return figure


def _class_trace(name: str, rows: pl.DataFrame, n_tokens: int | None) -> go.Scatter:
    colour, symbol = LOOK[name]
    return go.Scatter(
        x=rows["delta_norm"].to_list(),
        y=rows["difference_share"].to_list(),
        mode="markers",
        name=f"{name} ({len(rows):,})",
        marker={
            "color": colour,
            "symbol": symbol,
            "size": rows.select(_size(pl.col("frequency"))).to_series().to_list(),
            "opacity": 0.75,
            "line": {"width": 1.3, "color": colour},
        },
        customdata=_hover(rows),
        hovertemplate="<b>feature %{customdata[0]}</b><br>%{y:.3%} of the difference<br>"
        "relative norm %{x:.3f} (no change: 0.5)<br>fires on %{customdata[1]}"
        + ("" if n_tokens is None else f" (n = {n_tokens:,})")
        + "<br>promotes %{customdata[2]}<extra></extra>",
    )


def _size(frequency: pl.Expr) -> pl.Expr:
    """Pixels: 1e-5 of the tokens and rarer are smallest, a tenth and more largest."""
    scaled = (frequency.fill_null(0).clip(1e-5, 0.1).log10() + 5) / 4
    return _SMALLEST + (_LARGEST - _SMALLEST) * scaled


def _hover(rows: pl.DataFrame) -> list[tuple[int, str, str]]:
    """Latent, frequency and promoted tokens; plotly reads HTML in hovers, so tokens are escaped."""
    return [
        (
            row["latent"],
            "an unknown share" if row["frequency"] is None else f"{row['frequency']:.3%} of tokens",
            html.escape(" ".join(repr(token) for token in row["promoted"] or [])) or "not measured",
        )
        for row in rows.iter_rows(named=True)
    ]
