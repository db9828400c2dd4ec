"""The queue: joining, leaving, time limits, estimates, storage; then real workers under load."""

import json
import os
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lib import ablation, models, paths
from lib.ablation import AblationError, AblationRequest
from lib.ablation import worker as worker_module
from lib.ablation.bundle import write_bundle
from lib.ablation.catalogue import BundleInfo
from lib.ablation.client import AblationClient
from lib.ablation.failures import explain
from lib.ablation.results import Key, Record, ResultStore, code_version
from lib.ablation.session import open_session
from lib.ablation.timings import Estimate, Timings
from lib.ablation.worker import Worker

PROMPT = "The quiet mind asks for little."
PATIENCE = 300
NAMES = ("left", "right")


# ---------------------------------------------------------------- two experiments on a tiny model


def random_slice(generator, n_top=6, n_pool=10, d=32):
    n = n_top + n_pool
    return {
        "latents": torch.arange(n),
        "encoder": torch.randn(n, 2, d, generator=generator),
        "encoder_bias": torch.randn(n, generator=generator),
        "decoder": 0.1 * torch.randn(n, 2, d, generator=generator),
        "thresholds": torch.full((n,), 0.5),
        "difference_share": torch.linspace(0.2, 0.01, n),
        "frequency": torch.full((n,), 0.1),
        "role": torch.tensor([0] * n_top + [1] * n_pool),
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("precomputed")
    for seed, name in enumerate(NAMES):
        base = models.load("tiny-llama", device="cpu")
        torch.manual_seed(seed)
        config = LoraConfig(init_lora_weights=False, r=4, lora_alpha=8, target_modules=["q_proj"])
        folder = paths.live_bundle(name, root)
        base_hash = base.weights_hash
        get_peft_model(base.model, config).save_pretrained(folder / "adapter")
        info = BundleInfo(name, "tiny-llama", "mlp", k=8, n_latents=512, base_hash=base_hash)
        for layer in (0, 1):
            generator = torch.Generator().manual_seed(10 * seed + layer)
            write_bundle(folder, info, layer, **random_slice(generator))
    return root


@pytest.fixture(scope="module")
def sessions(root):
    return {name: open_session(name, directory=root, device="cpu") for name in NAMES}


@pytest.fixture(autouse=True)
def _own_folders(root, tmp_path, monkeypatch):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
    monkeypatch.setenv("INSIDEOUT_CACHE", str(tmp_path / "cache"))


def ask(prompt=PROMPT, name="left", **fields):
    return AblationRequest(experiment_id=name, prompt=prompt, **fields)


def wait(client, ticket, until=lambda p: p.finished):
    end = time.monotonic() + PATIENCE
    while not until(client.progress(ticket)):
        assert time.monotonic() < end, client.progress(ticket)
        time.sleep(0.005)
    return client.progress(ticket)


# ---------------------------------------------------------------- a stand-in worker

STAND_IN = """
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
    say(event="stage", ticket=ticket, stage="clamped", loaded=loaded)
    if what == "die":
        print("a last word", file=sys.stderr, flush=True)
        os._exit(3)
    if what == "babble":
        print("this is no message", flush=True)
        time.sleep(60)
    if what == "draws":
        for i in range(3):
            say(event="stage", ticket=ticket, stage="control", done=i + 1, total=3)
            say(event="draw", ticket=ticket, family="random", kl=0.5 * i)
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
        say(event=end, ticket=ticket, result={**result, "request": request})
"""


class Bench:
    """Clients with the stand-in worker, over one folder of results."""

    def __init__(self, folder):
        self.folder = folder
        self.store = ResultStore(folder / "results")
        self.clients = []

    def client(self, **more):
        command = [sys.executable, "-c", STAND_IN, str(self.folder)]
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
        return wait(client, ticket, lambda p: p.stage == "clamped" or p.finished)


@pytest.fixture(scope="module")
def answer(sessions):
    return ablation.run(ask(), sessions["left"]).to_json()


@pytest.fixture
def bench(tmp_path, answer):
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    bench = Bench(tmp_path)
    yield bench
    for client in bench.clients:
        client.close()


# ---------------------------------------------------------------- viewers who join and leave


def test_identical_requests_in_flight_are_one_run_with_two_tickets(bench):
    client = bench.client()
    first, second = (client.submit(ask("hold go"), viewer=v) for v in "ab")
    assert first != second
    bench.begun(client, first)
    third = client.submit(ask("hold go"), viewer="c")
    bench.let("go")
    ends = [wait(client, ticket) for ticket in (first, second, third)]
    assert [p.phase for p in ends] == ["done"] * 3
    assert ends[0].result is ends[1].result is ends[2].result
    assert bench.runs == ["hold go left "]


def test_a_run_goes_on_while_anyone_waits_for_it(bench):
    client = bench.client()
    first, second = (client.submit(ask("hold go"), viewer=v) for v in "ab")
    bench.begun(client, first)
    client.release(first, cancel=True)
    assert client.progress(first).phase == "cancelled"
    assert client.progress(second).phase == "running"
    bench.let("go")
    assert wait(client, second).phase == "done"
    assert client.progress(first).result is None


def test_the_last_one_to_leave_cancels_and_the_queue_goes_on(bench):
    client = bench.client()
    first, second = (client.submit(ask("hold never"), viewer=v) for v in "ab")
    behind = client.submit(ask("next"))
    bench.begun(client, first)
    worker = client.worker_id
    client.cancel(first)
    client.cancel(second)
    assert client.progress(first).phase == client.progress(second).phase == "cancelled"
    assert wait(client, behind).phase == "done"
    assert client.worker_id == worker  # it stopped by itself
    assert bench.store.get(key_of(ask("hold never"))) is None


def test_a_queued_run_leaves_the_queue_only_when_nobody_waits(bench):
    client = bench.client()
    running = client.submit(ask("hold go"))
    one, two = (client.submit(ask("shared"), viewer=v) for v in "ab")
    last = client.submit(ask("last"))
    client.cancel(one)
    assert client.progress(last).ahead == 2
    client.cancel(two)
    assert client.progress(last).ahead == 1
    bench.let("go")
    assert wait(client, last).phase == wait(client, running).phase == "done"
    assert [line.split()[0] for line in bench.runs] == ["hold", "last"]


def test_a_detached_run_finishes_and_its_answer_waits_in_the_store(bench):
    client = bench.client()
    gone = client.submit(ask("hold go"), viewer="a")
    other = client.submit(ask("hold go"), viewer="b")
    bench.begun(client, gone)
    client.release(gone, cancel=False)
    client.cancel(other)  # the last one who waits, but a wants the answer
    bench.let("go")
    assert wait(client, gone).phase == "done"
    back = bench.client().submit(ask("hold go"), viewer="a")
    assert bench.clients[-1].progress(back).phase == "done"
    assert len(bench.runs) == 1


def test_who_detached_and_came_back_may_cancel_after_all(bench):
    client = bench.client()
    left = client.submit(ask("hold never"), viewer="a")
    bench.begun(client, left)
    client.release(left, cancel=False)
    back = client.submit(ask("hold never"), viewer="a")
    client.cancel(back)
    assert wait(client, left).phase == "cancelled"
    assert len(bench.runs) == 1


def test_a_request_that_is_being_cancelled_is_not_joined(bench):
    client = bench.client()
    first = client.submit(ask("stubborn go"))
    bench.begun(client, first)
    client.cancel(first)
    again = client.submit(ask("stubborn go"))
    assert client.progress(again).phase == "queued"
    bench.let("go")
    assert wait(client, again).phase == "done"
    assert len(bench.runs) == 2


# ---------------------------------------------------------------- progress, events, estimates


def test_progress_counts_parts_and_hands_other_events_on(bench):
    client = bench.client()
    first = client.submit(ask("draws go"))
    seen = wait(client, first, lambda p: p.done == 3)
    assert (seen.stage, seen.total, seen.words) == ("control", 3, "running: control, 3 of 3")
    wait(client, first, lambda p: len(client.events(first)) == 3)
    late = client.submit(ask("draws go"))
    expected = [
        {"event": "draw", "family": "random", "kl": 0.5 * i, "number": i} for i in range(3)
    ]
    assert client.events(first) == client.events(late) == expected
    assert client.events(first, after=1) == expected[2:]
    bench.let("go")
    wait(client, late)
    assert client.events("no such ticket") == []


def test_estimates_are_ranges_of_what_was_measured_or_unknown(bench):
    client = bench.client()
    first = client.submit(ask("aaaa"))
    assert client.progress(first).eta == "unknown"
    wait(client, first)
    held = client.submit(ask("hold go"), timeout=50)
    bench.begun(client, held)
    alike, other = client.submit(ask("bbbb")), client.submit(ask("bbbb", layers=(0,)))
    assert client.progress(other).remaining is None  # no run with one depth was measured
    assert client.progress(alike).remaining is None  # the held one is slower than any of its kind
    client.cancel(held)
    assert wait(client, alike).remaining is None


def test_times_of_alike_requests_add_up_along_the_queue():
    times = Timings()
    assert times.running(ask("x" * 10)) is None
    for seconds in (2.0, 3.0):
        times.add(ask("x" * 10, seed=int(seconds), layers=(0, 1)).to_json(), seconds, None)
    times.add(ask("y" * 90, layers=(0, 1)).to_json(), 40.0, 7.0)
    asked = ask("z" * 20, layers=(0, 1), top=3, strength=0.5)
    assert times.running(asked) == Estimate(2.0, 3.0, 2)
    assert times.running(ask("z" * 21, layers=(0, 1))) is None  # more than twice as long
    assert times.running(ask("z" * 10, layers=(1,))) is None
    assert times.running(ask("z" * 10, "right", layers=(0, 1))) is None
    assert times.both(asked, loaded=False) == Estimate(9.0, 10.0, 1)
    assert Estimate(2.0, 3.0, 2).after(2.5) == Estimate(0.0, 0.5, 2)
    assert Estimate(2.0, 3.0, 2).after(3.1) is None
    assert Estimate(2.2, 8.6, 2).words == "2 to 9 s"
    assert Estimate(3.9, 4.1, 2).words == "about 4 s"


def test_estimate_of_a_queued_request_is_that_of_all_before_it(bench):
    for seed, seconds in enumerate((10.0, 20.0)):
        key = key_of(ask("known", seed=seed))
        request = ask("known", seed=seed).to_json()
        bench.store.put(Record(key, request, {"request": request}, seconds, 5.0))
    client = bench.client()  # knows the times from the store alone
    tickets = [client.submit(ask(f"hold {i}")) for i in range(3)]
    bench.begun(client, tickets[0])
    left = [client.progress(ticket).remaining for ticket in tickets]
    assert [round(e.low + 0.4, 0) for e in left] == [10, 20, 30]
    assert [round(e.high + 0.4, 0) for e in left] == [20, 40, 60]
    two = bench.client(devices=["x", "y"])
    tickets = [two.submit(ask(f"hold {i}", "left")) for i in range(10, 14)]
    last = two.progress(tickets[-1]).remaining  # two lanes, two rounds, loading once each
    assert (round(last.low + 0.4), round(last.high + 0.4)) == (25, 45)


# ---------------------------------------------------------------- time limits and failures


def test_a_run_past_its_time_stops_and_only_it_fails(bench):
    client = bench.client(grace=PATIENCE)
    slow, behind = client.submit(ask("hold never"), timeout=0.5), client.submit(ask("next"))
    ended = wait(client, slow)
    assert ended.phase == "failed"
    assert "longer than the 0.5 s" in ended.message
    assert "(clamped)" in ended.message
    worker = client.worker_id
    assert wait(client, behind).phase == "done"
    assert client.worker_id == worker  # it listened, so it still lives


def test_a_worker_that_does_not_react_is_killed_and_replaced(bench):
    client = bench.client(timeout=0.5, grace=0.2)
    slow, behind = client.submit(ask("stubborn never")), client.submit(ask("next"), timeout=PATIENCE)
    bench.begun(client, slow)
    stubborn = client.worker_id
    ended = wait(client, slow)
    assert (ended.phase, "was stopped" in ended.message) == ("failed", True)
    assert wait(client, behind).phase == "done"
    assert client.worker_id != stubborn


def test_a_cancelled_run_whose_worker_does_not_react_frees_the_queue_too(bench):
    client = bench.client(grace=0.2)
    slow, behind = client.submit(ask("stubborn never")), client.submit(ask("next"))
    bench.begun(client, slow)
    client.cancel(slow)
    assert wait(client, behind).phase == "done"
    assert client.progress(slow).phase == "cancelled"


def test_who_joins_may_allow_more_time(bench):
    client = bench.client()
    short = client.submit(ask("hold go"), timeout=0.6)
    client.submit(ask("hold go"), timeout=PATIENCE)
    bench.begun(client, short)
    time.sleep(0.8)
    assert client.progress(short).phase == "running"
    bench.let("go")
    assert wait(client, short).phase == "done"


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("die", "exit code 3. Its last words: a last word"),
        ("babble", "no message: this is no message"),
        ("lost", "the device was lost"),
    ],
)
def test_a_worker_that_breaks_takes_only_its_run(bench, prompt, told):
    client = bench.client()
    broken, behind = client.submit(ask(prompt)), client.submit(ask("next"))
    ended = wait(client, broken)
    assert ended.phase == "failed"
    assert told in ended.message
    assert wait(client, behind).phase == "done"
    again = client.submit(ask(prompt))  # a failure is nobody's answer
    assert client.progress(again).phase != "done"


