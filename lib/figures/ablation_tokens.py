"""One prompt, token by token: how far each run's prediction is from base."""

import html
from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from lib.figures import theme


class Look(NamedTuple):
    label: str
    colour: str
    dash: str


LOOKS = {
    "tuned": Look("tuned", theme.TUNED, "solid"),
    "treated": Look("treated", theme.DIFFERENCE, "solid"),
    "ceiling": Look("full patch", theme.BASE, "dash"),
    "control": Look("control, mean of draws", theme.NEUTRAL, "dot"),
}


def predicted(tokens: Sequence[str]) -> list[str]:
    """The token that the prediction made at each position is of; the last one is unseen."""
    return [*tokens[1:], " (next token)"]


def by_token(lines: dict[str, Sequence[float | None]], tokens: Sequence[str]) -> go.Figure:
    """KL to base in nats, from 0; a position is that of the predicted token.

    Args:
        lines: names of ``LOOKS``, each with the KL of the prediction after every token, None where
            not scored.
        tokens: BOS and the prompt.
    """
    figure = go.Figure()
    names = predicted(tokens)
    for name, values in lines.items():
        look = LOOKS[name]
        scored = [(t, kl) for t, kl in enumerate(values) if kl is not None]
        figure.add_scatter(
            x=[t for t, _ in scored],
            y=[kl for _, kl in scored],
            mode="lines+markers" if look.dash == "solid" else "lines",
            name=look.label,
            line={"color": look.colour, "dash": look.dash, "width": 2},
            marker={"size": 5},
            customdata=[html.escape(names[t]) for t, _ in scored],
            hovertemplate="%{customdata}: %{y:.3g} nats<extra>" + look.label + "</extra>",
        )
    figure.update_xaxes(title="predicted token (0 = first of the prompt)")
    figure.update_yaxes(title="KL to base, nats", rangemode="tozero")
    return figure.update_layout(
        template=theme.TEMPLATE, height=290, margin={"l": 10, "r": 10, "t": 40, "b": 10}
    )
