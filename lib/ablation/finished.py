"""Answers that are there: from the store without a run, and of runs that have just ended."""

from functools import cached_property
from typing import Any

from lib.ablation.jobs import Outcome, Run
from lib.ablation.replay import compare
from lib.ablation.request import AblationRequest, AblationResult
from lib.ablation.results import Key, Record, ResultStore
from lib.ablation.timings import Timings

KNOWN_TIMES = 32
"""Stored results that the first estimates come from."""


class Finished:
    """The store of results and the times that they took."""

    def __init__(self, results: ResultStore) -> None:
        self.results = results

    @cached_property
    def times(self) -> Timings:
        """Filled from the store, so that estimates outlive a restart."""
        times = Timings()
        for record in self.results.recent(KNOWN_TIMES):
            times.add(record.request, record.running, record.loading)
        return times

    def find(self, key: Key, request: AblationRequest) -> Run | None:
        """The stored answer as a finished run; None when there is none."""
        record = self.results.get(key)
        if record is None:
            return None
        run = Run(key, request, stored=True)
        run.end("done", result=AblationResult.from_json(record.result))
        return run

    def judge(self, run: Run, answer: dict[str, Any]) -> Outcome:
        """Compare the answer of a replay, store any other."""
        try:
            result = AblationResult.from_json(answer)
        except (KeyError, TypeError, ValueError) as problem:
            return Outcome("failed", f"the worker's answer cannot be read: {problem!r}; run again")
        record = Record(run.key, run.request.to_json(), answer, *run.measured)
        self.times.add(record.request, record.running, record.loading)
        if run.replays is not None:
            run.replay = compare(run.replays, answer, run.key)
            return Outcome("done", result=result)
        try:
            self.results.put(record)
        except OSError as problem:
            run.note = f"The result could not be stored ({problem}), so a restart loses it."
        return Outcome("done", result=result)
