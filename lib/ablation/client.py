"""The dashboard's side of the model worker: a queue, tickets, and a process that is restarted.

No torch here. One client serves every session of the dashboard; all methods are thread-safe.
The queue lives here and the worker gets one request at a time, so that a worker that dies takes
only the running request with it.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, NamedTuple

from lib.ablation import AblationRequest, AblationResult, catalogue
from lib.ablation.process import COMMAND, WorkerProcess

Phase = Literal["queued", "starting", "running", "done", "failed", "cancelled"]
FINISHED: tuple[Phase, ...] = ("done", "failed", "cancelled")
KEPT_JOBS = 128
LOST = (
    "The model worker ended during this run, so its result is lost; run it again, a new worker "
    "starts by itself."
)


class Progress(NamedTuple):
    """Where one request stands."""

    phase: Phase
    ahead: int
    """Requests that run before this one."""
    stage: str
    """What the worker is doing: loading the model, base, tuned, clamped, ceiling, control."""
    message: str
    """Why it failed; empty otherwise."""
    seconds: float
    """Since it was submitted, until it finished."""
    result: AblationResult | None

    @property
    def finished(self) -> bool:
        return self.phase in FINISHED

    @property
    def words(self) -> str:
        """One line for the reader."""
        return {
            "queued": f"queued, {self.ahead} ahead",
            "starting": "starting the model worker",
            "running": self.stage if self.stage.startswith("loading") else f"running: {self.stage}",
            "done": "done",
            "failed": self.message,
            "cancelled": "cancelled",
        }[self.phase]


@dataclass
class _Job:
    ticket: str
    key: tuple[str, str]
    request: AblationRequest
    phase: Phase = "queued"
    stage: str = ""
    message: str = ""
    result: AblationResult | None = None
    submitted: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def end(self, phase: Phase, message: str = "", result: AblationResult | None = None) -> None:
        self.phase, self.message, self.result = phase, message, result
        self.ended = time.monotonic()


class AblationClient:
    """Submits requests to one worker process; the process starts with the first request."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self._lock = threading.RLock()
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._queue: deque[str] = deque()
        self._running: str | None = None
        self._process: WorkerProcess | None = None
        self._numbers = count(1)

    def submit(self, request: AblationRequest) -> str:
        """Queue a request and return its ticket; a finished identical one is answered at once.

        Raises:
            AblationError: the experiment has no live bundle.
        """
        bundle = catalogue.bundle_of(request.experiment_id)
        key = (request.id, catalogue.stamp(bundle))
        with self._lock:
            job = _Job(f"{request.id}-{next(self._numbers)}", key, request)
            known = [j for j in self._jobs.values() if j.key == key and j.phase == "done"]
            self._jobs[job.ticket] = job
            if known:
                job.end("done", result=known[-1].result)
            else:
                self._queue.append(job.ticket)
                self._next()
            self._forget()
            return job.ticket

    def progress(self, ticket: str) -> Progress:
        """Where a ticket stands; an unknown one (the dashboard was restarted) counts as failed."""
        with self._lock:
            job = self._jobs.get(ticket)
            if job is None:
                lost = "this run is no longer in memory: run it again"
                return Progress("failed", 0, "", lost, 0.0, None)
            ahead = 0
            if job.phase == "queued":
                ahead = self._queue.index(ticket) + (self._running is not None)
            ended = time.monotonic() if job.ended is None else job.ended
            return Progress(
                job.phase, ahead, job.stage, job.message, ended - job.submitted, job.result
            )

    def cancel(self, ticket: str) -> None:
        """Take a queued request out; a running one stops at its next stage."""
        with self._lock:
            job = self._jobs.get(ticket)
            if job is None or job.phase in FINISHED:
                return
            if job.phase == "queued":
                self._queue.remove(ticket)
                job.end("cancelled")
            elif self._process is not None:
                self._process.tell({"op": "cancel", "ticket": ticket})

    def close(self) -> None:
        """End the worker; queued and running requests count as cancelled."""
        with self._lock:
            for ticket in [*self._queue, *([self._running] if self._running else [])]:
                self._jobs[ticket].end("cancelled")
            self._queue.clear()
            self._running = None
            process, self._process = self._process, None
        if process is not None:
            process.kill()

    @property
    def worker_id(self) -> int | None:
        """Process id of the live worker, if there is one."""
        with self._lock:
            return self._process.id if self._process is not None else None

    def _next(self) -> None:
        """Hand the oldest queued request to the worker if it is free (lock held)."""
        if self._running is not None or not self._queue:
            return
        self._running = self._queue.popleft()
        job = self._jobs[self._running]
        job.phase = "starting" if self._process is None else "running"
        job.stage = "loading the model"
        if self._process is None:
            self._process = WorkerProcess(self._heard, self._ended, self._command)
        self._process.tell({"op": "run", "ticket": job.ticket, "request": job.request.to_json()})

    def _ended(self, process: WorkerProcess, how: str) -> None:
        with self._lock:
            if self._process is not process:
                return  # closed on purpose
            self._process = None
            if self._running is not None:
                self._jobs[self._running].end("failed", f"{LOST} It ended with {how}")
                self._running = None
            self._next()

    def _heard(self, message: dict[str, Any]) -> None:
        with self._lock:
            if message["event"] == "ready" or message["ticket"] != self._running:
                return
            job = self._jobs[message["ticket"]]
            if message["event"] == "stage":
                job.phase, job.stage = "running", message["stage"]
                return
            result = message.get("result")
            job.end(
                message["event"],
                message.get("message", ""),
                AblationResult.from_json(result) if result else None,
            )
            self._running = None
            self._next()

    def _forget(self) -> None:
        """Drop the oldest finished jobs beyond the limit."""
        finished = [t for t, job in self._jobs.items() if job.phase in FINISHED]
        for ticket in finished[: max(0, len(self._jobs) - KEPT_JOBS)]:
            del self._jobs[ticket]
