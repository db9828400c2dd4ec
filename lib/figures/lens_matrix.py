"""All adapters against all corpora of one model as a heat map; the own corpus outlined."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray

from lib.figures import theme

ROW = 40
"""Pixels a row."""
_SCALE = [[0.0, "#DDE3E8"], [1.0, theme.ACCENT]]


def matrix(
    values: Float[ndarray, "adapters corpora"],
    adapters: Sequence[str],
    corpora: Sequence[str],
    own: Sequence[str],
    named: Sequence[str],
    hovers: Sequence[Sequence[str]],
    *,
    title: str,
    percent: bool = True,
) -> go.Figure:
    """One score per adapter and corpus; NaN is an empty cell.

    Args:
        own: the corpus that each adapter was trained on; outlined where it is among ``corpora``.
        named: the corpus that the score names for each adapter, marked by a dot; empty = none.
        hovers: for every cell, what the pointer says.
        percent: whether the values are shares.
    """
    factor = 100 if percent else 1
    shown = [[None if math.isnan(v) else factor * v for v in row] for row in values]
    texts = [
        [_text(v, percent) + (" \u25cf" if name == corpus else "")
         for v, corpus in zip(row, corpora, strict=True)]
        for row, name in zip(shown, named, strict=True)
    ]  # fmt: skip
    figure = go.Figure(
        go.Heatmap(
            z=shown, x=list(range(len(corpora))), y=list(range(len(adapters))), text=texts,
            texttemplate="%{text}", customdata=hovers, xgap=3, ygap=3, zmin=0,
            hovertemplate="%{customdata}<extra></extra>", colorscale=_SCALE, showscale=False,
        )
    )  # fmt: skip
    for row, corpus in enumerate(own):
        if corpus in corpora:
            column = corpora.index(corpus)
            figure.add_shape(
                type="rect", x0=column - 0.49, x1=column + 0.49, y0=row - 0.47, y1=row + 0.47,
                line={"color": theme.TUNED, "width": 3},
            )  # fmt: skip
    figure.update_xaxes(tickvals=list(range(len(corpora))), ticktext=list(corpora), side="top",
                        showgrid=False, zeroline=False, tickangle=-30)  # fmt: skip
    figure.update_yaxes(tickvals=list(range(len(adapters))), ticktext=list(adapters),
                        autorange="reversed", showgrid=False, zeroline=False)  # fmt: skip
    return figure.update_layout(
        template=theme.TEMPLATE, height=120 + ROW * len(adapters),
        title={"text": title, "font": {"size": theme.FONT_SIZE}, "x": 0, "y": 1,
               "yref": "container", "yanchor": "top", "pad": {"t": 4}},
        margin={"l": 10, "r": 10, "t": 100, "b": 10},
    )  # fmt: skip


def _text(value: float | None, percent: bool) -> str:
    if value is None:
        return "none read"
    return f"{value:.0f} %" if percent else f"{value:.2f}"
