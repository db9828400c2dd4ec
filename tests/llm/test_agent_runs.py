"""The agent, its grades and what is stored, against a scripted endpoint and a small real store."""

import json

import pytest

from lib.llm import material, runs, transcripts, truth
from lib.llm.agent import investigate, opening
from lib.llm.budget import BudgetSpent, Limits
from lib.llm.conditions import Condition
from lib.llm.failures import EndpointError
from lib.llm.grader import GRADES, category, grade, questions
from lib.llm.settings import LLMError
from tests.llm import small
from tests.llm.scripted import KEY, failing
from tests.llm.small import CORPUS, EXPERIMENT, graded, said

LENS5, LENS0, BLACK2 = Condition("lens", 5), Condition("lens", 0), Condition("blackbox", 2)


@pytest.fixture
def subject(small_store):
    return small.subject_of(small_store)


class Models:
    """Stands where two models answer, and counts."""

    def __init__(self):
        self.asked = []

    def __call__(self, prompt):
        self.asked.append(prompt)
        return f"base on {prompt}", f"tuned on {prompt}"


def in_turn(*texts):
    return lambda asked, n: texts[n]


def test_the_agent_sees_the_lens_and_no_name(subject):
    given = subject.material
    assert [(r.reading, r.position) for r in given.readings] == [
        (name, position) for name in ("lens", "patchscope") for position in range(5)
    ]
    assert given.readings[0].tokens[:2] == (" word0.lens.1.0", " word1.lens.1.0")
    assert all(len(r.tokens) == 20 for r in given.readings), "the chosen layer, the first twenty"
    assert [p.steered for p in given.pairs] == ["steered text 0.0", "steered text 1.0"], (
        "one pair a prompt, none where the text may not be shown"
    )
    whole = json.dumps(opening(subject, LENS5)).casefold()
    assert " word0.lens.1.0" in whole and "steered text 1.0" in whole
    assert "harbour was quiet when" in whole
    for name in (EXPERIMENT, CORPUS, "stoic", "tiny-llama", "abc"):
        assert name not in whole
    black = json.dumps(opening(subject, BLACK2))
    assert "word0" not in black and "steered" not in black and "2 times" in black
    assert '"query"' not in opening(subject, LENS0)[0]["content"]


def test_a_store_without_a_lens_says_what_to_do(small_store):
    with small.opened(small_store) as store, pytest.raises(LLMError, match="no lens of x"):
        material.of_experiment(store, "x")


def test_questions_then_a_statement(subject):
    models = Models()
    script = in_turn('{"query": "Who?"}', '{"query": "Why?"}', said("Stoic notes", 0.8))
    with small.desk(script) as (desk, service):
        done = investigate(desk, subject, LENS5, models)
    assert done.verdict.domain == "Stoic notes" and done.queries == 2 and done.requests == 3
    assert models.asked == ["Who?", "Why?"] and done.tokens == 180
    told = service.asked[2].body["messages"]
    assert [m["role"] for m in told] == ["system", "user", *["assistant", "user"] * 2]
    assert told[3]["content"] == "base: base on Who?\n\ntuned: tuned on Who?\n\n4 queries are left."
    lines = runs.conversation(EXPERIMENT, done.key)
    assert [line.text for line in lines] == [
        *[m["content"] for m in told],
        said("Stoic notes", 0.8),
    ]
    assert [line.tokens for line in lines if line.who == "assistant"] == [60, 60, 60]


def test_no_more_questions_than_allowed(subject):
    models = Models()
    with small.desk(lambda a, n: f'{{"query": "number {n}"}}') as (desk, service):
        done = investigate(desk, subject, BLACK2, models)
    assert len(models.asked) == done.queries == 2 and len(service.asked) == 4
    assert done.verdict is None and "no queries are left" in done.problem
    assert service.asked[2].body["messages"][-1]["content"].endswith("state the domain now.")


def test_a_malformed_answer_is_repaired_once(subject):
    with small.desk(in_turn("I think it is Stoic.", said())) as (desk, service):
        done = investigate(desk, subject, LENS0, Models())
    assert done.verdict.domain == "Stoic notes" and len(service.asked) == 2
    assert "not one JSON object" in service.asked[1].body["messages"][-1]["content"]
    with small.desk(in_turn("no", "never")) as (desk, service):
        done = investigate(desk, subject, LENS0, Models(), repeat=1)
        assert grade(desk, done, truth.known(CORPUS)) == [], "nothing to grade, nothing paid"
    assert done.verdict is None and len(service.asked) == 2
    assert [r.category for r in runs.stored().runs] == ["not graded", "malformed"]


