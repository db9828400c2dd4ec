"""Answers that are there: from the store without a run, and of runs that have just ended."""

import time
from functools import cached_property
from typing import Any

from lib.ablation.jobs import Run
from lib.ablation.kinds import Request, result_from
from lib.ablation.progress import Outcome
from lib.ablation.replay import compare
from lib.ablation.results import About, Key, Record, ResultStore
from lib.ablation.timings import Timings

KNOWN_TIMES = 64
"""Stored results that the first estimates come from."""


class Finished:
    """The store of results and the times that they took."""

    def __init__(self, results: ResultStore) -> None:
        self.results = results

    @cached_property
    def times(self) -> Timings:
        """Filled from the store, so that estimates outlive a restart."""
        times = Timings()
        for about in self.results.recent(KNOWN_TIMES):
            times.add(about)
        return times

    def at(self, key: Key, places: tuple[str, ...], prefer: str = "") -> Key:
        """The key at one of these kinds of place: the preferred one, else one that has a result."""
        keys = [key._replace(place=here) for here in places]
        wanted = [k for k in keys if k.place == prefer]
        return next(iter([*wanted, *filter(self.results.has, keys), *keys]))

    def find(self, key: Key, request: Request) -> Run:
        """A finished run with the stored answer; without one, a new run to be queued."""
        record = self.results.get(key)
        run = Run(key, request)
        if record is None:
            run.note = self.results.damage(key)
            return run
        run.stored, run.made, run.device = True, record.about.made, _device(record.about.made)
        run.end("done", result=result_from(key.kind, record.result))
        return run

    def judge(self, run: Run, said: dict[str, Any]) -> Outcome:
        """Compare the answer of a replay, store any other.

        Args:
            said: the worker's ``done``: the result as JSON, and ``versions.made_by`` of it.
        """
        kind = run.key.kind
        try:
            answer, made = said["result"], said["made"]
            result = result_from(kind, answer)
            # The worker's word counts: the bundle may have been published anew since the request.
            place = made.get("place", run.key.place)
            key = Key(kind, run.key.request, made["bundle"], made["code"], place)
        except (KeyError, TypeError, ValueError) as problem:
            return Outcome("failed", f"the worker's answer cannot be read: {problem!r}; run again")
        running, loading = run.measured
        asked = run.request
        at = time.time()
        about = About(key, asked.experiment_id, asked.to_json(), made, running, loading, at)
        run.made, run.device = made, _device(made)
        self.times.add(about)
        if run.replays is not None:
            run.replay = compare(run.replays, answer, made)
            return Outcome("done", result=result)
        try:
            self.results.put(Record(about, answer))
        except OSError as problem:
            run.note = f"The result could not be stored ({problem}), so a restart loses it."
        return Outcome("done", result=result)


def _device(made: dict[str, Any]) -> str:
    return str(made.get("device", ""))
