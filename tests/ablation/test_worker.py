"""Real workers on the tiny model: many at once, cancelled, killed, out of memory, a lost device."""

import json
import os
import signal
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lib import ablation
from lib.ablation import AblationError, kinds
from lib.ablation.client import AblationClient
from lib.ablation.failures import explain
from lib.ablation.generate import GenerateRequest, generate
from lib.ablation.meaning import MeaningRequest, compare
from lib.ablation.places import Place
from lib.ablation.results import ResultStore
from lib.ablation.session import open_session
from lib.ablation.worker import Worker
from tests.ablation.stand_in import NAMES, PROMPT, plain, publish, wait
from tests.ablation.stand_in import ask as ask_any

RUNS = (generate, compare)
CONTROLS = ("random_latents", "gaussian")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("precomputed"))


@pytest.fixture(scope="module")
def sessions(root):
    return {name: open_session(name, directory=root, device="cpu") for name in NAMES}


@pytest.fixture(autouse=True)
def _own_folders(root, monkeypatch):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(root))


def serving(root, tmp_path_factory, *command, **more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
        store = ResultStore(tmp_path_factory.mktemp("results"))
        client = AblationClient(*command, results=store, **more)
        yield client
        client.close()


@pytest.fixture(scope="module")
def client(root, tmp_path_factory):
    yield from serving(root, tmp_path_factory, devices=["cpu", "cpu"])


def ask(prompt=PROMPT, name="left", **fields):
    return ask_any(prompt, name, **{"top": 4, "controls": CONTROLS, "draws": 2, **fields})


# ---------------------------------------------------------------- many, and one after another


def test_eight_users_at_once_get_eight_correct_answers(client, sessions):
    requests = [
        ask(f"{PROMPT} User {i}.", NAMES[i % 2], seed=i, strength=1 - i / 20) for i in range(8)
    ]

    def one(i):
        return wait(client, client.submit(requests[i], viewer=str(i))).result

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    for request, answer in zip(requests, answers, strict=True):
        assert plain(answer) == plain(ablation.run(request, sessions[request.experiment_id]))
    assert len({plain(answer) for answer in answers}) == 8


def test_a_real_run_streams_its_conditions_and_replays_bit_for_bit(client):
    asked = ask("Once more, and the same.", "right")
    ticket = client.submit(asked)
    ended = wait(client, ticket)
    told = [event for event in client.events(ticket) if event["event"] == "condition"]
    assert {"base", "tuned", "treated", "ceiling"} <= {event["name"] for event in told}
    shown = {event["name"]: event["condition"] for event in told}
    for name in ("tuned", "treated", "ceiling"):
        condition = getattr(ended.result, name)
        assert shown[name] == json.loads(json.dumps(condition.to_json()))
    assert len([event for event in told if event["name"] in CONTROLS]) == 4
    assert ended.made["device"] == "cpu"
    assert len(ended.made["base_weights"]) == len(ended.made["code"]) == 16
    again = wait(client, client.replay(asked.id))
    assert again.replay.agrees, again.replay.words
    assert again.replay.changed == ()
    assert not again.stored


def test_every_kind_runs_in_the_worker_as_here(client, sessions):
    texts = ("The first of two notes.", "And this is the second of them.")
    asked = (
        GenerateRequest(ablation=ask(), max_new_tokens=4),
        MeaningRequest(experiment_id="left", documents=texts, layer=1, count=3),
    )
    answers = [wait(client, client.submit(request)) for request in asked]
    assert [p.message for p in answers] == ["", ""]
    here = [run(request, sessions["left"]) for run, request in zip(RUNS, asked, strict=True)]
    assert [plain(p.result) for p in answers] == [plain(result) for result in here]
    ticket = client.submit(asked[0])
    assert {event["event"] for event in client.events(ticket)} == {"token"}
    assert len(client.events(ticket)) >= 4  # of each lane that went on
    replay = wait(client, client.replay(asked[0].id)).replay
    assert replay.agrees, replay.words


def test_a_cancelled_real_run_leaves_the_next_one_right(client, sessions):
    first = client.submit(ask("To be cancelled. " * 12, draws=200))
    wait(client, first, lambda p: p.phase == "running" or p.finished)
    client.cancel(first)
    after = ask("After a cancelled one.")
    assert plain(wait(client, client.submit(after)).result) == plain(
        ablation.run(after, sessions["left"])
    )


def test_refusals_reach_their_viewer_and_keep_the_model(client, sessions):
    wait(client, client.submit(ask("Loads the model.")))
    workers = client.workers
    refused = {
        "limit is": ask("x " * 300),
        "depth": ask(layers=(7,)),
        "not in the live bundle": ask(picked=((0, 400),)),
    }
    for words, request in refused.items():
        ended = wait(client, client.submit(request))
        assert ended.phase == "failed"
        assert words in ended.message
    assert client.workers == workers


# ---------------------------------------------------------------- faults inside a run

FAULTY = """
import torch
from lib.ablation import kinds, worker, run as real

def harm(fault):
    if fault == "full":
        torch.empty(1 << 55)
    if fault == "gpu":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
    if fault == "python":
        bytearray(1 << 60)
    if fault == "bug":
        [][0]

def run(request, session, *, progress, tell):
    where, _, fault = request.prompt.split(":")[0].partition(" ")
    def report(stage, *rest):
        progress(stage, *rest)
        if where == "between" and stage != "loading the model":
            harm(fault)
        if where == "wait":
            import time
            while True:
                progress("waiting")
                time.sleep(0.01)
    handle = session.loaded.block(1).register_forward_hook(
        lambda *_: harm(fault) if where == "inside" else None
    )
    try:
        return real(request, session, progress=report, tell=tell)
    finally:
        handle.remove()

import sys
sys.modules["faulty"] = sys.modules["__main__"]
kinds.KINDS["ablation"] = kinds.KINDS["ablation"]._replace(run="faulty:run")
worker.main()
"""


@pytest.fixture(scope="module")
def faulty(root, tmp_path_factory):
    yield from serving(root, tmp_path_factory, [sys.executable, "-c", FAULTY])


@pytest.mark.parametrize(
    ("fault", "told", "lives"),
    [
        ("between full", "Out of memory (", True),
        ("between gpu", "Out of memory (", True),
        ("between python", "Out of memory (", True),
        ("inside full", "Out of memory (", True),  # in the middle of a traced pass
        ("inside gpu", "Out of memory (", True),
        ("between bug", "IndexError", False),
    ],
)
def test_a_fault_inside_a_run_is_told_and_the_queue_lives(faulty, sessions, fault, told, lives):
    wait(faulty, faulty.submit(ask(f"Before {fault}.")))
    before = faulty.worker_id
    bad, good = faulty.submit(ask(f"{fault}: {PROMPT}")), faulty.submit(ask(f"After {fault}."))
    ended = wait(faulty, bad)
    assert (ended.phase, ended.result) == ("failed", None)
    assert told in ended.message
    assert plain(wait(faulty, good).result) == plain(
        ablation.run(ask(f"After {fault}."), sessions["left"])
    )
    assert (faulty.worker_id == before) is lives


def test_a_worker_killed_by_the_system_takes_only_its_run(faulty, sessions):
    bad, good = faulty.submit(ask(f"wait : {PROMPT}")), faulty.submit(ask("After a kill."))
    wait(faulty, bad, lambda p: p.stage == "waiting")
    killed = faulty.worker_id
    os.kill(killed, signal.SIGKILL)
    ended = wait(faulty, bad)
    assert ended.phase == "failed"
    assert "most often because the memory was full" in ended.message
    assert plain(wait(faulty, good).result) == plain(
        ablation.run(ask("After a kill."), sessions["left"])
    )
    assert faulty.worker_id not in (killed, None)
    assert not (os.path.exists(f"/proc/{killed}"))  # noqa: PTH110


# ---------------------------------------------------------------- one worker, in this process


def answered(tmp_path, monkeypatch, run, kind="ablation"):
    """What a worker says to one request that ``run`` answers, and the worker."""
    monkeypatch.setitem(kinds.KINDS, "ablation", kinds.KINDS["ablation"]._replace(run="x:y"))
    monkeypatch.setattr("lib.ablation.worker.runner", lambda kind: run)
    with (tmp_path / "out").open("w+") as out:
        worker = Worker(out, Place("cpu"))
        message = {"ticket": "t", "kind": kind, "request": ask().to_json()}
        lives = worker.answer(message)
        out.seek(0)
        return worker, lives, [json.loads(line) for line in out]


def test_memory_of_a_run_that_ran_out_is_free_before_the_next(tmp_path, monkeypatch):
    held = []

    def run(request, session, *, progress, tell):
        tensor = torch.zeros(1000)
        loop = [tensor]
        loop.append(loop)  # a cycle, which only the collector frees
        held.extend([weakref.ref(tensor), weakref.ref(session.loaded.model)])
        progress("treated")
        raise MemoryError

    worker, lives, said = answered(tmp_path, monkeypatch, run)
    assert lives
    assert [ref() for ref in held] == [None, None]
    assert worker._sessions.loaded == []
    assert [m["event"] for m in said] == ["stage", "stage", "failed"]
    assert said[-1]["message"].startswith("Out of memory (treated): ")


def test_a_lost_device_ends_the_worker_after_its_last_word(tmp_path, monkeypatch):
    def run(request, session, *, progress, tell):
        raise RuntimeError("CUDA error: device-side assert triggered")

    _, lives, said = answered(tmp_path, monkeypatch, run)
    assert not lives
    assert said[-1]["ending"] is True
    assert "The device was lost" in said[-1]["message"]


def test_a_kind_that_nobody_answers_is_refused_by_the_worker_too(tmp_path, monkeypatch):
    _, lives, said = answered(tmp_path, monkeypatch, None, kind="poem")
    assert lives
    assert said[-1]["message"].startswith("no worker answers 'poem'; there are ablation")


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_kind_names_what_is_there(kind):
    parts = kinds.KINDS[kind]
    assert callable(kinds.runner(kind))
    for name in (parts.request, parts.result):
        assert {"to_json", "from_json"} <= set(dir(kinds.resolve_name(name)))
    with pytest.raises(AblationError, match="fields that this code does not know"):
        kinds.request_from(kind, {"colour": 3})


def test_faults_are_sorted_by_what_the_worker_must_do():
    lost = explain(RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), "x")
    assert (lost.fatal, "device was lost" in lost.message) == (True, True)
    refused = explain(AblationError("no model 'out of memory'"), "x")
    assert refused == ("no model 'out of memory'", False, False)
    odd = explain(RuntimeError("shapes differ"), "control")
    assert (odd.clear, odd.fatal) == (True, False)
    assert "RuntimeError (control): shapes differ" in odd.message
    disk = explain(OSError(12, "Cannot allocate memory"), "loading the model")
    assert disk.clear
