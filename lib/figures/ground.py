"""What lies under the points of the scatter: cuts, null bands, and what each quarter means.

``number`` is plotly's of a panel's axes: empty for the first, 2 for the second, and so on.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lib.figures import theme
from lib.figures.axis import Axis

_TOGETHER = 0.004  # of an axis: cuts closer than this are one line
_NARROW = 700  # pixels: below, corner names are smaller
_NULL_WORD = 34  # pixels


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
    width: int,
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
        start, end = x.share(max(null[0], x.low)), x.share(null[1])
        roomy = (end - start) * width > _NULL_WORD
        drawn.notes.append({
            "text": "null" if roomy else "\u2190 null", "x": start if roomy else end,
            "xref": f"{at_x} domain", "y": 0.3,
            "yref": f"{at_y} domain", "showarrow": False, "xanchor": "left", "yanchor": "bottom",
            "xshift": 0 if roomy else 4, "font": {"color": theme.NEUTRAL},
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


def corners(
    axes: tuple[Axis, Axis], cuts: Sequence[Cuts], size: tuple[int, int], number: str
) -> Ground:
    """What each quarter means; at the edges of the panel, not of the cuts, so they never cover.

    A low quarter too narrow for its name has it just behind the cut, with an arrow back.

    Args:
        size: pixels of the plotting area.
    """
    letters = theme.LABEL_SIZE if size[0] > _NARROW else theme.LABEL_SIZE - 2
    behind_x = _behind(axes[0], [cut.internal for cut in cuts], size[0], 16.0 + 10 * letters)
    behind_y = _behind(axes[1], [cut.output for cut in cuts], size[1], 10 + 1.4 * letters)
    notes = []
    for name, x, y in (
        ("behavioural capture", 0, 1), ("coupled adaptation", 1, 1),
        ("near-unchanged", 0, 0), ("latent divergence", 1, 0),
    ):  # fmt: skip
        mark = f'<span style="color:{theme.REGIME_COLOURS[name]}">\u25a0</span>'
        arrows = "\u2190" * (not x and behind_x > 0) + "\u2193" * (not y and behind_y > 0)
        words = f"{arrows} {name.upper()}" if arrows else name.upper()
        notes.append({
            "text": f"{words} {mark}" if x else f"{mark} {words}",
            "x": x, "y": y, "xref": f"x{number} domain", "yref": f"y{number} domain",
            "showarrow": False, "xanchor": "right" if x else "left",
            "yanchor": "top" if y else "bottom", "xshift": -8 if x else 8 + behind_x,
            "yshift": -6 if y else 6 + behind_y, "font": {"size": letters},
        })  # fmt: skip
    return Ground([], notes)


def _behind(axis: Axis, cuts: Sequence[float | None], pixels: int, needed: float | int) -> float:
    """How far a name must move to stand behind a cut before which it has no room; 0 = it has."""
    places = [pixels * axis.share(cut) for cut in cuts if cut is not None]
    narrow = [place for place in places if 0 <= place < needed]
    return float(max(narrow, default=0.0))
