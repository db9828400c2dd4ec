"""A local service that speaks NDIF's protocol and runs what it is sent on a real model of its own."""

import io
import json
import threading
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
import zstandard
from nnsight.modeling.transformers import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.tracing import tracer as tracing
from transformers import AutoTokenizer

REPO, ADAPTER = "someone/tiny", "someone/tiny-stoic"
KEY = "nnsight.modeling.transformers.TransformersModel:" + json.dumps(
    {"repo_id": REPO, "revision": None, "task": "text-generation"}
)


class Service:
    """``answer`` may be replaced by (code, body) for a request, ``result`` by bytes of a result."""

    def __init__(self, model, adapter):
        tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = TransformersModel(
            str(model), task="text-generation", tokenizer=tokenizer, dispatch=True
        )
        self.adapters = {ADAPTER: str(adapter)}
        self.asked, self.sent, self.envs, self.statuses = [], [], [], []
        self.code, self.result, self.failure = 200, None, ""
        self.deployments = {
            KEY: {"repo_id": REPO, "application_state": "RUNNING", "model_key": KEY},
            "x": {"repo_id": "big/sleeping", "application_state": "NOT_STARTED"},
        }
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def take(self, headers, body):
        """Run a request at once; its result is there when it is asked for the third time."""
        whole = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message_from_bytes(whole).get_payload()
        }
        asked = RequestModel.model_validate_json(parts["data"])
        assert asked.model_key == KEY
        self.sent.append(zstandard.ZstdDecompressor().decompress(parts["blob"]))
        self.envs.append(asked.env)
        peft = asked.env.get("peft")
        self.model._remoteable_set_env({**asked.env, "peft": peft and self.adapters[peft]})
        known = self.model._remoteable_persistent_objects()
        tracer = RequestModel.deserialize(parts["blob"], known, asked.compress)
        frame = tracer.info.frame
        tracing.inc()
        try:
            tracer.execute(tracer.info.code)
            saved = {k: v for k, v in frame.f_locals.items() if id(v) in tracing._saves()}
        finally:
            tracing.dec()
        packed = io.BytesIO()
        torch.save(saved, packed)
        self.ready = zstandard.compress(packed.getvalue())
        self.statuses = [(404, {}), (200, {"status": "RUNNING"})]
        return {"id": "job", "status": "RECEIVED"}

    def status(self):
        if self.failure:
            return 200, {"id": "job", "status": "ERROR", "description": self.failure}
        if self.statuses:
            code, said = self.statuses.pop(0)
            return code, {"id": "job", **said}
        return 200, {"id": "job", "status": "COMPLETED", "data": f"{self.url}/result"}


def handler(service):
    class Handler(BaseHTTPRequestHandler):
        def say(self, code, body):
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def do_POST(self):
            service.asked.append((self.path, dict(self.headers)))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if service.code != 200:
                return self.say(service.code, {"detail": "the key is not known"})
            return self.say(200, service.take(self.headers, body))

        def do_GET(self):
            service.asked.append((self.path, dict(self.headers)))
            if self.path == "/status":
                return self.say(200, {"deployments": service.deployments})
            if self.path == "/result":
                return self.say(200, service.ready if service.result is None else service.result)
            return self.say(*service.status())

        def log_message(self, *_):
            pass

    return Handler