def test_a_worker_that_cannot_be_started_fails_its_run_in_words(bench):
    client = AblationClient(["/no/such/python"], results=bench.store)
    ended = wait(client, client.submit(ask("x")))
    assert ended.phase == "failed"
    assert "cannot be started" in ended.message


def test_a_worker_that_does_not_read_holds_nobody_up(bench):
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    client = AblationClient(sleeping, results=bench.store)
    start = time.monotonic()
    ticket = client.submit(ask("x" * 1_000_000))  # more than a pipe holds
    client.submit(ask("y" * 1_000_000))
    assert client.progress(ticket).phase == "starting"
    client.cancel(ticket)
    client.close()
    assert time.monotonic() - start < 20


# ---------------------------------------------------------------- devices


def test_one_worker_per_device_and_each_keeps_to_what_it_has_loaded(bench):
    client = bench.client(devices=["x", "y"])
    first, second = client.submit(ask("hold a")), client.submit(ask("hold a", "right"))
    for ticket in (first, second):
        bench.begun(client, ticket)
    assert [client.progress(t).device for t in (first, second)] == ["x", "y"]
    assert len(set(client.workers)) == 2
    assert client.progress(client.submit(ask("third"))).words == "queued, 2 ahead"
    bench.let("a")
    wait(client, first), wait(client, second)
    for i in range(3):  # one at a time, so that both are free
        for name, device in (("right", "y"), ("left", "x")):
            assert wait(client, client.submit(ask(f"more {i}", name))).device == device
    assert {line.split()[-2:][0]: line.split()[-1] for line in bench.runs if "more" in line} == {
        "left": "x", "right": "y",
    }  # fmt: skip


