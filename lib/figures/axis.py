"""One axis of a scatter: range, scale and the way to pixels, known before anything is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Title with unit, and the values that its range must hold."""

    title: str
    log: bool
    low: float
    high: float

    @classmethod
    def over(cls, title: str, values: Sequence[float], *, start: float | None = None) -> "Axis":
        """Logarithmic when positive values span a factor of 5 or more; a little room at both ends.

        Args:
            values: everything that must be seen; nulls and NaNs left out by the caller.
            start: where a linear axis begins when all values lie above it (1 for a ratio).
        """
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if low > 0 and high / low >= 5:
            room = (high / low) ** 0.12
            return cls(title, True, low / room, high * room)
        room = (high - low or abs(high) or 1.0) * 0.15
        low = low - room if start is None or low < start else start
        return cls(title, False, low, high + room)

    def share(self, value: float) -> float:
        """Place along the axis: 0 at its low end, 1 at its high end."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        if value <= 0:
            return 0.0
        return math.log(value / self.low) / math.log(self.high / self.low)

    @property
    def plotly(self) -> dict[str, object]:
        ends = [math.log10(e) if self.log else e for e in (self.low, self.high)]
        ticks = {"dtick": "D2"} if self.log and self.high / self.low < 30 else {}
        return {
            "title": self.title, "type": "log" if self.log else "linear", "range": ends, **ticks,
            "minexponent": 5, "exponentformat": "none",
        }  # fmt: skip
