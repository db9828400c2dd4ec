"""Where a request stands and how a run ended: what whoever waits for it is told."""

import math
from typing import Any, Literal, NamedTuple

from lib.ablation.replay import Replay
from lib.ablation.timings import Estimate

Phase = Literal["queued", "starting", "running", "done", "failed", "cancelled"]
FINISHED: tuple[Phase, ...] = ("done", "failed", "cancelled")


class Outcome(NamedTuple):
    """How a run ended."""

    phase: Phase
    message: str = ""
    result: Any = None
    """Of the run's kind; None unless done."""


class Progress(NamedTuple):
    """Where one request stands."""

    phase: Phase
    ahead: int
    """Requests that run before this one."""
    stage: str
    """What the worker is doing: loading the model, base, tuned, treated, ..."""
    message: str
    """Why it failed; empty otherwise."""
    seconds: float
    """Since it was submitted, until it finished."""
    result: Any
    """Of the request's kind (AblationResult, ...); None unless done."""
    done: int | None = None
    """Parts of the stage that are finished (draws, documents); None = the stage is one part."""
    total: int | None = None
    stopping: float | None = None
    """Seconds after which a cancelled run that this one waits for is ended by force, if it has not
    stopped by then; None = it waits for none."""
    remaining: Estimate | None = None
    """Seconds until the answer; None = unknown, because nothing like it has been measured."""
    device: str = ""
    """Where it runs, as the client names it; empty = not started, or the worker's own choice."""
    stored: bool = False
    """Answered from the store of finished results, without a run."""
    replay: Replay | None = None
    """Of a finished replay: whether the new numbers are the stored ones."""
    note: str = ""
    """What went wrong beside the run: a stored result that was damaged and so is made again, or
    one that could not be stored."""
    made: dict[str, Any] | None = None
    """What a result was made by (``versions.made_by``); None until it is there."""

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
            "queued": self._waiting,
            "starting": "starting the model worker",
            "running": self.stage
            if self.stage.startswith("loading")
            else f"running: {self.stage}{part}",
            "done": "done",
            "failed": self.message,
            "cancelled": "cancelled",
        }[self.phase]

    @property
    def _waiting(self) -> str:
        if self.stopping is None:
            return f"queued, {self.ahead} ahead"
        return f"waiting for a cancelled run to stop, at most {max(1, math.ceil(self.stopping))} s more"
