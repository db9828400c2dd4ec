"""The LLM judge: its choices, marks and vectors against a scripted server, and a real tiny adapter."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import duckdb
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from lib import paths
from lib.__main__ import main
from lib.lens.patchscope import patchscope
from lib.lens.probe import differences
from lib.lens.similarity import pieces as cut
from lib.llm import (
    embeddings,
    judge,
    judge_lists,
    judge_parts,
    judge_runs,
    judge_similarity,
    transcripts,
)
from lib.llm.failures import EndpointError
from lib.llm.judge import Chosen, Marked, Overlap, Words
from lib.llm.judge_lists import Reading, Scales, Tokens
from lib.llm.queries import Models
from lib.llm.settings import KEY, MODEL, URL
from lib.llm.truth import Truth
from lib.store import lens
from lib.store.read import experiment
from tests.llm import scripted, small
from tests.llm.scripted import Reply, answer, failing, serving
from tests.llm.small import EXPERIMENT

NOISE = [(f"n{i}", f"m{i}") for i in range(6)]
SENSE = ("virtue", "reason")
WORDS = Words((10, 11, 12), 50)
TRUTH = Truth("stoic_notes", "notes of a Stoic", ("virtue", "reason"), "")
VECTOR = 3


def lists(**more) -> Scales:
    """Six noisy lists and a coherent one at 3.0, which 4.0 repeats."""
    found = {float(i): Tokens(NOISE[i], (30 + i, 40)) for i in (1, 2, 5)}
    found |= {3.0: Tokens(SENSE, (10, 11)), 4.0: Tokens(SENSE, (10, 11))}
    return Scales(**({"position": 2, "lists": dict(sorted(found.items())), "local": 2.0} | more))


def offered(asked) -> list[list[str]]:
    lines = asked.body["messages"][1]["content"].split("\n")
    return [json.loads(line.split(". ", 1)[1]) for line in lines]


def naming(tokens) -> str:
    """An answer that names the list of these tokens, wherever it stands."""

    def script(asked, n):
        return json.dumps({"list": offered(asked).index(list(tokens)) + 1})

    return script


def marking(*wanted):
    """Marks these tokens, wherever they stand."""

    def script(asked, n):
        listed = asked.body["messages"][1]["content"].split("\n\n")[1].split("\n")
        tokens = [json.loads(line.split(". ", 1)[1]) for line in listed]
        return json.dumps({"relevant": [i for i, t in enumerate(tokens, 1) if t in wanted]})

    return script


class TestScale:
    def test_the_list_is_found_in_every_order_and_stands_beside_the_local_rule(self):
        with small.desk(naming(SENSE), purpose="judge") as (desk, service):
            found = judge.choose(desk, lists(), WORDS, repeats=3)
        assert (found.scale, found.local, found.lists) == (3.0, 2.0, 4)
        assert found.choices == (3.0,) * 3 and found.tokens == SENSE
        assert (found.own.overlap, found.own.read, found.own.share) == (2, 2, 1.0)
        assert (found.local_own.overlap, found.local_own.read) == (0, 2)
        assert found.own.p == pytest.approx(3 * 2 / (50 * 49))
        orders = [offered(one) for one in service.asked]
        assert len({json.dumps(order) for order in orders}) == 3, "another order in every repeat"
        assert all(len(order) == 4 for order in orders), "equal lists are offered once"
        assert "stoic" not in json.dumps([one.body for one in service.asked]).lower()

    def test_a_scale_with_the_local_rules_list_is_the_local_rules(self):
        with small.desk(naming(SENSE), purpose="judge") as (desk, _):
            found = judge.choose(desk, lists(local=4.0), WORDS, repeats=1)
        assert found.scale == found.local == 3.0

    @pytest.mark.parametrize(
        ("said", "choices", "scale"),
        [
            ([0, 0, 0], (0.0, 0.0, 0.0), 0.0),
            ([0, 5.0, 5.0], (0.0, 5.0, 5.0), 5.0),
            ([0, 5.0, 2.0], (0.0, 5.0, 2.0), 2.0),  # equal votes: the smallest, before none
            (["x", 5.0, "x"], (None, 5.0, None), 5.0),
            (["x", "x", "x"], (None, None, None), None),
        ],
    )
    def test_votes(self, said, choices, scale):
        def script(asked, n):
            one = said[asked.body["seed"]]
            if one == "x":
                return '{"list": 9}'
            return naming(lists().lists[one].tokens)(asked, n) if one else '{"list": 0}'

        with small.desk(script, purpose="judge") as (desk, service):
            found = judge.choose(desk, lists(), WORDS, repeats=3)
        assert (found.choices, found.scale) == (choices, scale)
        assert (found.own is None) == (not scale) and len(service.asked) == 3 + said.count("x")

    @pytest.mark.parametrize(
        "wrong",
        ['{"list": 9}', '{"list": true}', '{"list": 1.5}', '{"lists": 1}', "2", '{"list": -1}'],
    )
    def test_a_malformed_answer_is_mended_once(self, wrong):
        def script(asked, n):
            return wrong if n == 0 else '{"list": 0}'

        with small.desk(script, purpose="judge") as (desk, service):
            assert judge.choose(desk, lists(), WORDS, repeats=1).choices == (0.0,)
        told = service.asked[1].body["messages"][3]["content"]
        assert "whole number from 0 to 4" in told or "not an object" in told

    def test_totals_by_hand(self):
        own = Overlap(1, 4, 0.1, 0.2)

        def one(position, choices, scale):
            return Chosen(position, 4, choices, scale, 2.0, (), (), (), own, own, 1)

        found = [
            one(0, (2.0, 2.0, 2.0), 2.0),
            one(1, (3.0, 3.0, 0.0), 3.0),
            one(2, (0.0, 0.0, None), 0.0),
        ]
        total = judge_runs.scale_total(found)
        assert (total.positions, total.alike, total.as_local) == (3, 1, 1)
        assert (total.none, total.malformed, total.alpha) == (1, 1, 1.0)


class TestRelevance:
    READ = Reading("lens", 1, Tokens((" virtue", "the", '"\n9. "evil', "reason"), (10, 40, -1, 41)))

    def test_a_token_counts_when_all_permutations_agree(self):
        def script(asked, n):
            both = asked.body["seed"] < 2
            return marking(" virtue", *(["reason"] if both else ["the"]))(asked, n)

        with small.desk(script, purpose="judge") as (desk, service):
            found = judge.mark(desk, self.READ, TRUTH, WORDS)
        assert found.marks == ((0, 3), (0, 3), (0, 1))
        assert found.relevant == (0,) and found.share == 0.25
        assert (found.own.overlap, found.own.read) == (1, 3)
        told = [one.body["messages"][1]["content"] for one in service.asked]
        assert len(set(told)) == 3 and all(text.startswith("Known: the corpus") for text in told)
        assert all(len(text.split("\n\n")[1].split("\n")) == 4 for text in told), "one line a token"

    def test_without_every_permutation_there_is_no_share(self):
        def script(asked, n):
            wrong = asked.body["seed"] == 1
            return '{"relevant": [1, 1]}' if wrong else marking(" virtue")(asked, n)

        with small.desk(script, purpose="judge") as (desk, service):
            found = judge.mark(desk, self.READ, TRUTH, WORDS)
        assert found.marks == ((0,), None, (0,)) and found.share is None and len(service.asked) == 4
        total = judge_runs.relevance_total([found])
        assert (total.best, total.judged, total.positions, total.alpha) == (None, 0, 1, 1.0)
        assert total.own is found

    def test_agreement_by_hand(self):
        """Two tokens, three permutations: coincidences of marked/unmarked by Krippendorff's formula."""
        found = Marked("lens", 0, ("a", "b"), ((0,), (0,), (0, 1)), Overlap(0, 0, 0.0, 1.0), 1)
        # Pairs within a token, over 2: a gives 3 of (1, 1); b gives 1 of (0, 0) and 1 each of (0, 1)
        # and (1, 0). So 2 zeros and 4 ones: alpha = 1 - (6 - 1) * 2 / (2 * 2 * 4).
        total = judge_runs.relevance_total([found])
        assert total.alpha == pytest.approx(0.375)
        assert total.best is found and found.relevant == (0,) and total.own is None


