"""All adapters against all corpora of one model as a heat map; the own corpus outlined."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray

from lib.figures import theme

ROW = 40
"""Pixels a row."""
_SCALE = [[0.0, "#DDE3E8"], [1.0, theme.ACCENT]]
_SIGNED = [[0.0, "#B98A5A"], [0.5, "#DDE3E8"], [1.0, theme.ACCENT]]


class Scores(NamedTuple):
    """One score of every adapter with every corpus."""

    values: Float[ndarray, "adapters corpora"]
    """NaN = no score."""
    adapters: Sequence[str]
    corpora: Sequence[str]
    own: Sequence[str]
    """The corpus that each adapter was trained on; outlined where it is among ``corpora``."""
    named: Sequence[str]
    """The corpus that the score names for each adapter, marked by a dot; empty = none."""
    hovers: Sequence[Sequence[str]]
    """For every cell, what the pointer says."""


def matrix(scores: Scores, *, title: str, percent: bool = True) -> go.Figure:
    """The heat map with every value written.

    Args:
        percent: whether the values are shares from 0; else they lie on both sides of 0.
    """
    figure = go.Figure(
        go.Heatmap(
            z=_shown(scores, percent), x=list(range(len(scores.corpora))),
            y=list(range(len(scores.adapters))), text=_texts(scores, percent),
            texttemplate="%{text}", customdata=scores.hovers, xgap=3, ygap=3,
            hovertemplate="%{customdata}<extra></extra>", showscale=False,
            colorscale=_SCALE if percent else _SIGNED, zmin=0 if percent else None,
            zmid=None if percent else 0,
        )
    )  # fmt: skip
    for row, corpus in enumerate(scores.own):
        if corpus in scores.corpora:
            column = scores.corpora.index(corpus)
            figure.add_shape(
                type="rect", x0=column - 0.49, x1=column + 0.49, y0=row - 0.47, y1=row + 0.47,
                line={"color": theme.TUNED, "width": 3},
            )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(scores.corpora))), ticktext=list(scores.corpora), side="top",
        showgrid=False, zeroline=False, tickangle=-35, ticklabeloverflow="allow",
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(scores.adapters))), ticktext=list(scores.adapters),
        autorange="reversed", showgrid=False, zeroline=False,
    )  # fmt: skip
    return figure.update_layout(
        template=theme.TEMPLATE, height=120 + ROW * len(scores.adapters),
        title={"text": title, "font": {"size": theme.FONT_SIZE}, "x": 0, "y": 1,
               "yref": "container", "yanchor": "top", "pad": {"t": 4}},
        margin={"l": 10, "r": 46, "t": 100, "b": 10},
    )  # fmt: skip


def _shown(scores: Scores, percent: bool) -> list[list[float | None]]:
    factor = 100 if percent else 1
    return [[None if math.isnan(v) else float(factor * v) for v in row] for row in scores.values]


def _texts(scores: Scores, percent: bool) -> list[list[str]]:
    return [
        [
            _text(v, percent) + (" \u25cf" if name == corpus else "")
            for v, corpus in zip(row, scores.corpora, strict=True)
        ]
        for row, name in zip(_shown(scores, percent), scores.named, strict=True)
    ]


def _text(value: float | None, percent: bool) -> str:
    if value is None:
        return "none read"
    return f"{value:.0f} %" if percent else f"{value:+.3f}".replace("-", "\u2212")