# ---------------------------------------------------------------- the store


def key_of(request):
    bundle = paths.live_bundle(request.experiment_id) / "bundle.json"
    return Key(request.id, str(bundle.stat().st_mtime_ns), code_version())


def test_a_finished_request_is_answered_after_a_restart_without_a_worker(bench):
    client = bench.client()
    asked = ask("kept", layers=(1, 0), picked=((1, 3),), seed=4)
    first = wait(client, client.submit(asked))
    assert not first.stored
    client.close()
    later = AblationClient(["/no/such/python"], results=ResultStore(bench.store.folder))
    found = later.progress(later.submit(asked))
    assert (found.phase, found.stored) == ("done", True)
    assert found.result == first.result
    assert found.result.request == asked
    assert later.worker_id is None
    assert wait(later, later.submit(ask("kept", seed=5))).phase == "failed"


def test_a_result_of_another_bundle_or_other_code_is_no_answer(bench, root, monkeypatch):
    client = bench.client()
    wait(client, client.submit(ask("kept")))
    bundle = paths.live_bundle("left", root) / "bundle.json"
    before = bundle.stat()
    os.utime(bundle, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    wait(client, client.submit(ask("kept")))
    assert len(bench.runs) == 2
    os.utime(bundle, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setattr("lib.ablation.client.code_version", lambda: "other")
    wait(client, client.submit(ask("kept")))
    assert len(bench.runs) == 3


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text.replace('"running": 1.0', '"running": 2.0'), "not what was written"),
        (lambda text: "[]", "no result of format"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "no result of format"),
    ],
)
def test_damaged_files_are_named_and_skipped_and_made_again(bench, harm, told):
    asked, client = ask("kept"), bench.client()
    bench.store.put(Record(key_of(asked), asked.to_json(), {"request": {}}, 1.0, None))
    file = bench.store.folder / f"{key_of(asked).name}.json"
    file.write_text(harm(file.read_text()))
    assert wait(client, client.submit(asked)).phase == "done"
    assert bench.runs == ["kept left "]
    assert bench.store.damaged == ()  # the new result is in its place
    file.write_text(harm(file.read_text().replace('"running"', '"running": 1.0, "was"')))
    assert bench.store.get(key_of(asked)) is None
    (problem,) = bench.store.damaged
    assert str(file) in problem
    assert "delete it" in problem
    assert told in problem or told == "not what was written"


