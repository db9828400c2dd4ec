"""The dashboard's side of the model workers: tickets for runs, the store of results, replays.

No torch here. One client serves every session of the dashboard; all methods are thread-safe.
The queue lives on this side and a worker gets one request at a time, so that a worker that dies
takes only its running request with it.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from lib.ablation import AblationError, AblationRequest, catalogue
from lib.ablation.dispatch import Dispatcher
from lib.ablation.finished import Finished
from lib.ablation.jobs import FINISHED, Phase, Progress, Run, Ticket
from lib.ablation.process import COMMAND
from lib.ablation.results import Key, ResultStore, code_version

__all__ = ["FINISHED", "AblationClient", "Phase", "Progress"]

KEPT_JOBS = 128
TIMEOUT = 900.0
"""Seconds on the worker, loading included."""
GRACE = 30.0
"""Seconds in which a worker has to stop at its next stage or batch before it is killed."""
GONE = (
    "this run is no longer in memory: run it again (what has finished is stored and answered at "
    "once)"
)


class AblationClient:
    """Submits requests to one worker process per device; each starts with its first request."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        devices: Sequence[str | None] = (None,),
        results: ResultStore | None = None,
        timeout: float = TIMEOUT,
        grace: float = GRACE,
    ) -> None:
        """``devices``: one worker each, as torch names them; None = the worker chooses."""
        self._finished = Finished(ResultStore() if results is None else results)
        self._timeout = timeout
        self._work = Dispatcher(tuple(command), devices, grace, self._finished.judge)
        self._lock = self._work.lock
        self._tickets: OrderedDict[str, Ticket] = OrderedDict()
        self._runs: OrderedDict[tuple[Key, bool], Run] = OrderedDict()
        """The latest run of each key, replays apart."""

    def submit(
        self, request: AblationRequest, *, viewer: str = "", timeout: float | None = None
    ) -> str:
        """Queue a request and return its ticket.

        A finished identical one is answered at once, from memory or from the store; one that is
        under way is joined.

        Args:
            viewer: who asks; asking again takes up what the same viewer has left detached.
            timeout: seconds on the worker, loading included; None = the client's.

        Raises:
            AblationError: the experiment has no live bundle.
        """
        key = _key(request.id, request.experiment_id)
        with self._lock:
            run = self._runs.get((key, False))
            if run is None or not (run.joinable or run.phase == "done"):
                run = self._finished.find(key, request) or Run(key, request)
            return self._admit(run, viewer, timeout)

    def replay(self, request_id: str, *, viewer: str = "", timeout: float | None = None) -> str:
        """Run a stored request anew; the finished ticket's ``replay`` says whether they agree.

        Raises:
            AblationError: nothing is stored under this id, or it cannot be run any more.
        """
        record = self.results.newest(request_id)
        if record is None:
            raise AblationError(
                f"no result of {request_id!r} in {self.results.folder}: run the request first"
            )
        try:
            request = AblationRequest.from_json(record.request)
        except (KeyError, TypeError) as problem:
            raise AblationError(
                f"{request_id!r} was asked in a way that this code does not know ({problem}); "
                "run its request from the page"
            ) from None
        key = _key(record.key.request, request.experiment_id)
        with self._lock:
            run = self._runs.get((key, True))
            if run is None or not run.joinable:
                run = Run(key, request, replays=record)
            return self._admit(run, viewer, timeout)

    def progress(self, ticket: str) -> Progress:
        """Where a ticket stands; an unknown one (the dashboard was restarted) counts as failed."""
        with self._lock:
            held = self._tickets.get(ticket)
            if held is None:
                return Progress("failed", 0, "", GONE, 0.0, None)
            if held.finished:
                return held.progress(0, None)
            remaining = self._work.wait(held.run, self._finished.times)
            return held.progress(self._work.ahead(held.run), remaining)

    def events(self, ticket: str, after: int = -1) -> list[dict[str, Any]]:
        """What the run has told beside its stages (draws, tokens), as the worker sent it.

        Args:
            after: the ``number`` of the last event already seen.
        """
        with self._lock:
            held = self._tickets.get(ticket)
            return [e for e in held.run.events if e["number"] > after] if held else []

    def cancel(self, ticket: str) -> None:
        """As ``release`` with ``cancel=True``."""
        self.release(ticket, cancel=True)

    def release(self, ticket: str, *, cancel: bool) -> None:
        """The viewer goes: the ticket is cancelled, or detached so that its run goes on.

        A run that another ticket waits for, or was detached from, is not touched. Otherwise a
        queued run is taken out; a running one stops at its next stage or batch, and its worker is
        killed when it does not within the grace time.
        """
        with self._lock:
            held = self._tickets.get(ticket)
            if held is None or held.finished:
                return
            if not cancel:
                held.detached = True
                return
            held.left = time.monotonic()
            if not held.run.wanted:
                self._work.stop(held.run)

    def close(self) -> None:
        """End the workers; queued and running requests count as cancelled."""
        with self._lock:
            processes = self._work.empty()
        for process in processes:
            process.kill()

    @property
    def results(self) -> ResultStore:
        """Where finished results are kept; its ``damaged`` names files that were skipped."""
        return self._finished.results

    @property
    def workers(self) -> list[int | None]:
        """Process id of each device's live worker; None where there is none."""
        with self._lock:
            return self._work.workers

    @property
    def worker_id(self) -> int | None:
        """Process id of the first live worker, if there is one."""
        return next((worker for worker in self.workers if worker is not None), None)

    def _admit(self, run: Run, viewer: str, timeout: float | None) -> str:
        """A ticket for a run, which is queued if it is new (lock held)."""
        run.timeout = max(run.timeout, self._timeout if timeout is None else timeout)
        run.reattach(viewer)
        ticket = Ticket(run, viewer)
        self._tickets[ticket.id] = ticket
        slot = (run.key, run.replays is not None)
        if self._runs.get(slot) is not run:
            self._runs[slot] = run
            if run.phase not in FINISHED:
                self._work.add(run)
        self._forget()
        return ticket.id

    def _forget(self) -> None:
        """Drop the oldest finished tickets and runs beyond the limit (lock held)."""
        tickets = [t for t, held in self._tickets.items() if held.finished]
        for ticket in tickets[: max(0, len(self._tickets) - KEPT_JOBS)]:
            del self._tickets[ticket]
        runs = [slot for slot, run in self._runs.items() if run.phase in FINISHED]
        for slot in runs[: max(0, len(self._runs) - KEPT_JOBS)]:
            del self._runs[slot]


def _key(request_id: str, experiment_id: str) -> Key:
    return Key(request_id, catalogue.stamp(catalogue.bundle_of(experiment_id)), code_version())
