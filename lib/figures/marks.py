"""What every drawn point has: bars of its interval, the interval in words, a place for its name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import plotly.graph_objects as go
import polars as pl

from lib.figures import theme
from lib.figures.axis import Axis
from lib.figures.labels import Box, Mark, place

Row = Mapping[str, object]


def bar(row: Row, column: str, colour: str) -> dict[str, object]:
    """Plotly's error bar from ``column``, ``column_low`` and ``column_high``; none without both."""
    low, value, high = (row[c] for c in (f"{column}_low", column, f"{column}_high"))
    if low is None or high is None:
        return {"visible": False}
    return {
        "type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low],
        "thickness": 1.4, "width": 4, "color": colour,
    }  # fmt: skip


def span(row: Row, column: str, form: str = ".4g") -> str:
    """`` (low to high)``, or nothing without an interval."""
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return "" if low is None or high is None else f" ({low:{form}} to {high:{form}})"


class Look(NamedTuple):
    """How training seeds are drawn and what the pointer says of them."""

    colour: Literal["regime", "corpus"]
    unit: tuple[str, str]
    """Formats of x and y."""
    names: tuple[str, str]
    """Of x and y, with unit."""


def seeds(
    points: pl.DataFrame, runs: pl.DataFrame, columns: tuple[str, str], look: Look
) -> list[go.Scatter]:
    """Small marks of the training seeds, joined to their mean by thin lines.

    Nothing for a point with one seed.

    Args:
        points: columns experiment_id, name, corpus, regime (for its colour), and ``columns``.
        runs: columns point (experiment_id of the point), experiment_id, seed, says (what the
            pointer tells besides the values), ``columns``, and their ``*_low`` and ``*_high``.
        columns: of x and y; a run without one of the values is left out.
    """
    x, y = columns
    shared = {"point": "experiment_id", "mean_x": x, "mean_y": y}
    extra = ["regime"] if look.colour == "regime" else []
    means = points.select("corpus", "name", *extra, **shared)
    several = (
        runs.select("point", "experiment_id", "seed", "says", *_bounded(columns))
        .drop_nulls([x, y])
        .filter(pl.len().over("point") > 1)
        .join(means, on="point", maintain_order="left")
        .drop_nulls(["mean_x", "mean_y"])
    )
    found = []
    for _, part in several.group_by("point", maintain_order=True):
        first = part.row(0, named=True)
        colour = (
            theme.REGIME_COLOURS[first["regime"]]
            if look.colour == "regime"
            else theme.corpus_line(first["corpus"])
        )
        found += [_spokes(part, columns, colour), _seeds(part, columns, colour, look)]
    return found


def seed_boxes(
    runs: pl.DataFrame | None, axes: tuple[Axis, Axis], size: tuple[int, int]
) -> list[Box]:
    """Where the small marks of training seeds lie, in pixels; columns x and y of ``runs``."""
    if runs is None:
        return []
    centres = [
        (axes[0].share(x) * size[0], axes[1].share(y) * size[1])
        for x, y in runs.select("x", "y").iter_rows()
    ]
    return [Box(x - 4, y - 4, x + 4, y + 4) for x, y in centres]


def _bounded(columns: tuple[str, str]) -> list[str]:
    return [f"{column}{end}" for column in columns for end in ("", "_low", "_high")]


def _spokes(part: pl.DataFrame, columns: tuple[str, str], colour: str) -> go.Scatter:
    ends = [
        [v for mean, own in part.select(mean, own).iter_rows() for v in (mean, own, None)]
        for mean, own in zip(("mean_x", "mean_y"), columns, strict=True)
    ]
    return go.Scatter(
        x=ends[0], y=ends[1], mode="lines", line={"color": colour, "width": 1}, hoverinfo="skip"
    )


def _seeds(part: pl.DataFrame, columns: tuple[str, str], colour: str, look: Look) -> go.Scatter:
    x, y = columns
    return go.Scatter(
        x=part[x].to_list(), y=part[y].to_list(), mode="markers", cliponaxis=False,
        marker={"symbol": theme.corpus_symbol(part["corpus"][0]), "size": 6, "color": colour},
        customdata=[
            [row["experiment_id"], row["seed"], span(row, x, look.unit[0]),
             span(row, y, look.unit[1]), row["says"]]
            for row in part.iter_rows(named=True)
        ],
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
        hovertemplate=f"<b>{part['name'][0]}, training seed %{{customdata[1]}}</b><br>"
        f"{look.names[0]} %{{x:{look.unit[0]}}}%{{customdata[2]}}<br>"
        f"{look.names[1]} %{{y:{look.unit[1]}}}%{{customdata[3]}}<br>%{{customdata[4]}}"
        "<extra></extra>",
    )  # fmt: skip


class Named(NamedTuple):
    """What is written at each row, and on which side of its marker."""

    words: list[str]
    positions: list[str]
    """Plotly's; of no meaning where nothing is written."""


def named(
    rows: pl.DataFrame,
    columns: tuple[str, str],
    axes: tuple[Axis, Axis],
    size: tuple[int, int],
    obstacles: Sequence[Box] = (),
    *,
    most: int = 8,
    words: str = "name",
) -> Named:
    """Names off the points, bars and obstacles; the pointer has those that are not written.

    Past ``most`` rows the corpus alone, once, at whichever of its points it covers least.

    Args:
        columns: of x and y, with bounds ``*_low`` and ``*_high``.
        size: pixels of the plotting area; where its width varies, the smallest.
        words: column with the name of each row.
    """
    ends = [axis.share for axis in axes]
    known = rows["n_parameters"].to_list() if "n_parameters" in rows.columns else []
    marks, bars = [], []
    for row in rows.iter_rows(named=True):
        at = [ends[i](row[columns[i]]) * size[i] for i in (0, 1)]
        marks.append(Mark(at[0], at[1], theme.marker_size(row.get("n_parameters"), known)))
        bars += _bars(row, columns, ends, size, at)
    if len(rows) <= most:
        texts = [(text, [at]) for at, text in enumerate(rows[words])]
    else:
        own = rows["corpus"].to_list()
        texts = [(c, [i for i, other in enumerate(own) if other == c]) for c in dict.fromkeys(own)]
    written, places = [""] * len(rows), ["middle right"] * len(rows)
    spots = place(texts, marks, Box(0, 0, *size), [*obstacles, *bars])
    for (text, _), spot in zip(texts, spots, strict=True):
        written[spot.mark], places[spot.mark] = text, spot.position
    return Named(written, places)


def _bars(
    row: Row,
    columns: tuple[str, str],
    ends: Sequence[Callable[[float], float]],
    size: tuple[int, int],
    at: Sequence[float],
) -> list[Box]:
    """The error bars of one row, in pixels."""
    found = []
    for i in (0, 1):
        low, high = row[f"{columns[i]}_low"], row[f"{columns[i]}_high"]
        if low is None or high is None:
            continue
        reach = ends[i](low) * size[i], ends[i](high) * size[i]
        across = at[1 - i] - 3, at[1 - i] + 3
        (left, right), (bottom, top) = (reach, across) if i == 0 else (across, reach)
        found.append(Box(left, bottom, right, top))
    return found
