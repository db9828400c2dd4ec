"""How long requests take, from those that have finished; nothing is guessed."""

import json
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from lib.ablation.request import AblationRequest

KEPT = 256
COMPARED = 20
"""Of the requests that are alike, the latest this many make the range."""
FREE = frozenset({"prompt", "seed", "strength", "top", "picked", "prompt_limit"})
"""Fields that change the numbers but hardly the time; the prompt counts by its length."""
PROMPT_FACTOR = 2
"""Prompts are alike up to this ratio of their lengths in characters."""


class Estimate(NamedTuple):
    """Seconds, as the range of what was measured."""

    low: float
    high: float
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
        low, high = (max(1, round(seconds)) for seconds in (self.low, self.high))
        return f"about {high} s" if low == high else f"{low} to {high} s"


class Timings:
    """Seconds of finished runs, newest last."""

    def __init__(self) -> None:
        self._running: deque[tuple[dict[str, Any], float]] = deque(maxlen=KEPT)
        self._loading: deque[tuple[str, float]] = deque(maxlen=KEPT)

    def add(self, request: dict[str, Any], running: float, loading: float | None) -> None:
        """Remember one run.

        Args:
            request: AblationRequest.to_json.
            running: seconds from the loaded model to the answer.
            loading: seconds before that, of a run that had to load its model; None = it was loaded.
        """
        self._running.append((_plain(request), running))
        if loading is not None:
            self._loading.append((request["experiment_id"], loading))

    def running(self, request: AblationRequest) -> Estimate | None:
        """Range of the latest runs like this one; None when there is none."""
        asked = _plain(request.to_json())
        return _range(seconds for known, seconds in self._running if _alike(asked, known))

    def loading(self, experiment_id: str) -> Estimate | None:
        return _range(seconds for known, seconds in self._loading if known == experiment_id)

    def both(self, request: AblationRequest, *, loaded: bool) -> Estimate | None:
        """Loading, unless the model is ``loaded``, and then running."""
        running = self.running(request)
        if loaded or running is None:
            return running
        loading = self.loading(request.experiment_id)
        return None if loading is None else loading.then(running)


def _range(seconds: Iterable[float]) -> Estimate | None:
    latest = list(seconds)[-COMPARED:]
    return Estimate(min(latest), max(latest), len(latest)) if latest else None


def _plain(request: dict[str, Any]) -> dict[str, Any]:
    """As read from a file: lists for tuples, so that both compare."""
    plain: dict[str, Any] = json.loads(json.dumps(request))
    return plain


def _alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two requests ask for the same kind and amount of work."""
    if a.keys() != b.keys() or any(a[k] != b[k] for k in a.keys() - FREE):
        return False
    short, long = sorted((len(a["prompt"]), len(b["prompt"])))
    return long <= PROMPT_FACTOR * short
