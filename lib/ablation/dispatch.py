"""Which run goes to which worker, when it must stop, and what its end means for the others."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lib.ablation.jobs import Run
from lib.ablation.lane import Lane, best_for, wait_for
from lib.ablation.process import WorkerProcess
from lib.ablation.progress import FINISHED, Outcome
from lib.ablation.timings import Estimate, Timings

LOST = (
    "The model worker ended during this run, so its result is lost; run it again, a new worker "
    "starts by itself."
)


class Dispatcher:
    """A queue in front of one lane per device. Every public method is called with ``lock`` held."""

    def __init__(
        self,
        command: Sequence[str],
        devices: Sequence[str | None],
        grace: float,
        judge: Callable[[Run, dict[str, Any]], Outcome],
    ) -> None:
        """``judge``: called without the lock with each answer, and says how its run ended."""
        self.lock = threading.RLock()
        self._grace, self._judge = grace, judge
        self._queue: deque[Run] = deque()
        self._lanes = [
            Lane(device, command, self._heard, self._ended, self._late) for device in devices
        ]

    def add(self, run: Run) -> None:
        self._queue.append(run)
        self._next()

    def stop(self, run: Run) -> None:
        """Take a queued run out; a running one stops at its next block or score."""
        if run in self._queue:
            self._queue.remove(run)
            run.end("cancelled")
        elif (lane := self._lane_of(run)) is not None and not run.cancelling:
            lane.tell_to_stop(self._grace)

    def ahead(self, run: Run) -> int:
        """Requests that run before this one."""
        if run not in self._queue:
            return 0
        return self._queue.index(run) + sum(lane.run is not None for lane in self._lanes)

    def stopping(self, run: Run) -> float | None:
        """Seconds within which a cancelled run ends that the first of the queue waits for; None for
        the others, or where none is cancelled."""
        if not self._queue or self._queue[0] is not run:
            return None
        left = [lane.grace_left for lane in self._lanes]
        return min((seconds for seconds in left if seconds is not None), default=None)

    def wait(self, run: Run, timings: Timings) -> Estimate | None:
        """Seconds until the answer; None when unknown."""
        return wait_for(run, self._queue, self._lanes, timings)

    def empty(self) -> list[WorkerProcess]:
        """Cancel everything; the processes are the caller's to end, without the lock."""
        lanes = [lane for lane in self._lanes if lane.run is not None]
        for run in [*self._queue, *(lane.run for lane in lanes if lane.run is not None)]:
            run.end("cancelled")
        self._queue.clear()
        for lane in lanes:
            lane.free()
        return [process for lane in self._lanes if (process := lane.drop()) is not None]

    @property
    def waiting(self) -> int:
        """Queued runs."""
        return len(self._queue)

    @property
    def workers(self) -> list[int | None]:
        return [lane.process.id if lane.process else None for lane in self._lanes]

    def _lane_of(self, run: Run) -> Lane | None:
        return next((lane for lane in self._lanes if lane.run is run), None)

    def _next(self) -> None:
        """Hand the oldest queued runs to workers that are free."""
        while self._queue and (idle := [lane for lane in self._lanes if lane.run is None]):
            run = self._queue.popleft()
            lane = best_for(run, idle)
            try:
                lane.start(run)
            except OSError as problem:
                told = f"The model worker cannot be started ({problem}); free memory and run again"
                self._finish(lane, Outcome("failed", told))

    def _finish(self, lane: Lane, outcome: Outcome) -> None:
        run = lane.run
        assert run is not None
        if run.overdue and outcome.phase != "done":
            outcome = Outcome("failed", _too_long(run))
        run.end(*outcome)
        lane.free()

    def _heard(self, lane: Lane, message: dict[str, Any]) -> None:
        with self.lock:
            run = lane.run
            if run is None or message.get("ticket") != run.id:
                return  # ready, or the end of a run that is over
            if message["event"] not in FINISHED:
                lane.hear(message)
                return
            lane.unwatch()  # the answer is here: storing it costs no worker its life
        if message["event"] == "done":
            outcome = self._judge(run, message)
        else:
            outcome = Outcome(message["event"], message.get("message", ""))
        with self.lock:
            if lane.run is run:
                if message.get("ending"):
                    lane.drop()  # its device is beyond repair, so it ends by itself
                self._finish(lane, outcome)
                self._next()

    def _ended(self, lane: Lane, process: WorkerProcess, how: str) -> None:
        with self.lock:
            if lane.process is not process:
                return  # closed on purpose
            lane.drop()
            if lane.run is not None:
                self._finish(lane, Outcome("failed", f"{LOST} It ended with {how}"))
            self._next()

    def _late(self, lane: Lane, run: Run) -> None:
        """Time is up: first the run is told to stop, then its worker is killed."""
        with self.lock:
            if lane.run is not run or run.started is None or lane.process is None:
                return
            left = run.started + run.timeout - time.monotonic()
            if not run.cancelling and left > 0:  # someone who joined has allowed more
                lane.watch(left)
                return
            if not run.cancelling:
                run.overdue = True
                lane.tell_to_stop(self._grace)
                return
            process = lane.process
        process.kill()


def _too_long(run: Run) -> str:
    return (
        f"This run took longer than the {run.timeout:.3g} s it was allowed and was stopped "
        f"({run.stage}); shorten the prompt, choose fewer depths or draws, or allow more time"
    )
