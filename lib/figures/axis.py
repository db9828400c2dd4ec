"""One axis of a scatter: range, scale and the way to pixels, known before anything is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Axis:
    """Title with unit, and the values that its range must hold."""

    title: str
    log: bool
    low: float
    high: float

    @classmethod
    def over(
        cls,
        title: str,
        values: Sequence[float],
        *,
        start: float | None = None,
        held: Sequence[float] = (),
    ) -> "Axis":
        """Logarithmic when positive values span a factor of 5 or more; a little room at both ends.

        Args:
            values: everything that must be seen; nulls and NaNs left out by the caller.
            start: where a linear axis begins when all values lie above it (1 for a ratio).
            held: must be seen too, but does not make the axis logarithmic; on one that is, what is
                not positive is left out.
        """
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        log = low > 0 and high / low >= 5
        more = [v for v in held if v > 0 or not log]
        low, high = min([low, *more]), max([high, *more])
        if log:
            room = (high / low) ** 0.12
            return cls(title, True, low / room, high * room)
        room = (high - low or abs(high) or 1.0) * 0.15
        low = low - room if start is None or low < start else start
        return cls(title, False, low, high + room)

    def roomier(self) -> "Axis":
        """With room for a name to the right of the largest value."""
        if self.log:
            return replace(self, high=self.high * (self.high / self.low) ** 0.25)
        return replace(self, high=self.high + 0.25 * (self.high - self.low))

    def share(self, value: float) -> float:
        """Place along the axis: 0 at its low end, 1 at its high end."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        if value <= 0:
            return 0.0
        return math.log(value / self.low) / math.log(self.high / self.low)

    @property
    def ticks(self) -> list[float]:
        """Of a logarithmic axis: 1, 2 and 5 times powers of ten inside the range."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
        found = [m * 10.0**e for e in powers for m in (1, 2, 5)]
        return [tick for tick in found if self.low <= tick <= self.high]

    @property
    def plotly(self) -> dict[str, object]:
        """What plotly wants to know of this axis."""
        if not self.log:
            return {"title": self.title, "type": "linear", "range": [self.low, self.high]}
        return {
            "title": self.title,
            "type": "log",
            "range": [math.log10(self.low), math.log10(self.high)],
            "tickvals": self.ticks,
            "ticktext": [f"{tick:g}" for tick in self.ticks],
        }