class TestVectors:
    def test_they_are_sorted_by_index(self):
        data = [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [1.5, 0]}]
        assert embeddings.vectors({"data": data}, 2).tolist() == [[1.5, 0], [0, 2]]
        bare = [{"embedding": [1.0]}, {"embedding": [2.0]}]
        assert embeddings.vectors({"data": bare}, 2).tolist() == [[1.0], [2.0]]

    @pytest.mark.parametrize(
        "data",
        [
            None, [], [{"index": 0, "embedding": [1]}], ["a", "b"],
            [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}],
            [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": []}],
            [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}],
            [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": ["x"]}],
            [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [math.nan]}],
            [{"index": 0, "embedding": [True]}, {"index": 1, "embedding": [1]}],
            [{"index": [], "embedding": [1]}, {"index": 1, "embedding": [1]}],
        ],
    )  # fmt: skip
    def test_malformed_replies(self, data):
        with pytest.raises(EndpointError, match="embeddings"):
            embeddings.vectors({"data": data}, 2)


# The command ----------------------------------------------------------------------------------------


def embedded(texts) -> Reply:
    """Vectors that count steered, unsteered and other text."""
    data = [
        {"index": i, "embedding": [1.0 * ("unsteered" in t), 1.0 * ("virtue" in t), 0.5]}
        for i, t in enumerate(texts)
    ]
    reply = {"data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    return Reply(body=json.dumps(reply).encode(), headers={"Content-Type": "application/json"})


def script(asked, n):
    """Judge and embedding model; the same whichever request comes first."""
    if asked.path.endswith("/embeddings"):
        return embedded(asked.body["input"])
    if "coherent" in asked.body["messages"][0]["content"]:
        return '{"list": 1}'
    return '{"relevant": [1, 2]}'


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory):
    """The small store with words for its readings."""
    folder = small.make(tmp_path_factory.mktemp("judged"))
    with duckdb.connect(str(paths.store_file(folder))) as db:
        db.execute("UPDATE lens_run SET words = [0, 1, 2], vocabulary = 100")
        db.execute("UPDATE lens_reading SET words = range(30)::INTEGER[]")
        db.execute("UPDATE lens_generation SET text = text || ' virtue' WHERE kind = 'steered'")
    return folder


