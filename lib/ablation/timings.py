"""How long requests take, from those that have finished; nothing is guessed."""

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from lib.ablation.kinds import Request, kind_of
from lib.ablation.results import About

KEPT = 256
COMPARED = 20
"""Of the requests that are alike, the latest this many make the range."""
FREE = frozenset({"seed", "strength", "top", "order", "picked", "prompt_limit", "temperature",
                  "position", "scale_lora", "k"})  # fmt: skip
"""Fields that change the numbers but hardly the time."""
TEXTS = frozenset({"prompt", "documents", "neutral"})
"""Fields that count by their length in characters."""
TEXT_FACTOR = 2
"""Texts are alike up to this ratio of their lengths."""


class Estimate(NamedTuple):
    """Seconds, as the range of what was measured."""

    low: float
    high: float
    """Infinite where only a lower bound is known."""
    runs: int
    """Finished requests that the range stands on; the smallest number where ranges were added."""

    def then(self, other: "Estimate") -> "Estimate":
        """One after the other."""
        return Estimate(self.low + other.low, self.high + other.high, min(self.runs, other.runs))

    def after(self, elapsed: float) -> "Estimate | None":
        """What is left of it; None once it has taken longer than any of those measured."""
        if elapsed > self.high:
            return None
        return self._replace(low=max(0.0, self.low - elapsed), high=self.high - elapsed)

    @property
    def words(self) -> str:
        if math.isinf(self.high):
            return f"at least {max(1, round(self.low))} s"
        low, high = (max(1, round(seconds)) for seconds in (self.low, self.high))
        return f"about {high} s" if low == high else f"{low} to {high} s"


class Timings:
    """Seconds of finished runs, newest last."""

    def __init__(self) -> None:
        self._running: deque[tuple[_Size, float]] = deque(maxlen=KEPT)
        self._loading: deque[tuple[str, float]] = deque(maxlen=KEPT)

    def add(self, about: About) -> None:
        """Remember one run."""
        self._running.append((_size(about.key.kind, about.request), about.running))
        if about.loading is not None:
            self._loading.append((about.experiment_id, about.loading))

    def running(self, request: Request) -> Estimate | None:
        """Range of the latest runs like this one; None when there is none."""
        asked = _size(kind_of(request), request.to_json())
        return _range(seconds for known, seconds in self._running if _alike(asked, known))

    def loading(self, experiment_id: str) -> Estimate | None:
        return _range(seconds for known, seconds in self._loading if known == experiment_id)

    def both(self, request: Request, *, loaded: bool) -> Estimate | None:
        """Loading, unless the model is ``loaded``, and then running."""
        running = self.running(request)
        if loaded or running is None:
            return running
        loading = self.loading(request.experiment_id)
        return None if loading is None else loading.then(running)


class _Size(NamedTuple):
    """How much work a request is."""

    rest: str
    """Kind and fields that must be equal, lists by their length."""
    texts: dict[str, int]
    """Characters of each field of ``TEXTS``."""


def _range(seconds: Iterable[float]) -> Estimate | None:
    latest = list(seconds)[-COMPARED:]
    return Estimate(min(latest), max(latest), len(latest)) if latest else None


def _size(kind: str, request: dict[str, Any]) -> _Size:
    rest: dict[str, Any] = {}
    texts: dict[str, int] = {}
    for name, value in _fields(request):
        last = name.rpartition(".")[2]
        if last in TEXTS:
            texts[name] = len(value) if isinstance(value, str) else sum(map(len, value))
        elif last not in FREE:
            rest[name] = len(value) if isinstance(value, list | tuple) else value
    return _Size(json.dumps([kind, rest], sort_keys=True), texts)


def _fields(request: dict[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    """Fields and those of requests within it, as ``ablation.prompt``."""
    for name, value in request.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{inside}{name}.")
        else:
            yield f"{inside}{name}", value


def _alike(a: _Size, b: _Size) -> bool:
    """Whether two requests ask for the same kind and amount of work."""
    if a.rest != b.rest or a.texts.keys() != b.texts.keys():
        return False
    pairs = (sorted((a.texts[name], b.texts[name])) for name in a.texts)
    return all(long <= TEXT_FACTOR * short for short, long in pairs)
