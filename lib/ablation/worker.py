"""The model's own process: one request at a time, JSON lines in on stdin and out on stdout.

    in    {"op": "run", "ticket": T, "request": {...}}    {"op": "cancel", "ticket": T}
    out   {"event": "ready"}
          {"event": "stage", "ticket": T, "stage": "clamped"}
          {"event": "done", "ticket": T, "result": {...}}
          {"event": "failed", "ticket": T, "message": "..."}    {"event": "cancelled", "ticket": T}

End of input means that the dashboard is gone: the process ends at once. What is not an expected
failure ends the process too, and the client says so to the one request that was running.
"""

import contextlib
import gc
import json
import os
import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from lib.ablation import AblationRequest, catalogue, run

if TYPE_CHECKING:
    from lib.ablation.session import Session

KEPT_SESSIONS = 2
"""Models held in memory at once; the one unused for longest goes first."""


class Cancelled(BaseException):
    """Raised at the start of a stage; not an Exception, so that nothing on the way swallows it."""


class Sessions:
    """Loaded experiments, reloaded when the pipeline has published a bundle anew."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Session] = OrderedDict()

    def get(self, experiment_id: str) -> "Session":
        from lib.ablation.session import open_session

        key = (experiment_id, catalogue.stamp(catalogue.bundle_of(experiment_id)))
        if key not in self._kept:
            for stale in [k for k in self._kept if k[0] == experiment_id]:
                del self._kept[stale]
            while len(self._kept) >= KEPT_SESSIONS:
                self._kept.popitem(last=False)
            free_memory()
            self._kept[key] = open_session(experiment_id)
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        self._kept.clear()
        free_memory()


def free_memory() -> None:
    """Give memory of dropped models back, on the GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Worker:
    """Answers requests in order; cancellation takes effect at the next stage."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._todo: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._sessions = Sessions()

    def listen(self, lines: Iterable[str]) -> None:
        """Runs in a thread of its own, so that a cancellation arrives while a model runs."""
        for line in lines:
            message = json.loads(line)
            if message["op"] == "cancel":
                self._cancelled.add(message["ticket"])
            else:
                self._todo.put(message)
        os._exit(0)

    def serve(self) -> None:
        self._say(event="ready")
        while True:
            message = self._todo.get()
            ticket = message["ticket"]
            try:
                result = self._answer(ticket, AblationRequest.from_json(message["request"]))
                self._say(event="done", ticket=ticket, result=result)
            except Cancelled:
                self._say(event="cancelled", ticket=ticket)
            except (ValueError, OSError) as error:
                self._say(event="failed", ticket=ticket, message=str(error))
            except (RuntimeError, MemoryError) as error:
                # Out of memory and lost devices arrive here: start the next request from nothing.
                self._sessions.clear()
                told = (
                    f"{type(error).__name__}: {error} (the model is loaded anew for the next run)"
                )
                self._say(event="failed", ticket=ticket, message=told)
            self._cancelled.discard(ticket)

    def _answer(self, ticket: str, request: AblationRequest) -> dict[str, Any]:
        def report(stage: str) -> None:
            if ticket in self._cancelled:
                raise Cancelled
            self._say(event="stage", ticket=ticket, stage=stage)

        report("loading the model")
        session = self._sessions.get(request.experiment_id)
        return run(request, session, progress=report).to_json()

    def _say(self, **message: object) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()


def main() -> None:
    """Keep the real stdout for the protocol; whatever libraries print goes to stderr."""
    protocol = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = Worker(protocol)
    threading.Thread(target=worker.listen, args=(sys.stdin,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # the dashboard went away in the middle of a line
        worker.serve()


if __name__ == "__main__":
    main()
