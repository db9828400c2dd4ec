"""The queue with a stand-in worker: joining, leaving, time limits, estimates, failures, devices."""

import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.ablation import AblationError
from lib.ablation.client import AblationClient
from lib.ablation.generate import GenerateRequest
from lib.ablation.jobs import Run
from lib.ablation.lane import devices_asked
from lib.ablation.results import Key
from lib.ablation.timings import Estimate, Timings
from tests.ablation.stand_in import PATIENCE, ask, bench, key_of, record, wait

__all__ = ["bench"]

KEY = Key("ablation", "0" * 12, "b", "c")


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


# ---------------------------------------------------------------- closed browsers


def test_a_viewer_who_is_gone_cancels_or_detaches_by_choice(bench):
    client = bench.client(absent=0.4)
    kept = client.submit(ask("hold kept"), if_gone="detach")
    dropped = client.submit(ask("hold dropped"), if_gone="cancel")
    changed = client.submit(ask("hold changed"), if_gone="cancel")
    client.choose(changed, "detach")
    watched = client.submit(ask("hold watched"), if_gone="cancel")
    end = time.monotonic() + 1.5
    while time.monotonic() < end:  # only one of them is still looked at
        assert client.progress(watched).phase == "queued"
        time.sleep(0.05)
    assert client.progress(dropped).phase == "cancelled"
    for name in ("kept", "changed", "watched"):
        bench.let(name)
    assert [wait(client, t).phase for t in (kept, changed, watched)] == ["done"] * 3
    assert [line.split()[1] for line in bench.runs] == ["kept", "changed", "watched"]


def test_a_running_run_of_a_closed_browser_stops_and_frees_its_worker(bench):
    client = bench.client(absent=0.3)
    client.submit(ask("hold never"), if_gone="cancel")
    behind = client.submit(ask("next"))
    assert wait(client, behind).phase == "done"


def test_coming_back_takes_up_a_run_that_went_on(bench):
    client = bench.client(absent=0.2)
    left = client.submit(ask("hold never"), viewer="a")
    bench.begun(client, left)
    time.sleep(0.6)
    back = client.submit(ask("hold never"), viewer="a")
    assert len(bench.runs) == 1
    client.cancel(back)
    assert wait(client, left).phase == "cancelled"


# ---------------------------------------------------------------- progress, events, estimates


def test_progress_counts_parts_and_hands_other_events_on(bench):
    client = bench.client()
    first = client.submit(ask("draws go"))
    seen = wait(client, first, lambda p: p.done == 3)
    assert (seen.stage, seen.total, seen.words) == ("control", 4, "running: control, 3 of 4")
    wait(client, first, lambda p: len(client.events(first)) == 3)
    assert client.progress(first).eta.startswith("at least ")  # of this stage, at its pace
    late = client.submit(ask("draws go"))
    told = {"event": "condition", "name": "gaussian"}
    expected = [{**told, "condition": {"kl": 0.5 * i}, "number": i} for i in range(3)]
    assert client.events(first) == client.events(late) == expected
    assert client.events(first, after=1) == expected[2:]
    bench.let("go")
    wait(client, late)
    assert client.events("no such ticket") == []


def test_what_is_left_of_a_stage_falls_while_nothing_new_is_said(bench, monkeypatch):
    run = Run(KEY, ask())
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    run.hear({"event": "stage", "stage": "treated", "done": 0, "total": 14})
    assert run.pace is None
    seen = []
    for seconds, done in ((26.0, 13), (1.0, None), (0.9, None), (30.0, None)):
        clock[0] += seconds
        if done:
            run.hear({"event": "stage", "stage": "treated", "done": done, "total": 14})
        seen.append(run.pace.low)
    assert seen == pytest.approx([2.0, 1.0, 0.1, 0.0])
    assert run.pace.words == "at least 1 s"


def test_who_opens_the_address_again_sees_how_long_it_has_been_going(bench):
    client = bench.client()
    first = client.submit(ask("hold go"), viewer="a")
    bench.begun(client, first)
    time.sleep(0.5)
    again = client.submit(ask("hold go"), viewer="another browser")
    assert client.progress(again).seconds >= 0.5
    bench.let("go")
    wait(client, again)
    assert client.progress(client.submit(ask("hold go"))).seconds < 0.5  # an answer that is there


def test_who_is_next_is_told_of_a_cancelled_run_that_has_not_stopped(bench):
    client = bench.client(grace=20.0)
    held = client.submit(ask("stubborn go"))
    bench.begun(client, held)
    following, last = client.submit(ask("next")), client.submit(ask("last"))
    assert client.progress(following).words == "queued, 1 ahead"
    client.cancel(held)
    told = client.progress(following)
    assert 15 < told.stopping <= 20
    assert re.fullmatch(r"waiting for a cancelled run to stop, at most (1\d|20) s more", told.words)
    assert client.progress(last).words == "queued, 2 ahead"
    bench.let("go")
    assert wait(client, last).phase == wait(client, following).phase == "done"


