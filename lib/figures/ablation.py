"""The figure of one live ablation. Pure: a result in, plotly out."""

import html
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lib.ablation import AblationResult
from lib.ablation.request import Condition
from lib.figures import theme


class Look(NamedTuple):
    """One condition on every picture of an ablation."""

    label: str
    colour: str
    dash: str
    pattern: str


LOOKS = {
    "tuned": Look("tuned", theme.TUNED, "solid", ""),
    "clamped": Look("clamped", theme.DIFFERENCE, "solid", ""),
    "control": Look("control (1 draw)", theme.NEUTRAL, "dot", "/"),
    "ceiling": Look("full patch", theme.BASE, "dash", "x"),
}
"""Order of the bars, top to bottom."""


def conditions(result: AblationResult) -> list[Condition]:
    """The four that are compared with base, in the order in which they are drawn."""
    return [getattr(result, name) for name in LOOKS]


def predicted(result: AblationResult) -> list[str]:
    """The token that the prediction made at each position is of; the last one is unseen."""
    return [*result.tokens[1:], " (next token)"]


def divergence_from_base(result: AblationResult) -> go.Figure:
    """Left: mean KL to base of every condition; right: the same KL token by token.

    Both axes of KL start at 0, in nats, over the scored positions. A position on the right is that
    of the predicted token, the last one being the token after the prompt.
    """
    figure = make_subplots(
        rows=1,
        cols=2,
        column_widths=[0.34, 0.66],
        horizontal_spacing=0.09,
        subplot_titles=("mean over the prompt", "token by token"),
    )
    for condition in conditions(result):
        _bar(figure, condition)
        _line(figure, condition, predicted(result))
    top = max(condition.kl for condition in conditions(result)) or 1.0
    figure.update_xaxes(title="KL to base, nats per token", range=[0, 1.55 * top], col=1)
    figure.update_yaxes(autorange="reversed", col=1)
    figure.update_xaxes(title="predicted token (0 = first of the prompt)", col=2)
    figure.update_yaxes(title="KL to base, nats", rangemode="tozero", col=2)
    figure.update_annotations(font={"size": theme.LABEL_SIZE, "color": theme.NEUTRAL})
    figure.update_layout(
        template=theme.TEMPLATE,
        height=340,
        bargap=0.35,
        margin={"l": 10, "r": 10, "t": 56, "b": 10},
        legend={"orientation": "h", "y": 1.1, "yanchor": "bottom", "x": 0.4},
    )
    return figure


def _bar(figure: go.Figure, condition: Condition) -> None:
    look = LOOKS[condition.name]
    figure.add_bar(
        x=[condition.kl],
        y=[look.label],
        orientation="h",
        name=look.label,
        showlegend=False,
        marker={"color": look.colour, "pattern": {"shape": look.pattern}},
        text=[bar_words(condition)],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.4g} nats<extra></extra>",
        row=1,
        col=1,
    )


def bar_words(condition: Condition) -> str:
    """The number at a bar's end, and what the condition undoes."""
    nats = f"{condition.kl:.3g} nats"
    if condition.name == "tuned" or condition.share_reversed is None:
        return nats
    return f"{nats}<br>{percent(condition.share_reversed)} undone"


def percent(share: float) -> str:
    """``12 %``, with one decimal below 10 % and a true minus sign; never a negative zero."""
    shown = f"{100 * share:.1f}" if abs(share) < 0.1 else f"{100 * share:.0f}"
    return f"{'0' if float(shown) == 0 else shown} %".replace("-", "\u2212")


def _line(figure: go.Figure, condition: Condition, tokens: list[str]) -> None:
    look = LOOKS[condition.name]
    scored = [(t + 1, kl) for t, kl in enumerate(condition.kl_per_token) if kl is not None]
    figure.add_scatter(
        x=[position - 1 for position, _ in scored],
        y=[kl for _, kl in scored],
        mode="lines+markers" if condition.name in ("tuned", "clamped") else "lines",
        name=look.label,
        line={"color": look.colour, "dash": look.dash, "width": 2},
        marker={"size": 5},
        customdata=[html.escape(tokens[position - 1]) for position, _ in scored],
        hovertemplate="%{customdata}: %{y:.3g} nats<extra>" + look.label + "</extra>",
        row=1,
        col=2,
    )
