"""One run of a request, for everyone who waits for it."""

import math
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lib.ablation.kinds import Request
from lib.ablation.progress import FINISHED, Phase, Progress
from lib.ablation.replay import Replay
from lib.ablation.results import Key, Record
from lib.ablation.timings import Estimate

if TYPE_CHECKING:
    from lib.ablation.tickets import Ticket

IfGone = Literal["cancel", "detach"]
"""What becomes of a run whose viewer closed the browser."""
KEPT_EVENTS = 20_000
"""Of one run; the oldest go first. The result at the end holds everything anyway."""


@dataclass(eq=False)
class Run:
    """One execution of a request, for everyone who waits for it."""

    key: Key
    request: Request
    timeout: float = 0.0
    """Seconds on the worker, loading included."""
    replays: Record | None = None
    id: str = ""
    phase: Phase = "queued"
    stage: str = ""
    done: int | None = None
    total: int | None = None
    message: str = ""
    result: Any = None
    stored: bool = False
    replay: Replay | None = None
    note: str = ""
    made: dict[str, Any] | None = None
    device: str = ""
    tickets: list["Ticket"] = field(default_factory=list)
    started: float | None = None
    """Monotonic; when the worker got it. ``computing``: when its model was loaded."""
    computing: float | None = None
    entered: float = field(default_factory=time.monotonic)
    """Monotonic; when the stage began."""
    moved: float = field(default_factory=time.monotonic)
    """Monotonic; when the worker last said that it was further."""
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
    def joinable(self) -> bool:
        """Whether someone who asks for the same may wait for this run."""
        return self.phase not in FINISHED and not self.cancelling

    @property
    def since(self) -> float:
        """When someone first asked for it, monotonic: who comes back or joins sees how long it has
        been going. Infinite for a finished one."""
        asked = [] if self.phase in FINISHED else [ticket.submitted for ticket in self.tickets]
        return min(asked, default=math.inf)

    @property
    def measured(self) -> tuple[float, float | None]:
        """Seconds of running until now, and of loading; None where the model was loaded."""
        now = time.monotonic()
        start = now if self.started is None else self.started
        computing = start if self.computing is None else self.computing
        return now - computing, None if self.was_loaded else computing - start

    @property
    def pace(self) -> Estimate | None:
        """What the rest of the stage takes at the pace of its finished parts; what follows it is
        unknown. It falls while a part is under way."""
        if not self.done or self.total is None:
            return None
        each = (self.moved - self.entered) / self.done
        left = each * (self.total - self.done) - (time.monotonic() - self.moved)
        return Estimate(max(0.0, left), math.inf, 1)

    def reattach(self, viewer: str) -> float:
        """What this viewer left detached here is taken up again by another ticket.

        Returns:
            When the viewer first asked for it, monotonic; infinite for a viewer who had not.
        """
        left = [t for t in self.tickets if viewer and t.viewer == viewer and t.detached]
        for ticket in left:
            ticket.replaced = True
        return min((ticket.submitted for ticket in left), default=math.inf)

    def end(self, phase: Phase, message: str = "", result: Any = None) -> None:
        self.phase, self.message, self.result = phase, message, result
        self.ended = time.monotonic()

    def hear(self, message: dict[str, Any]) -> None:
        """Take a stage, or keep any other event for whoever follows this run."""
        if message["event"] == "stage":
            self.moved = time.monotonic()
            if message["stage"] != self.stage:
                self.entered = self.moved
            self.phase, self.stage = "running", message["stage"]
            self.done, self.total = message.get("done"), message.get("total")
            if self.computing is None and not self.stage.startswith("loading"):
                self.computing = time.monotonic()
            return
        own = {k: v for k, v in message.items() if k != "ticket"}
        self.events.append({**own, "number": self.told})
        self.told += 1

    def events_after(self, number: int) -> list[dict[str, Any]]:
        return [event for event in self.events if event["number"] > number]

    def progress(
        self, seconds: float, ahead: int, remaining: Estimate | None, stopping: float | None = None
    ) -> Progress:
        """For one who has waited so many seconds; the rest as in ``Progress``."""
        return Progress(
            phase=self.phase,
            ahead=ahead,
            stopping=stopping,
            stage=self.stage,
            message=self.message,
            seconds=seconds,
            result=self.result,
            done=self.done,
            total=self.total,
            remaining=remaining,
            device=self.device,
            stored=self.stored,
            replay=self.replay,
            note=self.note,
            made=self.made,
        )
