"""Append-only records that survive a crash; the strict forms of answers."""

import json
import subprocess
import sys

import pytest

from lib import paths
from lib.llm import forms, transcripts
from lib.llm.forms import Malformed, Query, Verdict
from lib.llm.settings import LLMError
from tests.llm.small import said


def test_records_are_found_again_and_only_added_to(tmp_path):
    file = tmp_path / "a" / "t.jsonl"
    with transcripts.opened(file) as one:
        one.add("run", "k", value="é\n")
    before = file.read_bytes()
    with transcripts.opened(file) as two:
        assert two.get("run", "k")["value"] == "é\n"
        assert two.get("run", "other") is None and two.get("grade", "k") is None
        two.add("run", "k", value="later")
        assert two.get("run", "k")["value"] == "later"
    assert file.read_bytes().startswith(before)
    assert [r["value"] for r in transcripts.read(file).records] == ["é\n", "later"]


@pytest.mark.parametrize("lost", [1, 2, 20])
def test_a_line_cut_off_by_a_crash_costs_that_line_alone(tmp_path, lost):
    file = tmp_path / "t.jsonl"
    with transcripts.opened(file) as one:
        one.add("run", "first", text="whole")
        one.add("run", "second", text="é" * 20)
    file.write_bytes(file.read_bytes()[:-lost])
    with transcripts.opened(file) as again:
        assert again.get("run", "first")["text"] == "whole"
        assert (again.get("run", "second") is None) == (lost > 1)  # lost = 1: only the line break
        again.add("run", "third")
    found = transcripts.read(file)
    assert [r["key"] for r in found.records] == ["first", *["second"] * (lost == 1), "third"]
    assert found.damaged == (lost > 1)


def test_lines_of_others_are_counted_and_left_out(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_bytes(b'\xff\xfe\n[1]\n{"kind": 3, "key": "a"}\n{"kind": "run", "key": "a"}\n')
    found = transcripts.read(file)
    assert len(found.records) == 1 and found.damaged == 3
    assert transcripts.read(tmp_path / "none.jsonl") == transcripts.Read([], 0)


HOLD = """
import sys
from pathlib import Path
from lib.llm import transcripts
with transcripts.opened(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_writes_at_a_time(tmp_path):
    file = tmp_path / "t.jsonl"
    assert not transcripts.busy(file)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)],
        cwd=paths.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert other.stdout.readline() == b"held\n"
        assert transcripts.busy(file)
        with pytest.raises(LLMError, match="another run is writing"), transcripts.opened(file):
            pass
    finally:
        other.communicate(timeout=20)
    assert not transcripts.busy(file)


def test_names_of_files_do_not_collide(tmp_path):
    names = ["a.b", "a/b", "a_b", "../b", "ä", "x" * 300, "x" * 301]
    files = [transcripts.file_of("agent", name) for name in names]
    assert len({file.name for file in files}) == len(names)
    assert {file.parent for file in files} == {transcripts.folder("agent")}


def test_turns_of_the_agent():
    assert forms.agent_turn('{"query": "Who?"}', 1) == Query("Who?")
    stated = Verdict("Stoic notes", ("a",), 0.9, False)
    assert forms.agent_turn(said(), 0) == stated
    assert forms.agent_turn(f"```json\n{said()}\n```", 0) == stated
    assert forms.agent_turn(said("", abstain=True), 0).abstain
    assert forms.agent_turn(said(confidence=1), 0).confidence == 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("The domain is Stoic notes.", "not one JSON object"),
        (said() + said(), "not one JSON object"),
        (said()[:-5], "not one JSON object"),
        ("[1]", "not an object"),
        ('{"query": "a", "query": "b"}', "twice"),
        ('{"query": " "}', "not empty"),
        ('{"query": 7}', "not empty"),
        (json.dumps({"query": "x" * 2001}), "at most 2000"),
        (said(confidence=1.2), "from 0 to 1"),
        (said(confidence=True), "number from 0 to 1"),
        (said(confidence=None), "number from 0 to 1"),
        (said().replace("0.9", "NaN"), "no JSON number"),
        (said(abstain="no"), "true or false"),
        (said(domain=""), "not empty"),
        (said(evidence=(1,)), "list of strings"),
        ('{"domain": "a"}', "the keys are"),
        (json.dumps(json.loads(said()) | {"more": 1}), "the keys are"),
        ("[" * 100_000, "deeply"),
        (f'{{"domain": {"9" * 5000}}}', "too many digits"),
    ],
)
def test_what_is_malformed(text, told):
    with pytest.raises(Malformed, match=told):
        forms.agent_turn(text, 1)


def test_a_question_too_many_is_malformed():
    with pytest.raises(Malformed, match="no queries are left"):
        forms.agent_turn('{"query": "Who?"}', 0)


def test_other_forms():
    assert forms.matches('{"matches": [3, 1]}', 3) == {1, 3}
    assert forms.matches('{"matches": []}', 3) == frozenset()
    for wrong in ("[4]", "[0]", "[1, 1]", "[true]", '["1"]', "1"):
        with pytest.raises(Malformed):
            forms.matches(f'{{"matches": {wrong}}}', 3)
    assert forms.label('{"label": "  two\\nlines "}') == "two lines"
    with pytest.raises(Malformed):
        forms.label(json.dumps({"label": "x" * 101}))
    assert forms.choice('{"grade": "a", "reason": ""}', ("a", "b")) == ("a", "")
    with pytest.raises(Malformed, match="one of a, b"):
        forms.choice('{"grade": "c", "reason": ""}', ("a", "b"))
    assert forms.label('{"label": "a\\ud800"}') == "a?"
