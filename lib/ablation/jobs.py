"""What the queue keeps of each request: the run, the tickets that wait for it, and its progress."""

import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from lib.ablation.replay import Replay
from lib.ablation.request import AblationRequest, AblationResult
from lib.ablation.results import Key, Record
from lib.ablation.timings import Estimate

Phase = Literal["queued", "starting", "running", "done", "failed", "cancelled"]
FINISHED: tuple[Phase, ...] = ("done", "failed", "cancelled")
KEPT_EVENTS = 20_000
"""Of one run; the oldest go first. The result at the end holds everything anyway."""


class Outcome(NamedTuple):
    """How a run ended."""

    phase: Phase
    message: str = ""
    result: AblationResult | None = None


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
    done: int | None = None
    """Parts of the stage that are finished (draws, documents); None = the stage is one part."""
    total: int | None = None
    remaining: Estimate | None = None
    """Seconds until the answer; None = unknown, because nothing like it has been measured."""
    device: str = ""
    """Where it runs, as the client names it; empty = not started, or the worker's own choice."""
    stored: bool = False
    """Answered from the store of finished results, without a run."""
    replay: Replay | None = None
    """Of a finished replay: whether the new numbers are the stored ones."""
    note: str = ""
    """What went wrong beside the run, as a result that could not be stored."""

    @property
    def finished(self) -> bool:
        return self.phase in FINISHED

    @property
    def eta(self) -> str:
        """Seconds until the answer as a range, or ``unknown``."""
        return "unknown" if self.remaining is None else self.remaining.words

    @property
    def words(self) -> str:
        """One line for the reader."""
        part = "" if self.total is None else f", {self.done} of {self.total}"
        return {
            "queued": f"queued, {self.ahead} ahead",
            "starting": "starting the model worker",
            "running": self.stage
            if self.stage.startswith("loading")
            else f"running: {self.stage}{part}",
            "done": "done",
            "failed": self.message,
            "cancelled": "cancelled",
        }[self.phase]


@dataclass(eq=False)
class Run:
    """One execution of a request, for everyone who waits for it."""

    key: Key
    request: AblationRequest
    timeout: float = 0.0
    """Seconds on the worker, loading included."""
    replays: Record | None = None
    id: str = ""
    phase: Phase = "queued"
    stage: str = ""
    done: int | None = None
    total: int | None = None
    message: str = ""
    result: AblationResult | None = None
    stored: bool = False
    replay: Replay | None = None
    note: str = ""
    device: str = ""
    tickets: list["Ticket"] = field(default_factory=list)
    started: float | None = None
    """Monotonic; when the worker got it. ``computing``: when its model was loaded."""
    computing: float | None = None
    was_loaded: bool = False
    """Whether its worker had the model in memory."""
    ended: float | None = None
    cancelling: bool = False
    """Told to stop; whoever asks for the same now gets a run of their own."""
    overdue: bool = False
    """Told to stop because its time was up."""
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    told: int = 0
    """Events heard so far."""

    def __post_init__(self) -> None:
        self.id = f"{self.request.id}-{secrets.token_hex(4)}"

    @property
    def wanted(self) -> bool:
        return any(ticket.left is None and not ticket.replaced for ticket in self.tickets)

    @property
    def joinable(self) -> bool:
        """Whether someone who asks for the same may wait for this run."""
        return self.phase not in FINISHED and not self.cancelling

    @property
    def measured(self) -> tuple[float, float | None]:
        """Seconds of running until now, and of loading; None where the model was loaded."""
        now = time.monotonic()
        start = now if self.started is None else self.started
        computing = start if self.computing is None else self.computing
        return now - computing, None if self.was_loaded else computing - start

    def reattach(self, viewer: str) -> None:
        """What this viewer left detached here is taken up again by another ticket."""
        for ticket in self.tickets:
            if viewer and ticket.viewer == viewer and ticket.detached:
                ticket.replaced = True

    def end(self, phase: Phase, message: str = "", result: AblationResult | None = None) -> None:
        self.phase, self.message, self.result = phase, message, result
        self.ended = time.monotonic()

    def hear(self, message: dict[str, Any]) -> None:
        """Take a stage, or keep any other event for whoever follows this run."""
        if message["event"] == "stage":
            self.phase, self.stage = "running", message["stage"]
            self.done, self.total = message.get("done"), message.get("total")
            if self.computing is None and not self.stage.startswith("loading"):
                self.computing = time.monotonic()
            return
        own = {k: v for k, v in message.items() if k != "ticket"}
        self.events.append({**own, "number": self.told})
        self.told += 1


@dataclass(eq=False)
class Ticket:
    """One viewer's claim on a run."""

    run: Run
    viewer: str
    """Who asked; empty = nobody in particular."""
    id: str = ""
    submitted: float = field(default_factory=time.monotonic)
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
    def finished(self) -> bool:
        return self.left is not None or self.run.phase in FINISHED

    def progress(self, ahead: int, remaining: Estimate | None) -> Progress:
        run = self.run
        if self.left is not None:
            return Progress("cancelled", 0, run.stage, "", self.left - self.submitted, None)
        until = time.monotonic() if run.ended is None else max(run.ended, self.submitted)
        return Progress(
            phase=run.phase,
            ahead=ahead,
            stage=run.stage,
            message=run.message,
            seconds=until - self.submitted,
            result=run.result,
            done=run.done,
            total=run.total,
            remaining=remaining,
            device=run.device,
            stored=run.stored,
            replay=run.replay,
            note=run.note,
        )
