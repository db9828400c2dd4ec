"""How much of the stream's change adapted matrices wrote there themselves, block by block."""

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl

from lib.figures import theme
from lib.figures.geometry import ranked
from lib.figures.weights import titled

_NEAR = 0.5
"""Of the largest share, from which the line of all of it is drawn too."""


def written(rows: pl.DataFrame, ranks: Sequence[int], title: str, height: int = 360) -> go.Figure:
    """A line for every rank with its intervals; dotted: the same writes at other tokens.

    Args:
        rows: ``rank``, ``layer``, ``direct`` with ``direct_low`` and ``direct_high`` (may be null),
            ``moved`` and ``hover``; shares, 1 = all of it.
    """
    figure = go.Figure()
    for rank, (tone, symbol, _) in ranked(ranks).items():
        part = rows.filter(rank=rank).sort("layer")
        ends = part.with_columns(
            up=(pl.col("direct_high") - pl.col("direct")).fill_null(0.0),
            down=(pl.col("direct") - pl.col("direct_low")).fill_null(0.0),
        )
        line = {"legendgroup": f"rank {rank}", "x": part["layer"].to_list()}
        figure.add_scatter(
            **line, y=part["moved"].to_list(), mode="lines", showlegend=False, hoverinfo="skip",
            line={"color": tone, "width": 1.3, "dash": "dot"},
        )  # fmt: skip
        figure.add_scatter(
            **line, y=part["direct"].to_list(), mode="lines+markers", name=f"rank {rank}",
            line={"color": tone, "width": 1.8}, marker={"size": 7, "symbol": symbol, "color": tone},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.2, "width": 3, "color": tone,
                "array": ends["up"].to_list(), "arrayminus": ends["down"].to_list(),
            },
            customdata=part["hover"].to_list(), hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    whole = (rows["direct"].max() or 0) > _NEAR  # else the line would leave no room for the rest
    for y in (0, 1) if whole else (0,):
        figure.add_hline(y=y, line={"color": theme.NEUTRAL, "width": 1})
    figure.update_xaxes(title="layer (0 = first block)", nticks=12, zeroline=False)
    figure.update_yaxes(tickformat=".0%", nticks=7, zeroline=False)
    return figure.update_layout(
        template=theme.TEMPLATE, height=height, hovermode="closest", title=titled(title),
        margin={"l": 10, "r": 20, "t": 62, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yref": "paper", "yanchor": "bottom", "x": 0},
    )  # fmt: skip