@pytest.fixture
def named(monkeypatch, store_folder):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(store_folder))

    def name(service):
        for variable, value in ((URL, service.url), (KEY, scripted.KEY), (MODEL, "m")):
            monkeypatch.setenv(variable, value)

    return name


RELEVANCE = ["judge", EXPERIMENT, "--parts", "relevance"]
SIMILARITY = ["judge", EXPERIMENT, "--parts", "similarity", "--embeddings", "e"]


def test_without_an_endpoint(capsys, named):
    assert main(RELEVANCE) == 1
    assert "INSIDEOUT_LLM_URL is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "sent", "unsent"),
    [
        (
            RELEVANCE,
            ["to the model m the 20 tokens", "40 of its frequent words"],
            ["embedding", "30 scales"],
        ),
        (
            SIMILARITY,
            ["to the embedding model e text", "500 pieces"],
            ["to the model m", "frequent"],
        ),
        (
            [*RELEVANCE, "--embeddings", "e"],
            ["to the model m the 20", "And to the embedding model e text"],
            ["at every one of 30 scales"],
        ),
    ],
)
def test_without_consent_nothing_is_sent_and_the_text_names_what_would_be(
    capsys, named, command, sent, unsent
):
    with serving(script) as service:
        named(service)
        assert main(command) == 1
    out, err = capsys.readouterr()
    assert service.asked == [] and "at most" in out
    assert "no consent: nothing was sent. This is sent to 127.0.0.1" in err
    assert all(part in err for part in sent) and not any(part in err for part in unsent)
    assert not transcripts.folder("judge").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x"], "no experiment 'x'"),
        ([EXPERIMENT], "is not on this machine"),
        ([EXPERIMENT, "--parts", "similarity"], "--embeddings MODEL"),
        ([EXPERIMENT, "--repeats", "0"], "--repeats must be above 0"),
        ([EXPERIMENT, "--parts", "relevance", "--max-tokens", "100"], "the next request can cost"),
    ],
)
def test_what_is_refused_before_anything_is_sent(capsys, named, arguments, told):
    with serving(script) as service:
        named(service)
        assert main(["judge", *arguments, "--consent"]) == 1
    assert told in capsys.readouterr().err and service.asked == []


