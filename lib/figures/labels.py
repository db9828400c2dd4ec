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
_SPACE = 3.5  # between a marker and its text: the no-break space before it
_ROUNDS = 3
_CLEAR = 3.0  # around a marker: a text that nearly touches it is read as its name


class Mark(NamedTuple):
    """A marker, in pixels."""

    x: float
    y: float
    size: float = 15.0
    """Its diameter."""

    @property
    def reach(self) -> float:
        """From its centre to its text, as plotly lays it out."""
        return self.size / 1.6 + 1

    @property
    def box(self) -> Box:
        """What no text may touch."""
        r = self.size / 2 + _CLEAR
        return Box(self.x - r, self.y - r, self.x + r, self.y + r)


class Spot(NamedTuple):
    """Where a text is written."""

    mark: int
    """At which marker."""
    position: str
    """One of ``POSITIONS``."""
    hidden: float
    """Square pixels of it that lie on markers, texts or obstacles, or outside the frame."""


def text_box(mark: Mark, text: str, position: str) -> Box:
    """The rectangle that ``text`` takes beside a marker, in pixels."""
    width, (x, y), reach = _CHARACTER * len(text), mark[:2], mark.reach
    vertical, horizontal = position.split()
    side = reach + _SPACE
    left = {"left": x - side - width, "center": x - width / 2, "right": x + side}[horizontal]
    bottom = {"top": y + reach - 2, "middle": y - _HEIGHT / 2, "bottom": y - reach - _HEIGHT + 2}
    return Box(left, bottom[vertical], left + width, bottom[vertical] + _HEIGHT)


def place(
    texts: Sequence[tuple[str, Sequence[int]]],
    marks: Sequence[Mark],
    frame: Box,
    obstacles: Sequence[Box] = (),
) -> list[Spot]:
    """A marker and a side of it for each text: those with the least overlap.

    One text at a time, then each again with all others in place; the best of as many attempts as there
    are texts, each of which lets another text choose first. Markers count three times what else is
    covered, and leaving the frame ten times.

    Args:
        texts: each with the markers, by their place in ``marks``, at which it may stand.
    """
    options = [_options(text, own, marks, frame, obstacles) for text, own in texts]
    numbers = list(range(len(texts)))
    attempts = [_settled(options, numbers[at:] + numbers[:at]) for at in numbers]
    return min(attempts, key=lambda spots: sum(spot.hidden for spot in spots), default=[])


def _options(
    text: str, own: Sequence[int], marks: Sequence[Mark], frame: Box, obstacles: Sequence[Box]
) -> list[tuple[Spot, Box]]:
    """Where a text may stand, with what it hides of all but other texts."""
    found = []
    for at in own:
        for side in POSITIONS:
            box = text_box(marks[at], text, side)
            covered = sum(box.overlap(mark.box) for i, mark in enumerate(marks) if i != at)
            cost = 3 * covered + sum(map(box.overlap, obstacles)) + 10 * _outside(box, frame)
            found.append((Spot(at, side, cost), box))
    return found


def _settled(options: Sequence[Sequence[tuple[Spot, Box]]], order: Sequence[int]) -> list[Spot]:
    chosen: dict[int, Spot] = {}
    boxes: dict[int, Box] = {}
    for number in [*order] * _ROUNDS:
        others = [box for other, box in boxes.items() if other != number]
        hidden = [spot.hidden + sum(map(box.overlap, others)) for spot, box in options[number]]
        best = min(range(len(hidden)), key=hidden.__getitem__)
        spot, boxes[number] = options[number][best]
        chosen[number] = spot._replace(hidden=hidden[best])
    return [chosen[number] for number in range(len(options))]


def _outside(box: Box, frame: Box) -> float:
    area = (box.right - box.left) * (box.top - box.bottom)
    return area - box.overlap(frame)
