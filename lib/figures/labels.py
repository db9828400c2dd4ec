"""Where to write a point's name so that names, points and lines stay apart."""

from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle in pixels; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """Shared area in square pixels; 0 for rectangles that only touch."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)


POSITIONS = (
    "middle right", "middle left", "top center", "bottom center",
    "top right", "bottom right", "top left", "bottom left",
)  # fmt: skip
"""Plotly's names, in order of preference."""
_CHARACTER = 6.6  # mean width of a character at 12 px
_HEIGHT = 15.0
_REACH = 10.0  # from the centre of a marker to its text


def text_box(x: float, y: float, text: str, position: str) -> Box:
    """The rectangle that ``text`` takes beside a marker at (x, y), all in pixels."""
    width = _CHARACTER * len(text)
    vertical, horizontal = position.split()
    left = {"left": x - _REACH - width, "center": x - width / 2, "right": x + _REACH}[horizontal]
    bottom = {"top": y + _REACH - 2, "middle": y - _HEIGHT / 2, "bottom": y - _REACH - _HEIGHT + 2}
    return Box(left, bottom[vertical], left + width, bottom[vertical] + _HEIGHT)


def place(
    centres: Sequence[tuple[float, float]],
    texts: Sequence[str],
    frame: Box,
    obstacles: Sequence[Box] = (),
) -> list[str]:
    """One of ``POSITIONS`` for each text: the first with the least overlap, one text at a time.

    Leaving the frame costs more than covering anything in it. Coordinates are pixels.
    """
    marks = [Box(x - 8, y - 8, x + 8, y + 8) for x, y in centres]
    taken: list[Box] = [*obstacles]
    chosen = []
    for i, ((x, y), text) in enumerate(zip(centres, texts, strict=True)):
        others = [*taken, *marks[:i], *marks[i + 1 :]]
        boxes = {position: text_box(x, y, text, position) for position in POSITIONS}
        costs = {
            position: sum(box.overlap(other) for other in others) + 10 * _outside(box, frame)
            for position, box in boxes.items()
        }
        best = min(POSITIONS, key=lambda position, costs=costs: costs[position])
        chosen.append(best)
        taken.append(boxes[best])
    return chosen


def _outside(box: Box, frame: Box) -> float:
    area = (box.right - box.left) * (box.top - box.bottom)
    return area - box.overlap(frame)