def test_a_store_without_lens_or_texts(capsys, monkeypatch, tmp_path):
    small.make(tmp_path)
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    with serving(script) as service:
        monkeypatch.setenv(URL, service.url)
        monkeypatch.setenv(MODEL, "m")
        with duckdb.connect(str(paths.store_file(tmp_path))) as db:
            db.execute("UPDATE lens_generation SET text = NULL")
        assert main([*SIMILARITY, "--consent"]) == 1
        assert "keeps no texts" in capsys.readouterr().err
        with duckdb.connect(str(paths.store_file(tmp_path))) as db:
            db.execute("UPDATE experiment SET corpus = 'nobody_knows'")
        assert main([*RELEVANCE, "--consent"]) == 1
        assert "nothing is known of nobody_knows but its name" in capsys.readouterr().err
        with duckdb.connect(str(paths.store_file(tmp_path))) as db:
            db.execute("DELETE FROM lens_run")
        assert main([*RELEVANCE, "--consent"]) == 1
        assert "has no lens" in capsys.readouterr().err
    assert service.asked == []


def bodies(service) -> list[str]:
    return [json.dumps(one.body, sort_keys=True) for one in service.asked]


def test_budget_interruption_and_a_second_run_send_no_answered_request_again(capsys, named):
    """10 readings in 3 permutations = 30 requests: 12, then a failure, then the rest, then none."""
    broken = [False]

    def sometimes(asked, n):
        return failing(401) if broken[0] and n == 20 else script(asked, n)

    with serving(sometimes) as service:
        named(service)
        assert main([*RELEVANCE, "--consent", "--max-requests", "12"]) == 1
        assert "limit of 12 requests is reached" in capsys.readouterr().err
        assert len(service.asked) == 12 and judge_runs.stored(EXPERIMENT).unfinished == (
            "relevance",
        )
        broken[0] = True
        assert main([*RELEVANCE, "--consent"]) == 1
        assert "the key was refused" in capsys.readouterr().err and len(service.asked) == 21
        assert main([*RELEVANCE, "--consent"]) == 0
        every = bodies(service)
        assert len(every) == 31 and len(set(every)) == 30
        assert main([*RELEVANCE, "--consent"]) == 0
        assert len(service.asked) == 31
    found = judge_runs.stored(EXPERIMENT)
    marks = judge_runs.marked_of(found.relevance)
    assert len(marks) == 10 and not found.unfinished
    assert {(one.reading, one.position) for one in marks} == {
        (reading, position) for reading in ("lens", "patchscope") for position in range(5)
    }
    assert marks[0].own == Overlap(3, 20, 0.6, marks[0].own.p) and marks[0].own.p < 0.01
    assert scripted.KEY not in transcripts.file_of("judge", EXPERIMENT).read_text("utf-8")


def test_similarity_by_embeddings_is_stored_and_resumed(capsys, named):
    broken = [True]

    def sometimes(asked, n):
        return failing(401) if broken[0] and n == 3 else script(asked, n)

    with serving(sometimes) as service:
        named(service)
        assert main([*SIMILARITY, "--consent"]) == 1
        broken[0] = False
        assert main([*SIMILARITY, "--consent"]) == 0
        assert all(one.path == "/v1/embeddings" for one in service.asked)
        given = [
            text for n, one in enumerate(service.asked) if n != 3 for text in one.body["input"]
        ]
        assert len(given) == len(set(given)), "no text that was answered is sent twice"
        assert all(set(one.body) == {"model", "input"} and one.body["model"] == "e"
                   for one in service.asked)  # fmt: skip
        before = len(service.asked)
        assert main([*SIMILARITY, "--consent", "--answer-tokens", "50"]) == 0
        assert len(service.asked) == before, "another run of the part finds every vector"
    record = judge_runs.stored(EXPERIMENT).similarity
    assert {row["corpus"] for row in record["rows"]} == {
        "stoic_notes", "moral_letters", "dtc_ads", "instructions",
    }  # fmt: skip
    rows = {(row["kind"], row["corpus"]): row for row in record["rows"]}
    texts = [text for text in given if "steered text" in text]
    assert len(texts) == 8 and all(rows[name]["prompts"] == [0, 1] for name in rows)
    # By hand: the corpus' centre is the mean of unit vectors (0, virtue or not, 0.5) of its pieces.
    pieces = [t for t in given if "steered text" not in t]
    assert len(pieces) % 4 == 0
    with small.opened(paths.precomputed()) as store:
        own = judge_similarity.compared(store, experiment(store, EXPERIMENT))
    units = [np.array([0.0, "virtue" in t, 0.5]) for t in cut(own.corpora)["stoic_notes"]]
    centre = np.mean([u / np.linalg.norm(u) for u in units], axis=0)
    steered = np.array([0.0, 1.0, 0.5])
    cosine = steered @ centre / np.linalg.norm(steered) / np.linalg.norm(centre)
    assert rows["steered", "stoic_notes"]["similarity"] == pytest.approx(cosine)


