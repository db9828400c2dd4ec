"""What a user sees: without an endpoint, with one, and of stored runs and labels."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from lib.llm import labels, truth, windows
from lib.llm.agent import investigate
from lib.llm.conditions import Condition
from lib.llm.grader import grade
from lib.llm.settings import KEY, MODEL, URL
from tests.llm import scripted, small
from tests.llm.small import CORPUS, EXPERIMENT, graded, said

EVIL = "<script>alert(1)</script> [x](javascript:1) `$\\alpha$"


def _agent(experiment_id):
    from lib.ui import agent

    agent.show(experiment_id)


def _labels(experiment_id):
    from lib.ui import labels

    labels.show(experiment_id, 1)
    labels.show_one(experiment_id, 1, 3)
    labels.show_one(experiment_id, 1, 999)


def seen(view, experiment_id=EXPERIMENT):
    page = AppTest.from_function(view, args=(experiment_id,), default_timeout=60).run()
    assert not page.exception
    return page


def texts(page):
    kinds = (page.info, page.markdown, page.caption, page.warning, page.code, page.subheader)
    return "\n".join(str(one.value) for kind in kinds for one in kind)


@pytest.fixture
def stored(small_store):
    """Two runs: one right with a question, one abstention."""
    subject = small.subject_of(small_store)

    def script(asked, n):
        if asked.body["messages"][0]["content"].startswith("You grade"):
            return graded("general")
        turns = len(asked.body["messages"])
        if asked.body["seed"] == 1:
            return said("", 0.0, abstain=True)
        return '{"query": "Who are you?"}' if turns == 2 else said(EVIL, 0.7, evidence=(EVIL,))

    with small.desk(script) as (desk, _):
        for repeat in range(2):
            done = investigate(
                desk, subject, Condition("lens", 5), lambda p: (EVIL, "tuned"), repeat=repeat
            )
            grade(desk, done, truth.known(CORPUS), repeats=3)


def test_without_endpoint_and_runs(small_store):
    told = texts(seen(_agent))
    for part in ("It is off", "INSIDEOUT_LLM_URL", "--consent", "No run of the agent is stored"):
        assert part in told


def test_stored_runs_are_shown_without_an_endpoint(stored):
    page = seen(_agent)
    told = texts(page)
    assert "It is off" in told
    assert (
        "**Lens and 5 questions**, `m`: the right domain in 50 % of 2 runs (95 %: 9 to 91 %) on 1"
        in told
    )
    assert "1 general, 1 abstention" in told and "one grader only" in told
    (frame,) = page.dataframe
    rows = frame.value.to_dict("records")
    assert [row["category"] for row in rows] == ["general", "abstention"]
    assert rows[0]["domain"] == EVIL and rows[0]["grades"] == "m: general, general, general"
    assert [row["queries"] for row in rows] == [1, 0] and rows[0]["tokens"] == 5 * 60


def test_the_transcript_holds_every_message_and_none_of_it_is_markup(stored):
    page = seen(_agent)
    page.selectbox[0].select(page.selectbox[0].options[1]).run()
    assert not page.exception
    said_in_code = [block.value for block in page.code]
    assert any("Who are you?" in text for text in said_in_code)
    assert any(text.startswith(f"base: {EVIL}\n\ntuned: tuned") for text in said_in_code)
    assert any("`lens`" in text for text in said_in_code)
    for block in page.markdown:
        assert EVIL not in block.value
    assert not [block for block in page.markdown if block.allow_html]


def test_runs_of_other_experiments_are_counted(stored):
    assert "None of the 2 stored runs is about this experiment" in texts(seen(_agent, "other"))


def test_with_an_endpoint_consent_comes_first(monkeypatch, small_store):
    with scripted.serving(lambda a, n: said()) as service:
        for name, value in ((URL, service.url), (MODEL, "m"), (KEY, scripted.KEY)):
            monkeypatch.setenv(name, value)
        page = seen(_agent)
        told = texts(page)
        assert "This is sent to 127.0.0.1" in told and scripted.KEY not in told
        assert page.button(key="agent:start").disabled
        page.checkbox[0].check().run()
        assert not page.button(key="agent:start").disabled
    assert service.asked == []


def test_labels(small_store):
    told = texts(seen(_labels))
    assert "No feature here has a machine label" in told and "INSIDEOUT_LLM_URL" in told
    with small.opened(small_store) as store:
        found = [windows.of_feature(store, EXPERIMENT, 1, n) for n in (3, 7)]

    def script(asked, n):
        user = asked.body["messages"][1]["content"]
        if user.startswith("Label:"):
            return json.dumps({"matches": [1, 2]})
        return json.dumps({"label": f"{('first', 'second')[n]} {EVIL}"})

    with small.desk(script, purpose="label") as (desk, _):
        labels.make(desk, EXPERIMENT, 1, found)
    page = seen(_labels)
    told = texts(page)
    assert "Over 2 features the labels reach" in told and "not a reviewer's" in told
    assert "Machine label: `first <script>" in told and "999" not in told
    assert page.dataframe[0].value["latent"].to_list() == [3, 7]
    page.text_input[0].input("SECOND").run()
    assert page.dataframe[0].value["latent"].to_list() == [7]
    page.text_input[0].input("virtue").run()
    assert "None of the 2 labels" in texts(page) and not page.dataframe
