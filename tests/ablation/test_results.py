"""Stored results: answered after a restart, ignored when damaged or of other code, replayed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from lib import paths
from lib.ablation import AblationError
from lib.ablation.client import AblationClient
from lib.ablation.results import About, Key, Record, ResultStore
from lib.ablation.versions import bundle_hash, code_version, libraries
from tests.ablation.stand_in import ask, bench, key_of, record, wait

__all__ = ["bench"]

KEY = Key("ablation", "0" * 12, "b", "c")


def stored(key, result, at=0.0):
    return Record(About(key, "left", {"seed": 1}, {}, 1.0, 2.0, at), result)


def file_of(store, key):
    return store.folder / f"{key.name}.result"


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
    assert found.made == first.made
    assert found.made["bundle"] == key_of(asked).bundle
    assert later.worker_id is None
    assert wait(later, later.submit(ask("kept", seed=5))).phase == "failed"


def test_a_result_of_another_bundle_or_other_code_is_no_answer(bench, monkeypatch):
    client = bench.client()
    asked = ask("kept")
    wait(client, client.submit(asked))
    bundle = paths.live_bundle("left")
    before = bundle_hash(bundle)
    (bundle / "bundle.json").touch()  # another time, the same contents
    assert bundle_hash(bundle) == before
    wait(client, client.submit(asked))
    assert len(bench.runs) == 1
    (bundle / "layer_00.safetensors").write_bytes(b"published anew")
    assert bundle_hash(bundle) != before
    bench.made_by(key_of(asked))
    wait(client, client.submit(asked))
    assert len(bench.runs) == 2
    monkeypatch.setattr("lib.ablation.client.code_version", lambda: "other")
    wait(client, client.submit(asked))
    assert len(bench.runs) == 3
    assert bench.store.get(key_of(asked)._replace(bundle=before)) is not None  # and all are kept


def test_a_result_is_kept_under_what_the_worker_read_not_what_was_expected(bench):
    client = bench.client()
    asked, other = ask("kept"), key_of(ask("kept"))._replace(bundle="published meanwhile")
    bench.made_by(other)
    wait(client, client.submit(asked))
    assert bench.store.get(key_of(asked)) is None
    assert bench.store.get(other).about.request == json.loads(json.dumps(asked.to_json()))


def test_the_versions_name_what_computes():
    assert {"python", "torch", "nnsight", "peft"} <= libraries().keys()
    assert "absent" not in libraries().values()
    assert len(code_version()) == 16


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda data: data[: len(data) // 2], "torn or changed"),
        (lambda data: data.replace(b'"kl": 0.3', b'"kl": 0.2'), "torn or changed"),
        (lambda data: data.replace(b'"running": 1.0', b'"running": 2.0'), "torn or changed"),
        (lambda data: b"", "torn or changed"),
        (lambda data: b"\0" * len(data), "torn or changed"),
    ],
)
def test_damaged_files_are_ignored_with_a_note_and_made_again(bench, harm, told):
    asked = ask("kept")
    bench.store.put(record(asked))
    file = file_of(bench.store, key_of(asked))
    file.write_bytes(harm(file.read_bytes()))
    client = bench.client()
    ended = wait(client, client.submit(asked))
    assert (ended.phase, ended.stored) == ("done", False)
    assert bench.runs == ["kept left "]
    assert str(file) in ended.note
    assert told in ended.note
    assert "run its request again" in ended.note
    assert bench.store.damaged == ()  # the new result is in its place
    assert bench.client().progress(bench.clients[-1].submit(asked)).stored


def test_a_result_of_another_request_or_program_is_ignored(tmp_path):
    store, other = ResultStore(tmp_path), KEY._replace(request="1" * 12)
    store.put(stored(KEY, {}))
    file_of(store, KEY).rename(file_of(store, other))
    assert store.get(other) is None
    assert f"it holds the result of {KEY.name}" in store.damage(other)
    assert store.recent(9) == []
    old = stored(KEY, {})
    store.put(old._replace(about=old.about._replace(key=KEY)))
    lines = file_of(store, KEY).read_bytes().split(b"\n")
    assert len(lines) == 4  # three, and the end of the last
    assert json.loads(lines[1])["key"]["request"] == KEY.request


KILLED = """
import os, pathlib, signal, sys
from lib.ablation.results import About, Key, Record, ResultStore
real = os.fsync
def fsync(handle):
    real(handle)
    print("written", flush=True)
    signal.pause()
