"""Does a run give the stored numbers again? Two results as JSON, compared leaf by leaf."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from lib.ablation.results import Record

PASSING = frozenset({"seconds", "tokens_per_second", "device"})
"""Keys that hold wall times, which no two runs share, or what ``made`` says better."""
NAMED = 20
NAMES = {
    "code": "the code",
    "bundle": "the live bundle",
    "base_model": "the base model",
    "base_weights": "the base weights",
    "adapter": "the adapter",
    "device": "the device",
    "threads": "the number of threads",
}
"""Parts of ``made`` in words; a library is named itself."""


class Replay(NamedTuple):
    """What a second run of a stored request gave."""

    agrees: bool
    """Every number, token and latent is the same, bit for bit; wall times do not count."""
    differences: tuple[str, ...]
    """Where they differ, as ``treated.kl: 0.41 -> 0.42``; the first ``NAMED``."""
    count: int
    """How many differ in all."""
    largest: float
    """Largest absolute difference between two finite numbers; 0 when none differ."""
    changed: tuple[str, ...]
    """What is not as it was when the result was stored, as ``the code`` or ``torch (2.1 -> 2.2)``."""

    @property
    def words(self) -> str:
        since = f" Changed since it was stored: {', '.join(self.changed)}." if self.changed else ""
        if self.agrees:
            return f"The new run agrees with the stored result bit for bit.{since}"
        return (
            f"The new run differs from the stored result in {self.count} places, by at most "
            f"{self.largest:.3g}; first: {self.differences[0]}.{since}"
        )


def compare(record: Record, result: dict[str, Any], made: dict[str, Any]) -> Replay:
    """A new result against the stored one.

    Args:
        result: the new one, as JSON.
        made: what made it, as ``versions.made_by`` says.
    """
    found = list(_differences(record.result, result, ""))
    return Replay(
        agrees=not found,
        differences=tuple(f"{where}: {old} -> {new}" for where, old, new in found[:NAMED]),
        count=len(found),
        largest=max((_distance(old, new) for _, old, new in found), default=0.0),
        changed=tuple(_changed(record.about.made, made)),
    )


def _changed(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    yield from (words for part, words in NAMES.items() if old.get(part) != new.get(part))
    before, after = old.get("libraries", {}), new.get("libraries", {})
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name} ({before.get(name, 'absent')} -> {after.get(name, 'absent')})"


def _differences(a: Any, b: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted((a.keys() | b.keys()) - PASSING):
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
