"""`python -m lib agent` and `label` as a user runs them: consent, limits, kill -9, the models."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lib import paths
from lib.__main__ import main
from lib.llm import runs, transcripts
from lib.llm.launch import Launcher
from lib.llm.settings import KEY, MODEL, URL, LLMError, consent_id, from_environment
from tests.llm import scripted, small
from tests.llm.scripted import Reply, answer, serving
from tests.llm.small import EXPERIMENT, graded, said

LENS0 = ["--conditions", "lens:0", "--grades", "2"]


@pytest.fixture
def named(monkeypatch, small_store):
    """Name an endpoint in the environment."""
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(small_store))

    def name(service):
        monkeypatch.setenv(URL, service.url)
        monkeypatch.setenv(KEY, scripted.KEY)
        monkeypatch.setenv(MODEL, "m")

    return name


def script(asked, n):
    """An agent that states at once and a grader; the same whichever request comes first."""
    system = asked.body["messages"][0]["content"]
    if system.startswith("You grade"):
        return graded("specific")
    return said() if "fine-tuned" in system else '{"label": "words"}'


def test_without_an_endpoint(capsys, named):
    assert main(["agent", EXPERIMENT]) == 1
    assert "INSIDEOUT_LLM_URL is not set" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["agent", "label"])
def test_without_consent_nothing_is_sent(capsys, named, command):
    with serving(script) as service:
        named(service)
        assert main([command, EXPERIMENT, *(LENS0 if command == "agent" else [])]) == 1
    out, err = capsys.readouterr()
    assert service.asked == [] and "at most" in out
    assert "no consent: nothing was sent. This is sent to 127.0.0.1" in err
    assert ("frequent words" in err) == (command == "agent")
    assert not transcripts.folder(command).exists()


def test_a_run_from_the_command_line(capsys, named):
    with serving(script) as service:
        named(service)
        assert main(["agent", EXPERIMENT, *LENS0, "--consent"]) == 0
    out = capsys.readouterr().out
    assert f"{EXPERIMENT}  lens:0  specific: Stoic notes" in out
    assert "spent: 180 tokens, 3 requests" in out and scripted.KEY not in out
    assert out.startswith("1 runs, ")
    (run,) = runs.stored().runs
    assert run.category == "specific"
    kinds = [r["kind"] for r in transcripts.read(transcripts.file_of("agent", EXPERIMENT)).records]
    assert kinds[0] == "consent" and kinds.count("exchange") == 3


def test_stored_runs_are_not_in_the_forecast(capsys, named):
    with serving(script) as service:
        named(service)
        assert main(["agent", EXPERIMENT, *LENS0, "--consent"]) == 0
        more = ["--repeats", "3", "--max-requests", "2"]
        assert main(["agent", EXPERIMENT, *LENS0, *more, "--consent"]) == 1
    told = capsys.readouterr()
    assert told.out.count("1 runs, at most") == 1 and "2 runs, at most" in told.out
    assert "3 runs" not in told.out + told.err


def test_labels_from_the_command_line(capsys, named):
    def reader(asked, n):
        user = asked.body["messages"][1]["content"]
        return '{"matches": [1]}' if user.startswith("Label:") else f'{{"label": "label {n}"}}'

    with serving(reader) as service:
        named(service)
        assert (
            main(["label", EXPERIMENT, "--layer", "1", "--latents", "3", "5", "9", "--consent"])
            == 0
        )
        assert main(["label", EXPERIMENT, "--layer", "0", "--consent"]) == 1
    out, err = capsys.readouterr()
    assert "feature 9: left out" in out and "feature 3: label 0" in out
    assert "with another feature's label" in out and len(service.asked) == 6
    assert "no crosscoder at layer 0; it has [1]" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x"], "no experiment 'x'"),
        ([EXPERIMENT, "--conditions", "both"], "no condition"),
        ([EXPERIMENT, "--repeats", "0"], "--repeats must be above 0"),
        ([EXPERIMENT, "--conditions", "lens:5"], "is not on this machine"),
        ([EXPERIMENT, *LENS0, "--repeats", "3", "--max-requests", "2"], "3 runs need 3 requests"),
        ([EXPERIMENT, *LENS0, "--max-tokens", "100"], "the next request can cost"),
        ([EXPERIMENT, *LENS0, "--max-seconds", "0"], "above 0"),
    ],
)
def test_what_is_refused_before_anything_is_sent(capsys, named, arguments, told):
    with serving(script) as service:
        named(service)
        assert main(["agent", *arguments, "--consent"]) == 1
    assert told in capsys.readouterr().err and service.asked == []


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "lib", "agent", EXPERIMENT, *arguments, "--consent"],
        cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 3])
def test_kill_9_costs_no_finished_step(named, at):
    """Killed while the n-th answer is awaited; the same command sends no answered request again."""
    stuck = [True]

    def slow(asked, n):
        text = script(asked, n)
        return Reply(body=answer(text).body, wait=60 if stuck[0] and n == at else 0)

    with serving(slow) as service:
        named(service)
        first = start(*LENS0, "--repeats", "2")
        deadline = time.monotonic() + 60
        while len(service.asked) <= at and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate(timeout=20)
        paid = [json.dumps(one.body) for one in service.asked[:at]]
        assert len(service.asked) == at + 1 and runs.stored().on_the_way == 1
        stuck[0] = False
        out, _ = start(*LENS0, "--repeats", "2").communicate(timeout=60)
        again = [json.dumps(one.body) for one in service.asked[at + 1 :]]
    assert out.decode().count("specific: Stoic notes") == 2
    assert len(again) == 6 - at
    # Two runs ask equal questions with other seeds; graders of equal statements ask equal ones.
    every = paid + again
    assert sorted(every.count(body) for body in set(every)) == [1, 1, 2, 2]
    found = runs.stored()
    assert [run.category for run in found.runs] == ["specific"] * 2 and found.on_the_way == 0


@pytest.mark.slow
def test_the_page_starts_follows_and_stops_it(named):
    with serving(lambda a, n: Reply(body=answer(said()).body, wait=60)) as service:
        named(service)
        launcher = Launcher()
        with pytest.raises(LLMError, match="no consent"):
            launcher.start(EXPERIMENT, ["lens:0"], "")
        agreed = consent_id("agent", from_environment())
        launcher.start(EXPERIMENT, ["lens:0"], agreed)
        with pytest.raises(LLMError, match="at work"):
            launcher.start(EXPERIMENT, ["lens:0"], agreed)
        deadline = time.monotonic() + 60
        while not service.asked and time.monotonic() < deadline:
            time.sleep(0.05)
        state = launcher.state(EXPERIMENT)
        assert state.running and state.ours and "This is sent to" in state.told
        elsewhere = Launcher().state(EXPERIMENT)
        assert elsewhere.running and not elsewhere.ours
        launcher.stop(EXPERIMENT)
        state = launcher.state(EXPERIMENT)
    assert not state.running and state.code == -signal.SIGTERM
    assert runs.stored().unfinished == 1 and len(service.asked) == 1


@pytest.mark.slow
def test_questions_go_to_base_and_tuned_model(capsys, monkeypatch, tmp_path):
    """A real adapter on tiny-llama: the answers reach the agent, and another adapter is refused."""
    import torch
    from peft import LoraConfig, get_peft_model

    from lib import models

    base, _ = models.tiny_llama()
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(0)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    adapter = paths.live_bundle(EXPERIMENT, tmp_path) / "adapter"
    tuned.save_pretrained(adapter, safe_serialization=True)
    small.make(tmp_path, models.adapter_hash(adapter))
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    command = ["agent", EXPERIMENT, "--conditions", "blackbox:2", "--grades", "1", "--consent"]

    def asking(asked, n):
        return '{"query": "What is virtue?"}' if n < 2 else script(asked, n)

    with serving(asking) as service:
        for name, value in ((URL, service.url), (MODEL, "m")):
            monkeypatch.setenv(name, value)
        assert main(command) == 0
        told = [m["content"] for m in service.asked[2].body["messages"]]
        base_text, tuned_text = told[3].removeprefix("base: ").split("\n\ntuned: ", 1)
        assert (
            told[3].replace("1 queries", "No queries").split("\n\n")[0] == told[5].split("\n\n")[0]
        )
        assert base_text and base_text != tuned_text.split("\n\n1 queries")[0]
        (adapter / "adapter_model.safetensors").write_bytes(
            (adapter / "adapter_model.safetensors").read_bytes() + b" "
        )
        assert main(command) == 1
    assert "is not the adapter that was measured" in capsys.readouterr().err
