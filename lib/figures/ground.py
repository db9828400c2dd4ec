"""What lies under the points of the scatter: cuts, null bands, and what each quarter means.

``number`` is plotly's of a panel's axes: empty for the first, 2 for the second, and so on.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lib.figures import theme
from lib.figures.axis import Axis

_TOGETHER = 0.004  # of an axis: cuts closer than this are one line
_NARROW = 700  # pixels: below, corner names are smaller


class Cuts(NamedTuple):
    """Where low ends and high begins, on one axis each, for one model; None = no cut."""

    internal: float | None
    output: float | None
    label: str = ""


class Ground(NamedTuple):
    """Plotly's shapes and annotations of one panel; added to a figure all at once, which is fast."""

    shapes: list[dict[str, object]]
    notes: list[dict[str, object]]

    def __add__(self, other: "Ground") -> "Ground":
        return Ground(self.shapes + other.shapes, self.notes + other.notes)


def cut_lines(cuts: Sequence[Cuts], axis: Axis, part: str, number: str) -> Ground:
    """Dotted lines; with the model's name at their ends where models have cuts of their own.

    Cuts that fall together are one line with all their names.
    """
    upright = part == "internal"
    x, y = f"x{number}", f"y{number}"
    drawn = Ground([], [])
    look = {
        "type": "line", "line": {"dash": "dot", "color": theme.NEUTRAL, "width": 1.6},
        "layer": "below",
    }  # fmt: skip
    for value, names in _together(cuts, axis, part):
        ends = (
            {"x0": value, "x1": value, "xref": x, "y0": 0, "y1": 1, "yref": f"{y} domain"}
            if upright
            else {"y0": value, "y1": value, "yref": y, "x0": 0, "x1": 1, "xref": f"{x} domain"}
        )
        drawn.shapes.append(look | ends)
        if len(cuts) < 2:
            continue
        at = axis.share(value)
        place = (
            {"x": at, "xref": f"{x} domain", "y": 1, "yref": f"{y} domain"}
            if upright
            else {"y": at, "yref": f"{y} domain", "x": 1, "xref": f"{x} domain", "xanchor": "right"}
        )
        drawn.notes.append(
            {
                "text": ", ".join(names),
                "showarrow": False,
                "yanchor": "bottom",
                "font": {"size": 10},
            }
            | place
        )
    return drawn


def _together(cuts: Sequence[Cuts], axis: Axis, part: str) -> list[tuple[float, list[str]]]:
    """Cuts of one axis in order, those that fall together as one, with the models' names."""
    lines: list[tuple[float, list[str]]] = []
    for cut in sorted(cuts, key=lambda cut: getattr(cut, part) or 0.0):
        value = getattr(cut, part)
        if value is None:
            continue
        if lines and axis.share(value) - axis.share(lines[-1][0]) < _TOGETHER:
            lines[-1][1].append(cut.label)
        else:
            lines.append((value, [cut.label]))
    return lines


def bands(
    axes: tuple[Axis, Axis],
    null: tuple[float, float] | None,
    null_output: tuple[float, float] | None,
    number: str,
) -> Ground:
    """Grey where null controls reach: upright for the inner axis, flat for the outer one.

    From the edge of the axis where the null begins before it: a logarithmic one has no place for 0.
    """
    x, y = axes
    at_x, at_y = f"x{number}", f"y{number}"
    look = {"type": "rect", "fillcolor": theme.NULL_BAND, "line": {"width": 0}, "layer": "below"}
    drawn = Ground([], [])
    if null is not None:
        ends = {"x0": max(null[0], x.low), "x1": null[1], "xref": at_x, "y0": 0, "y1": 1}
        drawn.shapes.append(look | ends | {"yref": f"{at_y} domain"})
        drawn.notes.append({
            "text": "null", "x": x.share(max(null[0], x.low)), "xref": f"{at_x} domain", "y": 0,
            "yref": f"{at_y} domain", "showarrow": False, "xanchor": "left", "yanchor": "bottom",
            "yshift": 26, "font": {"color": theme.NEUTRAL},
        })  # fmt: skip
    if null_output is not None:
        ends = {
            "y0": max(null_output[0], y.low),
            "y1": null_output[1],
            "yref": at_y,
            "x0": 0,
            "x1": 1,
        }
        drawn.shapes.append(look | ends | {"xref": f"{at_x} domain"})
    return drawn


def corners(number: str, width: int) -> Ground:
    """What each quarter means; at the edges of the panel, not of the cuts, so they never cover."""
    notes = []
    size = theme.LABEL_SIZE if width > _NARROW else theme.LABEL_SIZE - 2
    for name, x, y in (
        ("behavioural capture", 0, 1), ("coupled adaptation", 1, 1),
        ("near-unchanged", 0, 0), ("latent divergence", 1, 0),
    ):  # fmt: skip
        mark = f'<span style="color:{theme.REGIME_COLOURS[name]}">\u25a0</span>'
        text = f"{name.upper()} {mark}" if x else f"{mark} {name.upper()}"
        notes.append({
            "text": text, "x": x, "y": y, "xref": f"x{number} domain", "yref": f"y{number} domain",
            "showarrow": False, "xanchor": "right" if x else "left",
            "yanchor": "top" if y else "bottom", "xshift": -8 if x else 8, "yshift": -6 if y else 6,
            "font": {"size": size},
        })  # fmt: skip
    return Ground([], notes)
