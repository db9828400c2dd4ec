"""A worker without a model, which does what its prompt says, and clients that talk to it."""

import json
import sys
import time

import pytest

from lib import paths
from lib.ablation import AblationRequest
from lib.ablation.bundle import write_bundle
from lib.ablation.catalogue import BundleInfo, write_info
from lib.ablation.client import AblationClient
from lib.ablation.request import AblationResult, Condition, Edit, LayerSet, NextToken
from lib.ablation.results import About, Key, Record, ResultStore
from lib.ablation.versions import bundle_hash, code_version

PROMPT = "The quiet mind asks for little."
PATIENCE = 200.0
NAMES = ("left", "right")

PROGRAM = """
import json, os, pathlib, queue, sys, threading, time
folder = pathlib.Path(sys.argv[1])
device = sys.argv[3] if len(sys.argv) > 3 else ""
result = json.loads((folder / "answer.json").read_text())
todo, cancelled, loaded = queue.Queue(), set(), []

def say(**m): print(json.dumps(m), flush=True)

def listen():
    for line in sys.stdin:
        m = json.loads(line)
        cancelled.add(m["ticket"]) if m["op"] == "cancel" else todo.put(m)
    os._exit(0)

threading.Thread(target=listen, daemon=True).start()
say(event="ready")
while True:
    m = todo.get()
    ticket, request = m["ticket"], m["request"]
    what, _, name = request["prompt"].partition(" ")
    with open(folder / "runs", "a") as log:
        log.write(f"{request['prompt']} {request['experiment_id']} {device}\\n")
    if request["experiment_id"] not in loaded:
        loaded.append(request["experiment_id"])
    say(event="stage", ticket=ticket, stage="treated", loaded=loaded)
    if what == "die":
        print("a last word", file=sys.stderr, flush=True)
        os._exit(3)
    if what == "babble":
        print("this is no message", flush=True)
        time.sleep(60)
    if what == "half":
        say(event="done", ticket=ticket, result={"request": request})
        continue
    if what == "draws":
        for i in range(3):
            say(event="stage", ticket=ticket, stage="control", done=i + 1, total=4)
            say(event="condition", ticket=ticket, name="gaussian", condition={"kl": 0.5 * i})
    end = "done"
    while what in ("hold", "stubborn", "draws") and not (folder / name).exists():
        if ticket in cancelled and what != "stubborn":
            end = "cancelled"
            break
        time.sleep(0.005)
    if what == "lost":
        say(event="failed", ticket=ticket, message="the device was lost", ending=True)
        time.sleep(0.3)
        os._exit(0)
    if end == "cancelled":
        say(event=end, ticket=ticket)
    else:
        made = {**json.loads((folder / "made.json").read_text()), "device": device or "cpu"}
        say(event=end, ticket=ticket, result={**result, "request": request}, made=made)
"""


class Bench:
    """Clients with the stand-in worker, over one folder of results."""

    def __init__(self, folder):
        self.folder = folder
        self.store = ResultStore(folder / "results")
        self.clients = []
        (folder / "answer.json").write_text(json.dumps(answer().to_json()))
        self.made_by(key_of(ask()))

    def made_by(self, key):
        """What the worker says that its results were made by."""
        made = {"bundle": key.bundle, "code": key.code, "libraries": {"torch": "2.0"}}
        (self.folder / "made.json").write_text(json.dumps(made))

    def client(self, **more):
        command = [sys.executable, "-c", PROGRAM, str(self.folder)]
        client = AblationClient(command, **{"results": self.store, **more})
        self.clients.append(client)
        return client

    @property
    def runs(self):
        log = self.folder / "runs"
        return log.read_text().splitlines() if log.exists() else []

    def let(self, name):
        (self.folder / name).touch()

    def begun(self, client, ticket):
        """Wait until the worker is inside this run."""
        return wait(client, ticket, lambda p: p.stage == "treated" or p.finished)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Over two experiments that no model stands behind."""
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    for name in NAMES:
        info = BundleInfo(name, "none", "mlp", k=1, n_latents=1, base_hash="", layers=(0,))
        write_info(paths.live_bundle(name), info)
    bench = Bench(tmp_path)
    yield bench
    for client in bench.clients:
        client.close()


def ask(prompt=PROMPT, name="left", **fields):
    return AblationRequest(experiment_id=name, prompt=prompt, **fields)


def wait(client, ticket, until=lambda p: p.finished):
    end = time.monotonic() + PATIENCE
    while not until(client.progress(ticket)):
        assert time.monotonic() < end, client.progress(ticket)
        time.sleep(0.005)
    return client.progress(ticket)


def key_of(request, kind="ablation"):
    bundle = bundle_hash(paths.live_bundle(request.experiment_id))
    return Key(kind, request.id, bundle, code_version())


def record(request, *, key=None, result=None, running=1.0, loading=None, made=None):
    """A stored result of a request; by default one that answers it."""
    result = {**answer().to_json(), "request": request.to_json()} if result is None else result
    key = key or key_of(request)
    asked = (request.experiment_id, request.to_json())
    about = About(key, *asked, made or {}, running, loading, 0.0)
    return Record(about, json.loads(json.dumps(result)))


def answer():
    """Any result, by hand."""
    base, tuned, treated, ceiling = (
        Condition(
            name=name,
            kl=kl,
            kl_per_token=(None, kl),
            documents=(),
            share_reversed=1 - kl,
            agreement=0.5,
            neutral_nll=None,
            next_tokens=(NextToken(" a", 0.25),),
            edits=(Edit(0, kl, 1.0, 0.5, None),),
        )
        for name, kl in (("base", 0.0), ("tuned", 1.0), ("treated", 0.3), ("ceiling", 0.1))
    )
    return AblationResult(
        request=ask(),
        base_model="none",
        hook="mlp",
        tokens=("<s>", "a"),
        selected=(LayerSet(0, (1, 2)),),
        base=base,
        tuned=tuned,
        treated=treated,
        ceiling=ceiling,
        controls=(),
        dose=(),
        seconds=(("base", 0.1),),
        device="cpu",
    )


def plain(result):
    """A result without its wall times, as text: equal means bit for bit."""
    return json.dumps({k: v for k, v in result.to_json().items() if k != "seconds"})


def publish(root):
    """Two experiments on the tiny model, with adapters and dictionaries at random."""
    import torch

    from tests.ablation.bundles import info_of, random_slice, write_adapter

    for seed, name in enumerate(NAMES):
        folder = paths.live_bundle(name, root)
        config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
        _, base_hash = write_adapter(folder, seed, **config)
        for layer in (0, 1):
            generator = torch.Generator().manual_seed(10 * seed + layer)
            latents = random_slice(generator, n_top=6, n_pool=30, first=0)
            write_bundle(folder, info_of(name, "mlp", base_hash), layer, **latents)
    return root