def test_the_store_keeps_its_size_by_dropping_the_oldest(tmp_path):
    store = ResultStore(tmp_path, limit=3000)
    for i in range(6):
        request = ask(f"prompt {i}").to_json()
        store.put(Record(Key(f"{i:012x}", "s", "c"), request, {"text": "x" * 500}, 1.0, None))
        os.utime(next(tmp_path.glob(f"{i:012x}-*")), (1000 + i, 1000 + i))
    kept = [record.key.request for record in store.recent(10)]
    assert kept == [f"{i:012x}" for i in range(6)][-len(kept) :]
    assert 2 <= len(kept) < 6
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 3000
    store.put(Record(Key("f" * 12, "s", "c"), {}, {"text": "x" * 9000}, 1.0, None))
    assert [record.key.request for record in store.recent(10)] == ["f" * 12]  # never the newest


def test_abandoned_halves_are_swept_and_never_read(tmp_path):
    half = tmp_path / ".0123-45.json.1-2.building"
    half.write_text("{")
    store = ResultStore(tmp_path)
    assert store.recent(5) == []
    assert store.damaged == ()
    os.utime(half, (1000, 1000))
    store.put(Record(Key("0" * 12, "s", "c"), {}, {}, 1.0, None))
    assert [f.name for f in tmp_path.iterdir()] == [f"{Key('0' * 12, 's', 'c').name}.json"]


