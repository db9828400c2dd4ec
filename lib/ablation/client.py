"""The dashboard's side of the model workers: tickets for runs, the store of results, replays.

No torch here. One client serves every session of the dashboard; all methods are thread-safe.
The queue lives on this side and a worker gets one request at a time, so that a worker that dies
takes only its running request with it.
"""

from collections.abc import Sequence
from typing import Any

from lib.ablation import catalogue
from lib.ablation.dispatch import Dispatcher
from lib.ablation.finished import Finished
from lib.ablation.jobs import IfGone, Run
from lib.ablation.kinds import Request, kind_of, request_from
from lib.ablation.lane import devices_asked
from lib.ablation.limits import AblationError
from lib.ablation.places import kinds
from lib.ablation.process import COMMAND
from lib.ablation.progress import FINISHED, Phase, Progress
from lib.ablation.results import Key, ResultStore
from lib.ablation.tickets import Ticket, Tickets
from lib.ablation.versions import bundle_hash, code_version

__all__ = ["FINISHED", "AblationClient", "IfGone", "Phase", "Progress"]

TIMEOUT = 900.0
"""Seconds on the worker, loading included."""
GRACE = 30.0
"""Seconds in which a worker has to stop at its next block or score before it is killed."""
ABSENT = 90.0
"""Seconds without a question after which a browser is closed; a hidden page asks once a minute."""
WAITING = 200
"""Queued runs; whoever comes then is told to come later."""
GONE = "this run is no longer in memory: run it again (a finished one is stored, answered at once)"


class AblationClient:
    """Submits requests to one worker process per device, started by its first request."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        devices: Sequence[str | None] | None = None,
        results: ResultStore | None = None,
        timeout: float = TIMEOUT,
        grace: float = GRACE,
        absent: float = ABSENT,
    ) -> None:
        """``devices``: one worker each, as ``places.place`` reads them; without, as the environment
        says (``INSIDEOUT_DEVICES=cuda:0,cuda:1/bf16``), else one that chooses for itself (None)."""
        self._finished = Finished(ResultStore() if results is None else results)
        self._timeout = timeout
        self._asked = tuple(devices_asked() if devices is None else devices)
        self._work = Dispatcher(tuple(command), self._asked, grace, self._finished.judge)
        self._lock = self._work.lock
        self._tickets = Tickets(self._lock, self._work.stop, absent)

    def submit(
        self,
        request: Request,
        *,
        viewer: str = "",
        timeout: float | None = None,
        if_gone: IfGone = "detach",
    ) -> str:
        """Queue a request of any kind and return its ticket.

        A finished identical one is answered at once, from memory or from the store; one that is
        under way is joined.

        Args:
            viewer: who asks; asking again takes up what the same viewer has left detached.
            timeout: seconds on the worker, loading included; None = the client's.
            if_gone: what becomes of the run when the browser is closed: ``cancel``, or ``detach``,
                which lets it go on and keeps its answer.

        Raises:
            AblationError: no live bundle, no such kind, a time limit of nothing, or a full queue.
        """
        key = self._key(kind_of(request), request)
        with self._lock:
            run = self._tickets.latest(key)
            if run is None or not (run.joinable or run.phase == "done"):
                run = self._finished.find(key, request)
            return self._admit(run, viewer, timeout, if_gone)

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
        kind = record.about.key.kind
        request = request_from(kind, record.about.request)
        key = self._key(kind, request, record.about.key.place)
        with self._lock:
            run = self._tickets.latest(key, replays=True)
            if run is None or not run.joinable:
                run = Run(key, request, replays=record)
            return self._admit(run, viewer, timeout, "detach")

    def progress(self, ticket: str) -> Progress:
        """Where a ticket stands; an unknown one (the dashboard was restarted) counts as failed."""
        with self._lock:
            held = self._tickets.seen(ticket)
            if held is None:
                return Progress("failed", 0, "", GONE, 0.0, None)
            if held.finished:
                return held.progress(0, None)
            remaining = self._work.wait(held.run, self._finished.times)
            stopping = self._work.stopping(held.run)
            return held.progress(self._work.ahead(held.run), remaining, stopping)

    def events(self, ticket: str, after: int = -1) -> list[dict[str, Any]]:
        """What the run has told beside its stages (conditions, draws, tokens), as it was sent.

        Args:
            after: the ``number`` of the last event already seen.
        """
        with self._lock:
            held = self._tickets.seen(ticket)
            return held.run.events_after(after) if held else []

    def choose(self, ticket: str, if_gone: IfGone) -> None:
        """Change what becomes of a run when its viewer closes the browser."""
        with self._lock:
            held = self._tickets.seen(ticket)
            if held is not None:
                held.if_gone = if_gone

    def cancel(self, ticket: str) -> None:
        """As ``release`` with ``cancel=True``."""
        self.release(ticket, cancel=True)

    def release(self, ticket: str, *, cancel: bool) -> None:
        """The viewer goes: the ticket is cancelled, or detached so that its run goes on.

        A run that another ticket waits for, or was detached from, is not touched. Otherwise a
        queued run is taken out; a running one stops at its next block or score, and its worker is
        killed when it does not within the grace time. What it has told stays (``events``).
        """
        with self._lock:
            held = self._tickets.seen(ticket)
            if held is not None and not held.finished:
                self._tickets.leave(held, "cancel" if cancel else "detach")

    def close(self) -> None:
        """End the workers; queued and running requests count as cancelled."""
        with self._lock:
            self._tickets.close()
            processes = self._work.empty()
        for process in processes:
            process.kill()

    @property
    def results(self) -> ResultStore:
        """Where finished results are kept; its ``damaged`` names files that were ignored."""
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

    def _admit(self, run: Run, viewer: str, timeout: float | None, if_gone: IfGone) -> str:
        """A ticket for a run, which is queued if it is new (lock held)."""
        allowed = self._timeout if timeout is None else timeout
        if not 0 < allowed < float("inf"):
            raise AblationError(f"a time limit of {allowed} s: give seconds above 0")
        new = not run.tickets and run.phase not in FINISHED
        if new and self._work.waiting >= WAITING:
            raise AblationError(f"{WAITING} requests wait already: come back in a while")
        run.timeout = max(run.timeout, allowed)
        since = min(run.reattach(viewer), run.since)
        claim = Ticket(run, viewer, if_gone)
        claim.submitted = min(claim.submitted, since)
        ticket = self._tickets.add(claim)
        if new:
            self._work.add(run)
        return ticket

    def _key(self, kind: str, request: Request, place: str = "") -> Key:
        bundle = bundle_hash(catalogue.bundle_of(request.experiment_id))
        key = Key(kind, request.id, bundle, code_version())
        return self._finished.at(key, kinds(self._asked), place)