def test_a_cancelled_run_keeps_what_it_had_told(bench):
    client = bench.client()
    ticket = client.submit(ask("draws never"))
    wait(client, ticket, lambda p: len(client.events(ticket)) == 3)
    client.cancel(ticket)
    assert client.progress(ticket).phase == "cancelled"
    assert [e["condition"]["kl"] for e in client.events(ticket)] == [0.0, 0.5, 1.0]


def test_estimates_are_ranges_of_what_was_measured_or_unknown(bench):
    client = bench.client()
    first = client.submit(ask("aaaa"))
    assert client.progress(first).eta == "unknown"
    wait(client, first)
    held = client.submit(ask("hold go"), timeout=50.0)
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
        like = ask("x" * 10, seed=int(seconds), layers=(0, 1))
        times.add(record(like, key=KEY, running=seconds).about)
    times.add(record(ask("y" * 90, layers=(0, 1)), key=KEY, running=40.0, loading=7.0).about)
    asked = ask("z" * 20, layers=(0, 1), top=3, strength=0.5)
    assert times.running(asked) == Estimate(2.0, 3.0, 2)
    assert times.running(ask("z" * 21, layers=(0, 1))) is None  # more than twice as long
    assert times.running(ask("z" * 10, layers=(1,))) is None
    assert times.running(ask("z" * 10, layers=(0, 1), draws=21)) is None
    assert times.running(ask("", documents=("z" * 10,), layers=(0, 1))) is None
    assert times.running(ask("z" * 10, "right", layers=(0, 1))) is None
    written = GenerateRequest(ablation=asked)
    assert times.running(written) is None
    about = record(asked, key=KEY._replace(kind="generate"), running=1.5).about
    times.add(about._replace(request=written.to_json()))
    assert times.running(GenerateRequest(ablation=ask("w" * 10, layers=(0, 1)))).high == 1.5
    assert times.running(GenerateRequest(ablation=asked, max_new_tokens=41)) is None
    assert times.both(asked, loaded=False) == Estimate(9.0, 10.0, 1)
    assert Estimate(2.0, 3.0, 2).after(2.5) == Estimate(0.0, 0.5, 2)
    assert Estimate(2.0, 3.0, 2).after(3.1) is None
    assert Estimate(2.2, 8.6, 2).words == "2 to 9 s"
    assert Estimate(3.9, 4.1, 2).words == "about 4 s"


def test_estimate_of_a_queued_request_is_that_of_all_before_it(bench):
    for seed, seconds in enumerate((10.0, 20.0)):
        known = record(ask("known", seed=seed), running=seconds, loading=5.0)
        bench.store.put(known)
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
    assert "(treated)" in ended.message
    worker = client.worker_id
    assert wait(client, behind).phase == "done"
    assert client.worker_id == worker  # it listened, so it still lives


def test_a_worker_that_does_not_react_is_killed_and_replaced(bench):
    client = bench.client(timeout=0.5, grace=0.2)
    slow, behind = (
        client.submit(ask("stubborn never")),
        client.submit(ask("next"), timeout=PATIENCE),
    )
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
        ("half", "answer cannot be read: KeyError('made')"),
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
    third = client.submit(ask("third"))
    assert client.progress(third).words == "queued, 2 ahead"
    bench.let("a")
    wait(client, first), wait(client, second), wait(client, third)
    for i in range(3):  # one at a time, so that both are free
        for name, device in (("right", "y"), ("left", "x")):
            assert wait(client, client.submit(ask(f"more {i}", name))).device == device
    assert {line.split()[-2:][0]: line.split()[-1] for line in bench.runs if "more" in line} == {
        "left": "x", "right": "y",
    }  # fmt: skip


def test_devices_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("INSIDEOUT_DEVICES", raising=False)
    assert devices_asked() == (None,)
    monkeypatch.setenv("INSIDEOUT_DEVICES", "cuda:0, cuda:1,")
    assert devices_asked() == ("cuda:0", "cuda:1")
    assert len(AblationClient(["/no/such/python"]).workers) == 2


# ---------------------------------------------------------------- requests that are refused


def test_what_cannot_be_queued_is_refused_and_leaves_no_trace(bench, monkeypatch):
    client = bench.client()
    for timeout in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(AblationError, match="seconds above 0"):
            client.submit(ask("x"), timeout=timeout)
    for name in ("none", "../left", ""):
        with pytest.raises(AblationError, match="no live bundle"):
            client.submit(ask("x", name))
    monkeypatch.setattr("lib.ablation.client.WAITING", 1)
    running = client.submit(ask("hold go"))
    queued = client.submit(ask("one"))
    with pytest.raises(AblationError, match="come back in a while"):
        client.submit(ask("two"))
    client.submit(ask("one"))  # joins
    bench.let("go")
    assert wait(client, queued).phase == wait(client, running).phase == "done"
    assert len(bench.runs) == 2
    assert client.progress("no such ticket").phase == "failed"


def test_a_request_of_no_known_kind_is_refused(bench):
    class Odd:
        experiment_id, id = "left", "0" * 12

        def to_json(self):
            return {}

    with pytest.raises(AblationError, match=r"no worker answers .*Odd; there are ablation"):
        bench.client().submit(Odd())


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
