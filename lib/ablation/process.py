"""One worker process: starts it, writes and reads JSON lines, and tells when and how it ended."""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lib import paths

COMMAND = (sys.executable, "-m", "lib.ablation.worker")
STDERR_LINES = 5


class WorkerProcess:
    """A started worker. ``heard`` and ``ended`` are called from a thread of this object.

    Its input closes with this process, however that ends, and the worker then ends by itself.
    """

    def __init__(
        self,
        heard: Callable[[dict[str, Any]], None],
        ended: Callable[["WorkerProcess", str], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._heard, self._ended = heard, ended
        self._last_words: deque[str] = deque(maxlen=STDERR_LINES)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=paths.ROOT,
            env=dict(os.environ),
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = threading.Thread(
            target=self._keep, args=(self._process.stderr,), daemon=True
        )
        self._errors.start()
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    @property
    def id(self) -> int:
        return self._process.pid

    def tell(self, message: dict[str, Any]) -> None:
        """Send one message; a worker that has just died is left to the ``ended`` call."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _keep(self, lines: Iterable[str]) -> None:
        self._last_words.extend(line.rstrip() for line in lines if line.strip())

    def _listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._heard(json.loads(line))
        code = self._process.wait()
        self._errors.join(timeout=1)  # the reason is usually in the last lines of stderr
        words = f" Its last words: {' | '.join(self._last_words)}" if self._last_words else ""
        self._ended(self, f"exit code {code}.{words}")