def test_numbers_survive_the_disk_bit_for_bit(tmp_path):
    store, key = ResultStore(tmp_path), Key("0" * 12, "s", "c")
    values = [0.1 + 0.2, -0.0, 5e-324, 1e308, float("nan"), float("-inf"), 3]
    store.put(Record(key, {}, {"values": values}, 1.0, 2.0))
    assert repr(store.get(key).result["values"]) == repr(values)
    assert store.get(key).loading == 2.0


def test_a_result_that_cannot_be_stored_still_reaches_its_viewer(bench):
    blocked = bench.folder / "a file"
    blocked.write_text("")
    client = bench.client(results=ResultStore(blocked / "inside"))
    ended = wait(client, client.submit(ask("x")))
    assert ended.phase == "done"
    assert "could not be stored" in ended.note


# ---------------------------------------------------------------- replays


def test_a_replay_agrees_or_names_what_differs(bench):
    client = bench.client()
    asked = ask("kept")
    wait(client, client.submit(asked))
    again = wait(client, client.replay(asked.id))
    assert again.replay.agrees
    assert again.replay.changed == ()
    assert "bit for bit" in again.replay.words
    assert len(bench.runs) == 2  # it did run
    record = bench.store.get(key_of(asked))
    stored = json.loads(json.dumps(record.result))
    stored["clamped"]["kl"] += 0.25
    stored["seconds"] = [["base", 99.0]]  # a wall time is no difference
    bench.store.put(record._replace(result=stored))
    other = wait(client, client.replay(asked.id)).replay
    assert not other.agrees
    assert (other.count, other.largest) == (1, pytest.approx(0.25))
    assert other.differences[0].startswith("clamped.kl: ")
    assert bench.store.get(key_of(asked)).result == stored  # the evidence is not overwritten


def test_a_replay_says_what_has_changed_since(bench):
    asked, client = ask("kept"), bench.client()
    wait(client, client.submit(asked))
    record = bench.store.get(key_of(asked))
    (bench.store.folder / f"{key_of(asked).name}.json").unlink()
    bench.store.put(record._replace(key=record.key._replace(code="older", stamp="1")))
    replay = wait(client, client.replay(asked.id)).replay
    assert replay.agrees
    assert replay.changed == ("the code or a library", "the live bundle")