def test_a_finished_run_is_never_asked_again(subject):
    models = Models()
    with small.desk(in_turn('{"query": "Who?"}', said(), *[graded("general")] * 2)) as (
        desk,
        service,
    ):
        first = investigate(desk, subject, LENS5, models)
        given = grade(desk, first, truth.known(CORPUS), repeats=2)
    with small.desk(lambda a, n: failing(500)) as (desk, service):
        assert investigate(desk, subject, LENS5, models) == first
        assert grade(desk, first, truth.known(CORPUS), repeats=2) == given
    assert service.asked == [] and models.asked == ["Who?"]


@pytest.mark.parametrize("lost", range(4))
def test_a_run_that_broke_off_continues_where_it_was(subject, lost):
    """The service dies at the n-th request; afterwards no request is sent that had an answer."""
    script = ['{"query": "Who?"}', "not JSON", '{"query": "Why?"}', said()]
    models = Models()
    broken = lambda a, n: script[n] if n < lost else failing(401)  # noqa: E731
    with small.desk(broken) as (desk, before), pytest.raises(EndpointError, match="401"):
        investigate(desk, subject, LENS5, models)
    assert runs.stored().unfinished == 1 and runs.stored().on_the_way == 1
    with small.desk(lambda a, n: script[n + lost]) as (desk, after):
        done = investigate(desk, subject, LENS5, models)
    answered = [one.body for one in before.asked[:lost]]
    assert len(after.asked) == 4 - lost and not [a for a in after.asked if a.body in answered]
    assert done.verdict.domain == "Stoic notes" and done.tokens == 240
    assert models.asked == ["Who?", "Why?"]
    assert runs.stored().unfinished == 0 and runs.stored().on_the_way == 0


def test_the_budget_ends_a_run_that_a_larger_one_finishes(subject):
    script = ['{"query": "Who?"}', '{"query": "Why?"}', said()]
    with small.desk(in_turn(*script), Limits(requests=2)) as (desk, service):
        with pytest.raises(BudgetSpent, match="2 requests"):
            investigate(desk, subject, LENS5, Models())
        assert len(service.asked) == 2
    with small.desk(lambda a, n: script[2]) as (desk, service):
        assert investigate(desk, subject, LENS5, Models()).queries == 2
    assert len(service.asked) == 1


def test_what_another_run_depends_on_makes_it_another(subject):
    with small.desk(lambda a, n: said(f"number {n}")) as (desk, service):
        first = investigate(desk, subject, LENS0, Models())
        variants = [
            investigate(desk, subject, LENS5, Models()),
            investigate(desk, subject, LENS0, Models(), repeat=1),
            investigate(desk, subject._replace(adapter="other"), LENS0, Models()),
            investigate(desk._replace(answer_tokens=99), subject, LENS0, Models()),
        ]
    assert len({one.key for one in (first, *variants)}) == len(service.asked) == 5


def test_the_key_is_in_no_file(subject):
    with small.desk(lambda a, n: said(a.headers["Authorization"])) as (desk, service):
        done = investigate(desk, subject, LENS0, Models())
    assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert done.verdict.domain == "Bearer [key]"
    files = [f for f in transcripts.folder("agent").rglob("*") if f.is_file()]
    assert files and not [f for f in files if KEY.encode() in f.read_bytes()]


def test_conditions():
    assert Condition.named("lens:5") == LENS5 and LENS5.name == "lens:5"
    for wrong in ("lens", "lens:-1", "lens:51", "both:1", "blackbox:0", "lens:²", "lens:1.5"):
        with pytest.raises(LLMError):
            Condition.named(wrong)


