"""The model's own process: one request at a time, JSON lines in on stdin and out on stdout.

    in    {"op": "run", "ticket": T, "kind": "ablation", "request": {...}}
          {"op": "cancel", "ticket": T}
    out   {"event": "ready"}
          {"event": "stage", "ticket": T, "stage": "control", "done": 3, "total": 20,
           "loaded": ["experiment", ...]}
          {"event": "done", "ticket": T, "result": {...}, "made": {"bundle": "hash", ...}}
          {"event": "failed", "ticket": T, "message": "..."}    {"event": "cancelled", "ticket": T}
          {"event": anything else, "ticket": T, ...}    a part of the answer, told on the way

End of input means that the dashboard is gone: the process ends at once. What is not an expected
failure ends the process too, and the client says so to the one request that was running. A failure
with ``"ending": true`` is the last word of a process whose device is lost.
"""

import argparse
import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Iterable
from io import TextIOWrapper
from typing import Any

from lib.ablation.failures import Failure, explain
from lib.ablation.kinds import request_from, runner
from lib.ablation.memory import ANYWHERE, Sessions
from lib.ablation.places import NDIF, PRECISIONS, SPREAD, Place
from lib.ablation.remote import may_leave
from lib.ablation.versions import code_version, made_by


class Cancelled(BaseException):
    """Raised where a run reports; not an Exception, so that nothing on the way swallows it."""


class Worker:
    """Answers requests in order; cancellation takes effect at the next block or score."""

    def __init__(self, out: TextIOWrapper, place: Place = ANYWHERE) -> None:
        self._out = out
        self._todo: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._place = place
        self._sessions = Sessions(place)
        self._stage = "loading the model"

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
        """Until the input ends or the device is lost."""
        self._say(event="ready")
        while self.answer(self._todo.get()):
            pass

    def answer(self, message: dict[str, Any]) -> bool:
        """Answer one request; False when this process can answer no other."""
        ticket, failure = message["ticket"], None
        try:
            self._say(event="done", ticket=ticket, **self._run(message))
        except Cancelled:
            self._say(event="cancelled", ticket=ticket)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            failure = explain(error, self._stage)
        self._cancelled.discard(ticket)
        if failure is None:
            return True
        # Only here, past the except block, is the traceback gone that holds the run's tensors.
        self._fail(ticket, failure)
        return not failure.fatal

    def _fail(self, ticket: str, failure: Failure) -> None:
        if failure.clear:
            self._sessions.clear()
        told = {"event": "failed", "ticket": ticket, "message": failure.message}
        self._say(**told, **({"ending": True} if failure.fatal else {}))

    def _run(self, message: dict[str, Any]) -> dict[str, Any]:
        ticket, kind = message["ticket"], message["kind"]
        last: dict[str, Any] = {}

        def report(stage: str, done: int | None = None, total: int | None = None) -> None:
            self._stage = stage
            part = {} if total is None else {"done": done, "total": total}
            now = {"stage": stage, "loaded": self._sessions.loaded, **part}
            if now == last:  # asked before every block: only whether to go on
                self._stop_if_cancelled(ticket)
                return
            last.clear()
            last.update(now)
            tell(event="stage", **now)

        def tell(**said: object) -> None:
            self._stop_if_cancelled(ticket)
            self._say(**{**said, "ticket": ticket})

        report("loading the model")
        request = request_from(kind, message["request"])
        run, adapter_repo = runner(kind), ""
        if self._place.device == NDIF:
            adapter_repo = may_leave(kind, request)
        session, bundle = self._sessions.get(request.experiment_id, adapter_repo)
        result = run(request, session, progress=report, tell=tell)
        return {"result": result.to_json(), "made": made_by(session, bundle)}

    def _stop_if_cancelled(self, ticket: str) -> None:
        if ticket in self._cancelled:
            raise Cancelled

    def _say(self, **message: object) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()


def main() -> None:
    """Keep the real stdout for the protocol; whatever libraries print goes to stderr."""
    parser = argparse.ArgumentParser(description="The model worker of the dashboard.")
    parser.add_argument(
        "--device",
        help=f"as torch names it, {SPREAD} = over all GPUs, {NDIF} = the remote service; without: "
        "a GPU if there is one",
    )
    parser.add_argument("--dtype", choices=PRECISIONS, default=PRECISIONS[0])
    asked = parser.parse_args()
    code_version()  # now, before a file can change under this process
    protocol = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = Worker(protocol, Place(asked.device, asked.dtype))
    threading.Thread(target=worker.listen, args=(sys.stdin,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # the dashboard went away in the middle of a line
        worker.serve()


if __name__ == "__main__":
    main()
