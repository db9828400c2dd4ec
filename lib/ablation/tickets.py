"""Who waits for what: one ticket per viewer and run, and what happens when a viewer is gone."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from lib.ablation.jobs import IfGone, Run
from lib.ablation.progress import FINISHED, Progress
from lib.ablation.results import Key
from lib.ablation.timings import Estimate

KEPT = 128
"""Finished tickets, and finished runs, that stay in memory."""


@dataclass(eq=False)
class Ticket:
    """One viewer's claim on a run."""

    run: Run
    viewer: str
    """Who asked; empty = nobody in particular."""
    if_gone: IfGone = "detach"
    """What becomes of it when nobody has asked for its progress for a while."""
    id: str = ""
    submitted: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    """Monotonic; when someone last asked for its progress or its events."""
    detached: bool = False
    """The viewer is gone, and wants the run to go on."""
    replaced: bool = False
    """The viewer came back with another ticket, which now speaks for both."""
    left: float | None = None
    """Monotonic; when the viewer cancelled."""

    def __post_init__(self) -> None:
        self.id = f"{self.run.request.id}-{secrets.token_hex(4)}"
        self.run.tickets.append(self)

    @property
    def wants(self) -> bool:
        """Whether the run goes on for this ticket's sake."""
        return self.left is None and not self.replaced

    @property
    def finished(self) -> bool:
        return self.left is not None or self.run.phase in FINISHED

    def progress(
        self, ahead: int, remaining: Estimate | None, stopping: float | None = None
    ) -> Progress:
        run = self.run
        if self.left is not None:
            return Progress("cancelled", 0, run.stage, "", self.left - self.submitted, None)
        until = time.monotonic() if run.ended is None else max(run.ended, self.submitted)
        return run.progress(until - self.submitted, ahead, remaining, stopping)


class Tickets:
    """Tickets and the latest run of each key. Every public method is called with the lock held."""

    def __init__(self, lock: threading.RLock, stop: Callable[[Run], None], absent: float) -> None:
        """
        Args:
            stop: ends a run that nobody wants any more.
            absent: seconds without a question after which a viewer counts as gone.
        """
        self._lock, self._stop, self._absent = lock, stop, absent
        self._tickets: OrderedDict[str, Ticket] = OrderedDict()
        self._runs: OrderedDict[tuple[Key, bool], Run] = OrderedDict()
        self._timer: threading.Timer | None = None

    def latest(self, key: Key, *, replays: bool = False) -> Run | None:
        """The newest run of this key that is still in memory; replays are apart."""
        return self._runs.get((key, replays))

    def add(self, ticket: Ticket) -> str:
        run = ticket.run
        self._tickets[ticket.id] = ticket
        slot = (run.key, run.replays is not None)
        if self._runs.get(slot) is not run:
            self._runs.pop(slot, None)  # so that the new one is the youngest
            self._runs[slot] = run
        self._forget()
        self._watch()
        return ticket.id

    def seen(self, ticket_id: str) -> Ticket | None:
        """A ticket whose viewer asks for it now."""
        ticket = self._tickets.get(ticket_id)
        if ticket is not None:
            ticket.seen = time.monotonic()
        return ticket

    def leave(self, ticket: Ticket, how: IfGone) -> None:
        """Cancel or detach one; its run stops when nobody else wants it."""
        if how == "detach":
            ticket.detached, ticket.if_gone = True, "detach"
            return
        ticket.left = time.monotonic()
        if not any(other.wants for other in ticket.run.tickets):
            self._stop(ticket.run)

    def close(self) -> None:
        """Look for absent viewers no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        """Look for absent viewers again in a while, as long as there is anything to end."""
        if self._timer is None and any(not t.finished for t in self._tickets.values()):
            self._timer = threading.Timer(self._absent / 4, self._sweep)
            self._timer.daemon = True
            self._timer.start()

    def _sweep(self) -> None:
        with self._lock:
            if self._timer is None:
                return  # closed meanwhile
            self._timer = None
            before = time.monotonic() - self._absent
            for ticket in list(self._tickets.values()):
                if ticket.seen < before and not ticket.finished and not ticket.detached:
                    self.leave(ticket, ticket.if_gone)
            self._watch()

    def _forget(self) -> None:
        """Drop the oldest finished tickets and runs beyond the limit."""
        tickets = [t for t, held in self._tickets.items() if held.finished]
        for ticket in tickets[: max(0, len(tickets) - KEPT)]:
            del self._tickets[ticket]
        runs = [slot for slot, run in self._runs.items() if run.phase in FINISHED]
        for slot in runs[: max(0, len(runs) - KEPT)]:
            del self._runs[slot]