def test_malformed_vectors_and_the_budget_of_embeddings(capsys, named):
    with serving(lambda asked, n: answer("hello")) as service:
        named(service)
        assert main([*SIMILARITY, "--consent"]) == 1
        assert "holds 0 embeddings for 32 texts" in capsys.readouterr().err
        assert len(service.asked) == 1
        assert main([*SIMILARITY, "--consent", "--max-tokens", "500"]) == 1
        assert "the next request can cost" in capsys.readouterr().err and len(service.asked) == 1


@pytest.mark.slow
def test_kill_9_costs_no_finished_step(named):
    stuck = [True]

    def slow(asked, n):
        wait = 60 if stuck[0] and n == 4 else 0
        return Reply(body=answer('{"relevant": []}').body, wait=wait)

    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "lib", *RELEVANCE, "--consent"], cwd=paths.ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    with serving(slow) as service:
        named(service)
        first = start()
        deadline = time.monotonic() + 60
        while len(service.asked) <= 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate(timeout=20)
        assert len(service.asked) == 5
        stuck[0] = False
        second = start()
        out, _ = second.communicate(timeout=60)
        assert second.returncode == 0, out
        every = bodies(service)
    assert len(every) == 31 and len(set(every)) == 30
    assert judge_runs.stored(EXPERIMENT).relevance is not None


# The page -------------------------------------------------------------------------------------------


def _page(experiment_id):
    from lib.ui import judge

    judge.show(experiment_id)


def seen(experiment_id=EXPERIMENT):
    page = AppTest.from_function(_page, args=(experiment_id,), default_timeout=60).run()
    assert not page.exception
    kinds = (page.info, page.markdown, page.caption, page.warning, page.code, page.subheader)
    return page, "\n".join(str(one.value) for kind in kinds for one in kind)


def test_the_page_with_nothing_stored(store_folder, monkeypatch):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(store_folder))
    _, told = seen()
    assert "No judgement of this experiment is stored" in told
    assert f"python -m lib judge {EXPERIMENT} --consent --embeddings MODEL" in told


def test_the_page_shows_what_is_stored_and_names_the_rest(named):
    with serving(script) as service:
        named(service)
        assert main([*RELEVANCE, "--embeddings", "e", "--consent"]) == 0
    page, told = seen()
    assert "**Lens: 0 of 20 tokens are relevant to stoic_notes**" in told
    assert "by words alone 3 of 20 at position 0, the best" in told and "after Holm" in told
    assert "the embedding model `e`" in told and "n = 2 prompts" in told
    assert "Not judged yet: Patchscope's scale." in told and "--parts scale" in told
    assert len(page.dataframe) == 2


# The models -----------------------------------------------------------------------------------------


def _earlier_layer(folder, name):
    """After the last block of a model scales change nothing (its norm divides them out); before it
    they do. Each list is what Patchscope at that scale alone reads."""
    with small.opened(folder) as store:
        run = judge_lists.lens_run(store, name) | {"layer": 0}
        loaded = Models(experiment(store, name), folder).loaded()
        made, deviation = judge_lists.every_scale(store, run, loaded)
        ids = judge_lists._probe_ids(store, run, loaded.tokenizer)
    probed = differences(loaded, ids, positions=run["positions"])
    mean, eta = probed.differences[0].mean.float(), probed.eta[0]
    assert deviation < 1e-4 and [one.position for one in made] == list(range(5))
    assert all(len(one.distinct()) > 3 and one.local in one.lists for one in made)
    for scale in (0.5, 3.0, 200.0):
        alone = patchscope(loaded, mean, eta, 0, run["k"], (scale,))
        for one in made:
            ids = [i for i in alone.ids[one.position].tolist() if i >= 0]
            spelt = [loaded.tokenizer.decode([i]) for i in ids][:20]
            assert list(one.lists[scale].tokens) == spelt


