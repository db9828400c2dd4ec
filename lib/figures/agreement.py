"""Two measures of inner change against each other, and how late in depth one of them lies."""

import re

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from lib.figures import marks, theme
from lib.figures.axis import Axis


def agreement(
    points: pl.DataFrame,
    shares: pl.DataFrame,
    draws: pl.DataFrame,
    metric: str,
    *,
    height: int = 600,
) -> go.Figure:
    """Mid layers, late layers; below them late share and late minus mid, null draws as a grey band.

    Corpus = symbol and colour; intervals always drawn.

    Args:
        points: columns band (mid | late), name, corpus, layers, and x, y with bounds ``*_low``,
            ``*_high``; ``says``, where it is there, is told by the pointer.
        shares: columns name, corpus, n_layers, source, and late_share, late_minus_mid with bounds.
        draws: late_share and late_minus_mid of random adapters, one row per draw.
        metric: title of y in the upper panels.
    """
    titles = ["mid layers", "late layers (last 30 %)", "share of 1 - CKA in the last 30 %",
              "1 - CKA, late minus mid"]  # fmt: skip
    figure = make_subplots(
        rows=2, cols=2, subplot_titles=titles, horizontal_spacing=0.12, vertical_spacing=0.2
    )
    for at, band in enumerate(("mid", "late"), 1):
        _against(figure, points.filter(pl.col("band") == band), at, height, metric)
    figure.update_yaxes(title=metric, row=1, col=1)
    even = sorted({1 - -(-7 * n // 10) / n for n in shares["n_layers"].unique()})
    _strip(figure, shares, draws, "late_share", 1, even, ".1%")
    _strip(figure, shares, draws, "late_minus_mid", 2, [0.0], ".3g")
    figure.update_xaxes(title="share (dotted: evenly spread)", tickformat=".0%", row=2, col=1)
    figure.update_xaxes(title="difference of means (dotted: none)", nticks=6, row=2, col=2)
    for note in figure.layout.annotations[:4]:
        note.update(font={"size": theme.LABEL_SIZE})
    figure.update_layout(
        template=theme.TEMPLATE, height=height, showlegend=False, hovermode="closest",
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
    )  # fmt: skip
    return figure


def _against(figure: go.Figure, rows: pl.DataFrame, at: int, height: int, metric: str) -> None:
    """CKA displacement against the reconstruction metric in one band of layers."""
    x, y = (_axis(rows, axis) for axis in ("x", "y"))
    words, places = marks.named(rows, ("x", "y"), (x, y), (420, height // 2 - 80))
    for row, word, place in zip(rows.iter_rows(named=True), words, places, strict=True):
        figure.add_trace(_point(row, word, place, metric), 1, at)
    figure.update_xaxes(range=[x.low, x.high], nticks=5, title="CKA displacement, 1 - CKA",
                        row=1, col=at)  # fmt: skip
    figure.update_yaxes(range=[y.low, y.high], row=1, col=at)
    if rows.is_empty():
        figure.add_trace(go.Scatter(x=[None], y=[None]), 1, at)  # or no axes are drawn at all
        figure.add_annotation(
            text="no dictionary at such a depth", x=0.5, y=0.5, xref="x domain",
            yref="y domain", showarrow=False, row=1, col=at,
        )  # fmt: skip


def _strip(
    figure: go.Figure, shares: pl.DataFrame, draws: pl.DataFrame, column: str, at: int,
    lines: list[float], form: str,
) -> None:  # fmt: skip
    """One number of every experiment on one line each, the null draws as a band behind."""
    null = draws[column].drop_nulls().to_list()
    words = "not measured"
    if null:
        words = f"{min(null):{form}} to {max(null):{form}} (n = {len(null)} draws)"
    for row in shares.drop_nulls(column).iter_rows(named=True):
        colour = theme.corpus_line(row["corpus"])
        figure.add_trace(
            go.Scatter(
                x=[row[column]], y=[row["name"]], mode="markers",
                error_x=marks.bar(row, column, colour),
                marker={"symbol": theme.corpus_symbol(row["corpus"]), "size": 12, "color": colour},
                hovertemplate=f"<b>{row['name']}</b>: %{{x:{form}}}"
                + plain(marks.span(row, column, form))
                + f"<br>interval over: {row['source']}; {row['n_layers']} layers<br>random LoRA: "
                f"{plain(words)}<extra></extra>",
            ), 2, at,
        )  # fmt: skip
    if null:
        figure.add_vrect(
            x0=min(null), x1=max(null), fillcolor=theme.NULL_BAND, layer="below",
            line={"color": theme.NULL_BAND, "width": 2}, row=2, col=at,
        )  # fmt: skip
    for line in lines:
        figure.add_vline(
            x=line, line={"dash": "dot", "color": theme.NEUTRAL, "width": 1.4}, row=2, col=at
        )
    ends = [v for end in ("", "_low", "_high") for v in shares[f"{column}{end}"].drop_nulls()]
    ends += [*null, *lines]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = (high - low or 1.0) * 0.08
    figure.update_xaxes(range=[low - room, high + room], row=2, col=at)
    figure.update_yaxes(automargin=True, showticklabels=at == 1, row=2, col=at)


def _axis(rows: pl.DataFrame, axis: str) -> Axis:
    """Linear whatever the values span: both panels are read for order, not for size."""
    columns = (axis, f"{axis}_low", f"{axis}_high")
    values = [v for c in columns for v in rows[c].drop_nulls()] or [0.0, 1.0]
    room = (max(values) - min(values) or 1.0) * 0.12
    return Axis("", False, min(values) - room, max(values) + room)


def _point(row: dict[str, object], word: str, place: str, metric: str) -> go.Scatter:
    colour = theme.corpus_line(str(row["corpus"]))
    layers = ", ".join(str(layer) for layer in row["layers"])
    return go.Scatter(
        x=[row["x"]], y=[row["y"]], mode="markers+text", text=[f"\u00a0{word}\u00a0"],
        textposition=place, textfont={"size": theme.LABEL_SIZE}, cliponaxis=False,
        error_x=marks.bar(row, "x", colour), error_y=marks.bar(row, "y", colour),
        marker={"symbol": theme.corpus_symbol(str(row["corpus"])), "size": 12, "color": colour},
        hovertemplate=f"<b>{row['name']}</b>, mean of layers {layers}<br>1 - CKA: %{{x:.3g}}"
        f"{marks.span(row, 'x', '.3g')}<br>{metric}: %{{y:.4g}}{marks.span(row, 'y', '.4g')}"
        f"{'<br>' * ('says' in row)}{row.get('says', '')}<extra></extra>",
    )  # fmt: skip


def plain(text: str) -> str:
    """Numbers as plotly writes them beside: a true minus, small ones without an exponent."""
    spelled = re.sub(
        r"[\d.]+e-\d+", lambda found: np.format_float_positional(float(found[0]), trim="-"), text
    )
    return re.sub(r"(?<![\w.])-(?=\d)", "\u2212", spelled)
