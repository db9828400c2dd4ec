"""Does a run give the stored numbers again? Two results as JSON, compared leaf by leaf."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from lib.ablation.results import Key, Record

CLOCKS = frozenset({"seconds"})
"""Keys that hold wall times, which no two runs share."""
NAMED = 20


class Replay(NamedTuple):
    """What a second run of a stored request gave."""

    agrees: bool
    """Every number, token and latent is the same, bit for bit; wall times do not count."""
    differences: tuple[str, ...]
    """Where they differ, as ``clamped.kl: 0.41 -> 0.42``; the first ``NAMED``."""
    count: int
    """How many differ in all."""
    largest: float
    """Largest absolute difference between two finite numbers; 0 when none differ."""
    changed: tuple[str, ...]
    """What is not as it was when the result was stored: the code, the live bundle, the device."""

    @property
    def words(self) -> str:
        since = (
            f" Since it was stored, {' and '.join(self.changed)} changed." if self.changed else ""
        )
        if self.agrees:
            return f"The new run agrees with the stored result bit for bit.{since}"
        return (
            f"The new run differs from the stored result in {self.count} places, by at most "
            f"{self.largest:.3g}; first: {self.differences[0]}.{since}"
        )


def compare(record: Record, result: dict[str, Any], key: Key) -> Replay:
    """A new result against the stored one.

    Args:
        result: the new one, as JSON.
        key: of the new run, for what has changed since.
    """
    found = list(_differences(record.result, result, ""))
    changed = [
        what
        for what, old, new in (
            ("the code or a library", record.key.code, key.code),
            ("the live bundle", record.key.stamp, key.stamp),
            ("the device", record.result.get("device"), result.get("device")),
        )
        if old != new
    ]
    return Replay(
        agrees=not found,
        differences=tuple(f"{where}: {old} -> {new}" for where, old, new in found[:NAMED]),
        count=len(found),
        largest=max((_distance(old, new) for _, old, new in found), default=0.0),
        changed=tuple(changed),
    )


def _differences(a: Any, b: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if key not in CLOCKS:
                yield from _differences(a.get(key), b.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b, strict=True)):
            yield from _differences(*pair, f"{where}[{i}]")
    elif json.dumps(a) != json.dumps(b):  # tells 0.0 from -0.0, and NaN equals itself
        yield where, a, b


def _distance(a: Any, b: Any) -> float:
    if not all(isinstance(v, int | float) for v in (a, b)):
        return 0.0
    gap = abs(a - b)
    return float(gap) if gap < float("inf") else 0.0