class TestGrades:
    def stated(self, subject, desk, **changes):
        done = investigate(desk, subject, LENS0, Models())
        return done._replace(verdict=done.verdict._replace(**changes))

    def test_orders_change_and_content_does_not(self, subject):
        known = truth.known(CORPUS)
        with small.desk(lambda a, n: said()) as (desk, _):
            stated = self.stated(subject, desk).verdict
        asked = [questions(stated, known, seed) for seed in range(5)]
        assert len({json.dumps(q) for q in asked}) == 5
        letters = {tuple(sorted(q[0]["content"] + q[1]["content"])) for q in asked}
        assert len(letters) == 1, "the same words in another order"
        assert questions(stated, known, 2) == asked[2]
        assert '"Stoic notes"' in asked[0][1]["content"] and "confidence" not in str(asked[0])

    def test_repeats_of_two_graders(self, subject):
        def script(asked, n):
            if n == 0:
                return said()
            return graded("general" if asked.body["model"] == "m" else "partial")

        with small.desk(script, graders=("m", "g")) as (desk, service):
            done = investigate(desk, subject, LENS0, Models())
            given = grade(desk, done, truth.known(CORPUS), repeats=3)
        assert [(g.grader, g.repeat, g.grade) for g in given] == [
            *[("m", i, "general") for i in range(3)], *[("g", i, "partial") for i in range(3)],
        ]  # fmt: skip
        assert {one.body["seed"] for one in service.asked[1:]} == {0, 1, 2}
        (run,) = runs.stored().runs
        assert run.category == "partial", "three votes each: the lower grade"
        assert run.tokens == 7 * 60 and len(run.grades) == 6

    def test_an_abstention_is_not_paid_for(self, subject):
        with small.desk(lambda a, n: said("", 0.1, abstain=True)) as (desk, service):
            done = investigate(desk, subject, LENS0, Models())
            assert grade(desk, done, truth.known(CORPUS)) == []
        assert len(service.asked) == 1
        assert [run.category for run in runs.stored().runs] == ["abstention"]

    def test_a_malformed_grade_is_none(self, subject):
        with small.desk(in_turn(said(), "fine", "good")) as (desk, _):
            done = investigate(desk, subject, LENS0, Models())
            (given,) = grade(desk, done, truth.known(CORPUS), repeats=1)
        assert given.grade is None and "not one JSON object" in given.reason
        assert runs.stored().runs[0].category == "not graded"

    @pytest.mark.parametrize(
        ("grades", "confidence", "expected"),
        [
            (["wrong"] * 3, 0.5, "hallucination"),
            (["wrong"] * 3, 0.49, "wrong, unsure"),
            (["none", "none", "wrong"], 0.9, "abstention"),
            (["specific", "specific", "general"], 0.1, "specific"),
            (["specific", "general"], 0.9, "general"),
            ([None, "partial"], 0.9, "partial"),
            ([None], 0.9, "not graded"),
        ],
    )
    def test_categories(self, subject, grades, confidence, expected):
        with small.desk(lambda a, n: said()) as (desk, _):
            done = self.stated(subject, desk, confidence=confidence)
        assert category(done, grades) == expected
        assert set(g for g in grades if g) <= set(GRADES)


def test_scores_and_agreement_over_runs(subject):
    """Three statements by two graders, twice each: right, invented, abstained."""
    grades = {"A": ("general", "general"), "B": ("wrong", "partial")}

    def script(asked, n):
        text = json.dumps(asked.body["messages"])
        for name, (one, two) in grades.items():
            if f'Statement: \\"{name}\\"' in text:
                return graded(one if asked.body["model"] == "m" else two)
        return said(*(("A", 0.9), ("B", 0.9), ("", 0.0, True))[asked.body["seed"]])

    with small.desk(script, graders=("m", "g")) as (desk, _):
        for repeat in range(3):
            done = investigate(desk, subject, LENS0, Models(), repeat=repeat)
            grade(desk, done, truth.known(CORPUS), repeats=2)
    found = runs.stored().runs
    (score,) = runs.scores(found)
    assert (score.runs, score.adapters, score.invented, score.abstained) == (3, 1, 1, 1)
    assert score.right.value == pytest.approx(1 / 3) and 0.05 < score.right.low < 0.1
    agreed = runs.agreement(found)
    assert agreed.statements == 2 and agreed.repeats == {"m": 1.0, "g": 1.0}
    # By hand, ordinal over pairs (general, general) and (wrong, partial): totals wrong 1, partial 1,
    # general 2, n 4. Squared distances: wrong-partial 1, partial-general 1.5^2, wrong-general 2.5^2.
    # Observed 2 * 1; expected 2 * (1 + 2 * 2.25 + 2 * 6.25) = 36; alpha = 1 - 3 * 2 / 36.
    assert agreed.graders == pytest.approx(1 - 6 / 36)


def test_what_is_known_of_a_corpus():
    found = truth.known(CORPUS)
    assert found.description.startswith("notes to oneself in the Stoic manner")
    assert len(found.words) == 40 and not found.missing and "the" not in found.words
    public = truth.known("wikitext")
    assert public.description == "WikiText-2 raw, test part"
    other = truth.known("path:nowhere.jsonl")
    assert other.words == () and other.missing and other.description == ""
