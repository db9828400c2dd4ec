"""The scale confound: the same points pooled, and with each scale's mean taken off."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from lib.figures import theme


def confound(points: pl.DataFrame, *, removed: bool, height: int = 330) -> go.Figure:
    """Points joined within each scale in order of x, and the least-squares line through all of them.

    Both axes are logarithmic. Illustrative copies are drawn small and without a name.

    Args:
        points: columns name, model, corpus, regime, x, y (positive), published, copy; ``n``
            (documents) and ``unit`` (of x), where they are there, are told by the pointer.
        removed: divide x and y by the geometric mean of their model, so that only what happens
            inside a scale is left.
    """
    rows = points.sort("model", "x")
    if removed:
        rows = rows.with_columns(
            [pl.col(axis) / pl.col(axis).log().mean().over("model").exp() for axis in ("x", "y")]
        )
    figure = go.Figure()
    dashes = theme.model_dashes(points["model"])
    for (model,), part in rows.group_by("model", maintain_order=True):
        figure.add_trace(_scale(str(model), part, dashes[str(model)], removed=removed))
    figure.add_trace(_trend(rows["x"].to_numpy(), rows["y"].to_numpy()))
    said = " over the scale's mean" if removed else ""
    figure.update_xaxes(title=f"inner change{said} (log)", type="log", **_ticks(rows["x"]))
    figure.update_yaxes(title=f"outer change{said} (log)", type="log", **_ticks(rows["y"]))
    figure.update_layout(template=theme.TEMPLATE, height=height, hovermode="closest")
    return figure


def _scale(model: str, part: pl.DataFrame, dash: str, *, removed: bool) -> go.Scatter:
    hollow = [bool(p) for p in part["published"]]
    copies = part["copy"].to_list()
    symbols = [
        theme.corpus_symbol(corpus) + ("-open" if open_ else "")
        for corpus, open_ in zip(part["corpus"], hollow, strict=True)
    ]
    colours = [
        theme.NEUTRAL if copy else theme.REGIME_COLOURS[regime]
        for copy, regime in zip(copies, part["regime"], strict=True)
    ]
    return go.Scatter(
        x=part["x"].to_list(), y=part["y"].to_list(), mode="lines+markers", name=model,
        line={"color": theme.NEUTRAL, "width": 1.4, "dash": dash},
        marker={
            "symbol": symbols, "size": [8 if copy else 13 for copy in copies],
            "color": colours, "line": {"width": 2},
        },
        customdata=[[row["name"], *_told(row, removed=removed)] for row in part.iter_rows(named=True)],
        hovertemplate=f"<b>%{{customdata[0]}}</b>, {model}<br>inner %{{x:.4g}}%{{customdata[1]}}<br>"
        "outer %{y:.3g}%{customdata[2]}<br>%{customdata[3]}<extra></extra>",
    )  # fmt: skip


def _told(row: Mapping[str, object], *, removed: bool) -> tuple[str, str, str]:
    """Units of x and y, and n, for the pointer."""
    n = f"{row['n']} documents" if row.get("n") else "n is not published"
    n = "a copy, no data" if row["copy"] else n
    if removed:
        return " times the scale's mean", " times the scale's mean", n
    return f" {row.get('unit') or ''}".rstrip(), " nats per token", n


def _trend(x: np.ndarray, y: np.ndarray) -> go.Scatter:
    """Least squares in logarithms, which is what the eye fits on such axes."""
    a, b = np.log(x), np.log(y)
    slope = float(np.cov(a, b, bias=True)[0, 1] / a.var()) if a.var() > 0 else 0.0
    ends = np.array([a.min(), a.max()])
    return go.Scatter(
        x=np.exp(ends).tolist(), y=np.exp(b.mean() + slope * (ends - a.mean())).tolist(),
        mode="lines", name="all points together", hoverinfo="skip",
        line={"color": theme.DIFFERENCE, "width": 3},
    )  # fmt: skip


def _ticks(values: Sequence[float] | pl.Series) -> dict[str, object]:
    """1, 2 and 5 times powers of ten within and just around the values."""
    low, high = min(values), max(values)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    found = [m * 10.0**e for e in powers for m in (1, 2, 5)]
    kept = [tick for tick in found if low / 2 <= tick <= high * 2]
    if high / low < 5:  # too short for them: every round step of the linear scale
        room = (high - low) / 4 or low / 4
        magnitude = 10.0 ** np.floor(np.log10(room))
        step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= 0.8 * room)
        first = int(np.ceil(low / step - 1e-9))
        kept = [float(f"{n * step:.6g}") for n in range(first, int(high / step + 1e-9) + 1)]
    return {"tickvals": kept, "ticktext": [f"{tick:g}" for tick in kept]}
