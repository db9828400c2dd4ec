"""One device's worker: its process, the run it works on, and how long that will still take."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lib.ablation.jobs import Run
from lib.ablation.places import place
from lib.ablation.process import WorkerProcess
from lib.ablation.timings import Estimate, Timings

DEVICES = "INSIDEOUT_DEVICES"


def devices_asked() -> tuple[str | None, ...]:
    """Places that the environment names, one worker each; (None,) = one, that chooses."""
    named = [part.strip() for part in os.environ.get(DEVICES, "").split(",")]
    return tuple(part for part in named if part) or (None,)


class Lane:
    """At most one process and one run at a time; the client's lock is held in every method."""

    def __init__(
        self,
        device: str | None,
        command: Sequence[str],
        heard: Callable[["Lane", dict[str, Any]], None],
        ended: Callable[["Lane", WorkerProcess, str], None],
        late: Callable[["Lane", Run], None],
    ) -> None:
        self.device = device
        """As ``places.place`` reads it; None = the worker chooses."""
        self.loaded: tuple[str, ...] = ()
        """Experiments in the worker's memory, as it last said."""
        self.process: WorkerProcess | None = None
        self.run: Run | None = None
        self._command = (*command, *place(device).options)
        self._heard, self._ended, self._late = heard, ended, late
        self._timer: threading.Timer | None = None
        self._ends: float | None = None
        """Monotonic; when a cancelled run that goes on is killed."""

    def start(self, run: Run) -> None:
        """Hand a run to the worker, which is started if there is none.

        Raises:
            OSError: it cannot be started.
        """
        self.run = run
        run.phase = "starting" if self.process is None else "running"
        run.stage = "loading the model"
        run.device = self.device or ""
        run.was_loaded = run.request.experiment_id in self.loaded
        run.started = time.monotonic()
        if self.process is None:
            self.process = WorkerProcess(
                lambda message: self._heard(self, message),
                lambda process, how: self._ended(self, process, how),
                self._command,
            )
        asked = {"kind": run.key.kind, "request": run.request.to_json()}
        self.process.tell({"op": "run", "ticket": run.id, **asked})
        self.watch(run.timeout)

    def hear(self, message: dict[str, Any]) -> None:
        """Take what the worker says of the current run."""
        assert self.run is not None
        self.loaded = tuple(message.get("loaded", self.loaded))
        self.run.hear(message)

    def tell_to_stop(self, grace: float) -> None:
        assert self.run is not None
        self.run.cancelling = True
        if self.process is not None:
            self.process.tell({"op": "cancel", "ticket": self.run.id})
        self._ends = time.monotonic() + grace
        self.watch(grace)

    @property
    def grace_left(self) -> float | None:
        """Seconds that a cancelled run still has to stop by itself; None without one."""
        if self.run is None or not self.run.cancelling or self._ends is None:
            return None
        return max(0.0, self._ends - time.monotonic())

    def watch(self, seconds: float) -> None:
        """Call ``late`` then, if this run is still here."""
        self.unwatch()
        self._timer = threading.Timer(seconds, self._late, args=(self, self.run))
        self._timer.daemon = True
        self._timer.start()

    def free(self) -> None:
        """The run is over, however it ended."""
        self.unwatch()
        self.run = None

    def drop(self) -> WorkerProcess | None:
        """Forget the process, whose end then concerns nobody; the next run starts another."""
        process, self.process, self.loaded = self.process, None, ()
        return process

    def remaining(self, timings: Timings) -> Estimate | None:
        """Of the current run, in seconds; 0 without one, None when unknown."""
        run = self.run
        if run is None or run.started is None:
            return Estimate(0.0, 0.0, 1)
        if (grace := self.grace_left) is not None:
            return Estimate(0.0, grace, 1)
        if run.computing is not None:
            running = timings.running(run.request)
            left = running and running.after(time.monotonic() - run.computing)
            return run.pace if left is None else left
        both = timings.both(run.request, loaded=run.was_loaded)
        return both and both.after(time.monotonic() - run.started)

    def unwatch(self) -> None:
        """No time limit any more."""
        if self._timer is not None:
            self._timer.cancel()


def best_for(run: Run, idle: Iterable[Lane]) -> Lane:
    """The lane that has the experiment loaded; else the one with the least in memory."""
    experiment = run.request.experiment_id
    return min(idle, key=lambda lane: (experiment not in lane.loaded, len(lane.loaded)))


def wait_for(
    run: Run, queue: Sequence[Run], lanes: Sequence[Lane], timings: Timings
) -> Estimate | None:
    """Seconds until the answer of a running or queued run; None when anything in it is unknown.

    Queued runs are laid out in order on the lane that is free first, once with the smallest and
    once with the largest times measured.
    """
    own = next((lane for lane in lanes if lane.run is run), None)
    if own is not None:
        return own.remaining(timings)
    left = [lane.remaining(timings) for lane in lanes]
    known = [estimate for estimate in left if estimate is not None]
    if len(known) < len(left) or run not in queue:
        return None
    lows, highs = [e.low for e in known], [e.high for e in known]
    runs = min(e.runs for e in known)
    loaded = {name for lane in lanes for name in lane.loaded}
    loaded |= {lane.run.request.experiment_id for lane in lanes if lane.run is not None}
    for queued in list(queue)[: list(queue).index(run) + 1]:
        need = timings.both(queued.request, loaded=queued.request.experiment_id in loaded)
        if need is None:
            return None
        loaded.add(queued.request.experiment_id)
        low, high = _add(lows, need.low), _add(highs, need.high)
        runs = min(runs, need.runs)
    return Estimate(low, high, runs)


def _add(free_at: list[float], seconds: float) -> float:
    first = free_at.index(min(free_at))
    free_at[first] += seconds
    return free_at[first]
