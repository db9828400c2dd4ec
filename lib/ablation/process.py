"""One worker process: starts it, writes and reads JSON lines, and tells when and how it ended."""

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from io import TextIOWrapper
from typing import Any

from lib import paths

COMMAND = (sys.executable, "-m", "lib.ablation.worker")
STDERR_LINES = 5
_NOISE = ("Warning: ", "warnings.warn(", "Loading weights:")
"""Of libraries while a model loads: never the reason for an end."""
_BAR = re.compile(r"\d+%\|")


def _noise(line: str) -> bool:
    """Warnings and progress bars."""
    return bool(_BAR.search(line)) or any(part in line for part in _NOISE)


_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""Threads that wait for each other sleep: on a busy machine spinning ones take the time of the rest."""
SIGNALS = {
    -9: "the system or a person killed it, most often because the memory was full",
    -11: "a library touched memory that is not its own",
    -6: "a library gave up",
    -15: "it was asked to end",
}
"""Exit codes in plain words."""


class WorkerProcess:
    """A started worker. ``heard`` and ``ended`` are called from a thread of this object.

    Its input closes with this process, however that ends, and the worker then ends by itself.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        heard: Callable[[dict[str, Any]], None],
        ended: Callable[["WorkerProcess", str], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._heard, self._ended = heard, ended
        self._last_words: deque[str] = deque(maxlen=STDERR_LINES)
        self._to_tell: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=paths.ROOT,
            env=_PATIENT | os.environ,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = self._thread(self._keep, self._process.stderr)
        self._thread(self._write, self._process.stdin)
        self._thread(self._listen, self._process.stdout)

    @property
    def id(self) -> int:
        return self._process.pid

    def tell(self, message: dict[str, Any]) -> None:
        """Send one message, without waiting for a worker that does not read.

        A worker that has just died is left to the ``ended`` call.
        """
        self._to_tell.put(message)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _thread(self, target: Callable[[TextIOWrapper], None], stream: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=(stream,), daemon=True)
        thread.start()
        return thread

    def _write(self, stream: TextIOWrapper) -> None:
        try:
            while (message := self._to_tell.get()) is not None:
                stream.write(json.dumps(message) + "\n")
                stream.flush()
            stream.close()
        except BrokenPipeError:
            return

    def _keep(self, lines: Iterable[str]) -> None:
        said = (line.strip() for line in lines)
        self._last_words.extend(s for s in said if s and not _noise(s))

    def _listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            try:
                message = json.loads(line)
            except json.JSONDecodeError:
                self._last_words.append(f"it said what is no message: {line[:200].rstrip()}")
                self._process.kill()
                break
            self._heard(message)
        code = self._process.wait()
        self._to_tell.put(None)
        self._errors.join(timeout=1)  # the reason is usually in the last lines of stderr
        meaning = f" ({SIGNALS[code]})" if code in SIGNALS else ""
        words = f" Its last words: {' | '.join(self._last_words)}" if self._last_words else ""
        self._ended(self, f"exit code {code}{meaning}.{words}")