os.fsync = fsync
about = About(Key("ablation", "0" * 12, "b", "c"), "left", {"seed": 2}, {}, 1.0, 2.0, 0.0)
ResultStore(pathlib.Path(sys.argv[1])).put(Record(about, {"kl": 2}))
"""


def test_a_writer_that_is_killed_leaves_the_old_result_and_no_half(tmp_path):
    store = ResultStore(tmp_path)
    store.put(stored(KEY, {"kl": 1}))
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    (half,) = tmp_path.glob(".*.building")
    assert store.get(KEY).result == {"kl": 1}
    assert len(store.recent(5)) == 1
    assert store.damaged == ()
    os.utime(half, (1000, 1000))
    store.put(stored(KEY, {"kl": 3}))
    assert [f.name for f in tmp_path.iterdir()] == [f"{KEY.name}.result"]


def test_the_store_keeps_its_size_by_dropping_the_oldest(tmp_path):
    store = ResultStore(tmp_path, limit=3000)
    keys = [KEY._replace(request=f"{i:012x}") for i in range(6)]
    for i, key in enumerate(keys):
        store.put(stored(key, {"text": "x" * 500}))
        os.utime(file_of(store, key), (1000 + i, 1000 + i))
    kept = [about.key for about in store.recent(10)]
    assert kept == keys[-len(kept) :]
    assert 2 <= len(kept) < 6
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 3000
    store.put(stored(KEY._replace(request="f" * 12), {"text": "x" * 9000}))
    assert [about.key.request for about in store.recent(10)] == ["f" * 12]  # never the newest


def test_numbers_survive_the_disk_bit_for_bit(tmp_path):
    store = ResultStore(tmp_path)
    values = [0.1 + 0.2, -0.0, 5e-324, 1e308, float("nan"), float("-inf"), 3]
    store.put(stored(KEY, {"values": values}))
    assert repr(store.get(KEY).result["values"]) == repr(values)
    assert store.get(KEY).about == stored(KEY, {}).about


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
    first = bench.store.get(key_of(asked))
    changed = json.loads(json.dumps(first.result))
    changed["treated"]["kl"] += 0.25
    changed["seconds"] = [["base", 99.0]]  # a wall time is no difference
    bench.store.put(first._replace(result=changed))
    other = wait(client, client.replay(asked.id)).replay
    assert not other.agrees
    assert (other.count, other.largest) == (1, pytest.approx(0.25))
    assert other.differences[0].startswith("treated.kl: ")
    assert bench.store.get(key_of(asked)).result == changed  # the evidence is not overwritten


def test_a_replay_says_what_has_changed_since(bench):
    asked, client = ask("kept"), bench.client()
    wait(client, client.submit(asked))
    first = bench.store.get(key_of(asked))
    file_of(bench.store, key_of(asked)).unlink()
    key = first.about.key._replace(code="older", bundle="another")
    made = {"code": "older", "bundle": "another", "libraries": {"torch": "1.9"}, "device": "x"}
    bench.store.put(first._replace(about=first.about._replace(key=key, made=made)))
    replay = wait(client, client.replay(asked.id)).replay
    assert replay.agrees
    expected = ("the code", "the live bundle", "the device", "torch (1.9 -> 2.0)")
    assert replay.changed == expected
    assert replay.words.endswith("Changed since it was stored: " + ", ".join(expected) + ".")


def test_a_replay_of_nothing_or_of_an_unknown_question_is_refused(bench):
    client = bench.client()
    for name in ("0" * 12, "*", "../x"):
        with pytest.raises(AblationError, match="run the request first"):
            client.replay(name)
    odd = record(ask("kept"))
    bench.store.put(odd._replace(about=odd.about._replace(request={"colour": 3})))
    with pytest.raises(AblationError, match="fields that this code does not know"):
        client.replay(ask("kept").id)
