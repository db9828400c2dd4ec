"""A scripted OpenAI-compatible endpoint on a real socket: what it answers, and all it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

KEY = "sk-secret-0123456789"


class Reply(NamedTuple):
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - a constant, never written to
    announced: int | None = None
    """Content-Length, where it is not the true one."""
    wait: float = 0.0
    drip: float = 0.0
    """Seconds between single bytes."""


class Asked(NamedTuple):
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def answer(text: str | None, *, usage: bool = True, finish: str = "stop", **message: Any) -> Reply:
    said = {"role": "assistant", "content": text, **message}
    reply: dict[str, Any] = {"choices": [{"message": said, "finish_reason": finish}]}
    if usage:
        reply["usage"] = {"prompt_tokens": 50, "completion_tokens": 10}
    return Reply(body=json.dumps(reply).encode(), headers={"Content-Type": "application/json"})


def failing(status: int, message: str = "no", **headers: str) -> Reply:
    body = json.dumps({"error": {"message": message}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class Service(NamedTuple):
    url: str
    asked: list[Asked]


@contextmanager
def serving(script: Callable[[Asked, int], Reply | str]) -> Iterator[Service]:
    """Run a server whose n-th answer (from 0) is ``script(asked, n)``; a text is a good answer."""
    asked: list[Asked] = []
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            one = Asked(self.path, dict(self.headers), json.loads(body))
            asked.append(one)
            found = script(one, len(asked) - 1)
            self._send(answer(found) if isinstance(found, str) else found)

        def _send(self, reply: Reply) -> None:
            stopped.wait(reply.wait)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = len(reply.body) if reply.announced is None else reply.announced
            self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                if not reply.drip:
                    self.wfile.write(reply.body)
                for byte in reply.body if reply.drip else b"":
                    if stopped.wait(reply.drip):
                        return
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):
                return  # the client had enough

        def log_message(self, *parts: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Service(f"http://127.0.0.1:{server.server_port}/v1", asked)
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