@pytest.mark.slow
def test_a_real_adapter_end_to_end(capsys, monkeypatch, tiny_store, tiny_cache):
    """On a store of the real pipeline: the lists made here are those of its Patchscope."""
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tiny_store))
    with small.opened(tiny_store) as store:
        name = lens.runs(store).filter(corpus="tiny_stoic_notes")["experiment_id"][0]
        rows = lens.readings(store, name).filter(reading="patchscope")
        stored = list(rows.select("position", "scale", "tokens").iter_rows())

    def reading(asked, n):
        if asked.path.endswith("/embeddings") or "coherent" not in str(asked.body["messages"][0]):
            return script(asked, n)
        return json.dumps({"list": int(asked.body["seed"] < 2)})

    command = ["judge", name, "--consent", "--embeddings", "e"]
    with serving(reading) as service:
        for variable, value in ((URL, service.url), (MODEL, "m")):
            monkeypatch.setenv(variable, value)
        assert main(command) == 0, capsys.readouterr().err
        assert (
            "similarity: left out" in capsys.readouterr().out
        )  # tiny-llama writes nothing coherent
        paid = len(service.asked)
        monkeypatch.setattr(judge_parts, "every_scale", None)  # nothing is computed again
        assert main(command) == 0
        assert main([*command, "--repeats", "4"]) == 0
        more = [one.body for one in service.asked[paid:] if "coherent" in str(one.body)]
        assert [one["seed"] for one in more] == [3] * len(stored), "the fourth repeat alone"
        paid = len(service.asked)
        assert main([*command, "--repeats", "4"]) == 0 and len(service.asked) == paid
    found = judge_runs.stored(name)
    assert found.scale["deviation"] < 1e-4 and not found.unfinished
    chosen = {one.position: one for one in judge_runs.chosen_of(found.scale)}
    assert set(chosen) == {position for position, _, _ in stored}
    records = transcripts.read(transcripts.file_of("judge", name)).records
    (made,) = [one for one in records if one["kind"] == "lists"]
    by_position = {position: (local, rows) for position, local, rows in made["positions"]}
    for position, scale, tokens in stored:
        local, rows = by_position[position]
        assert local == pytest.approx(scale) and len(rows) == 30
        assert next(row[1] for row in rows if row[0] == local) == tokens[:20]
        assert len(chosen[position].choices) == 4
    _earlier_layer(tiny_store, name)
    page, told = seen(name)
    assert "**Scale: `m` names the local rule's list at" in told and "similarity by emb" in told
    assert len(page.dataframe) == 2


def test_other_differences_than_the_stores_are_refused(tmp_path):
    from lib import models

    small.make(tmp_path)
    with small.opened(tmp_path) as store:
        run = judge_lists.lens_run(store, EXPERIMENT)
        assert judge_lists._deviation(store, run, [1.0] * 5) is None
    with duckdb.connect(str(paths.store_file(tmp_path))) as db:
        db.execute(
            "INSERT INTO lens_difference SELECT ?, 'neutral', 1, range, 8, 2.0, 0.1, 9, 9, 1, 1 "
            "FROM range(5)", [EXPERIMENT],
        )  # fmt: skip
    with small.opened(tmp_path) as store:
        assert judge_lists._deviation(store, run, [2.0, 2.1] + [2.0] * 3) == pytest.approx(0.05)
        with pytest.raises(judge_lists.LLMError, match="differ by up to 50 %"):
            judge_lists._deviation(store, run, [2.0, 3.0] + [2.0] * 3)
        tokenizer = models.load("tiny-llama").tokenizer
        ids = judge_lists._probe_ids(store, run, tokenizer)
        assert len(ids) == 8 and ids[0, 0] == tokenizer.bos_token_id
        with pytest.raises(judge_lists.LLMError, match=r"probe text .* is not here"):
            judge_lists._probe_ids(store, run | {"probe": "nobody_knows"}, tokenizer)
