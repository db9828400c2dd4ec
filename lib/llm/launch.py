"""The agent started from a page: `python -m lib agent` as a process of its own."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lib import paths
from lib.llm import transcripts
from lib.llm.settings import LLMError, from_environment, require_consent


class State(NamedTuple):
    running: bool
    """A process is writing the transcript, started here or on a command line."""
    ours: bool
    """It was started here, so it can be stopped here."""
    code: int | None
    """How the last one started here ended; 0 = well, None = none did."""
    told: str
    """The last lines that it printed."""


class Launcher:
    """One per dashboard. A process outlives the dashboard and ends with its budget."""

    def __init__(self) -> None:
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def start(self, experiment_id: str, conditions: Sequence[str], consent: str) -> None:
        """Start the agent on one experiment.

        Args:
            consent: ``settings.consent_id`` of the text that was agreed to.

        Raises:
            LLMError: no endpoint, no consent to its text, or one is running already.
        """
        require_consent(consent, "agent", from_environment())
        with self._lock:
            if self.state(experiment_id).running:
                raise LLMError(f"the agent is at work on {experiment_id} already; wait for its end")
            log = _log(experiment_id)
            log.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "lib", "agent", experiment_id, "--consent"]
            with log.open("wb") as out:
                self._started[experiment_id] = subprocess.Popen(
                    [*command, "--conditions", *conditions],
                    cwd=paths.ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def stop(self, experiment_id: str) -> None:
        """End it; whatever is finished is kept, and the same start continues."""
        process = self._started.get(experiment_id)
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(timeout=10)

    def state(self, experiment_id: str) -> State:
        process = self._started.get(experiment_id)
        code = process.poll() if process is not None else None
        ours = process is not None and code is None
        running = ours or transcripts.busy(transcripts.file_of("agent", experiment_id))
        log = _log(experiment_id)
        lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
        return State(running, ours, code, "\n".join(lines[-6:]))


def _log(experiment_id: str) -> Path:
    return transcripts.file_of("agent", experiment_id).with_suffix(".log")