def test_a_replay_of_nothing_is_refused(bench):
    client = bench.client()
    for name in ("0" * 12, "*", "../x"):
        with pytest.raises(AblationError, match="run the request first"):
            client.replay(name)


# ---------------------------------------------------------------- real workers


def plain(result):
    """A result without its wall times, as text: equal means bit for bit."""
    return json.dumps({k: v for k, v in result.to_json().items() if k != "seconds"})


@pytest.fixture(scope="module")
def client(root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
        folder = tmp_path_factory.mktemp("results")
        client = AblationClient(devices=["cpu", "cpu"], results=ResultStore(folder))
        yield client
        client.close()


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


def test_a_real_run_replays_bit_for_bit(client):
    asked = ask("Once more, and the same.", "right")
    wait(client, client.submit(asked))
    ended = wait(client, client.replay(asked.id))
    assert ended.replay.agrees, ended.replay.words
    assert not ended.stored


def test_a_cancelled_real_run_leaves_the_next_one_right(client, sessions):
    first = client.submit(ask("To be cancelled. " * 12))
    wait(client, first, lambda p: p.phase == "running" or p.finished)
    client.cancel(first)
    after = ask("After a cancelled one.")
    assert plain(wait(client, client.submit(after)).result) == plain(
        ablation.run(after, sessions["left"])
    )


FAULTY = """
import os, torch
from lib.ablation import worker
real = worker.run

def run(request, session, progress):
    fault = request.prompt.split(":")[0]
    def report(stage, *rest):
        progress(stage, *rest)
        if stage != "clamped":
            return
        if fault == "full":
            torch.empty(1 << 55)
        if fault == "gpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        if fault == "python":
            bytearray(1 << 60)
        if fault == "abort":
            os.abort()
        if fault == "bug":
            [][0]
    return real(request, session, progress=report)

worker.run = run
worker.main()
"""


@pytest.fixture(scope="module")
def faulty(root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
        folder = tmp_path_factory.mktemp("results")
        client = AblationClient([sys.executable, "-c", FAULTY], results=ResultStore(folder))
        yield client
        client.close()


@pytest.mark.parametrize(
    ("fault", "told", "lives"),
    [
        ("full", "Out of memory (clamped): shorten the prompt", True),
        ("gpu", "Out of memory (clamped): shorten the prompt", True),
        ("python", "Out of memory (clamped): shorten the prompt", True),
        ("abort", "a library gave up", False),
        ("bug", "IndexError", False),
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


def test_memory_of_a_run_that_ran_out_is_free_before_the_next(tmp_path, monkeypatch):
    held = []

    def run(request, session, progress):
        tensor = torch.zeros(1000)
        loop = [tensor]
        loop.append(loop)  # a cycle, which only the collector frees
        held.append(weakref.ref(tensor))
        raise MemoryError

    monkeypatch.setattr(worker_module, "run", run)
    with (tmp_path / "out").open("w+") as out:
        worker = Worker(out)
        assert worker.answer({"ticket": "t", "request": ask().to_json()})
        assert held[0]() is None
        assert worker._sessions.loaded == []
        out.seek(0)
        said = [json.loads(line) for line in out]
    assert [m["event"] for m in said] == ["stage", "failed"]
    assert said[-1]["message"].startswith("Out of memory (loading the model): ")


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


def test_a_lost_device_ends_the_worker_after_its_last_word(tmp_path, monkeypatch):
    def run(request, session, progress):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(worker_module, "run", run)
    with (tmp_path / "out").open("w+") as out:
        assert not Worker(out).answer({"ticket": "t", "request": ask().to_json()})
        out.seek(0)
        last = json.loads(out.readlines()[-1])
    assert last["ending"] is True


def test_threads_that_submit_join_and_leave_at_random_lose_nothing(bench):
    client, lock, ends = bench.client(devices=["x", "y"]), threading.Lock(), []

    def one(i):
        ticket = client.submit(ask(f"prompt {i % 5}"), viewer=str(i))
        if i % 3 == 0:
            client.release(ticket, cancel=i % 2 == 0)
        ended = wait(client, ticket)
        with lock:
            ends.append((i, ended))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(60)))
    assert len(ends) == 60
    for i, ended in ends:
        if ended.phase == "done":
            assert ended.result.request.prompt == f"prompt {i % 5}"
        else:
            assert (ended.phase, i % 6) == ("cancelled", 0)
