"""Labels of features: passages from the store's spans, the test on held-out ones, the baseline."""

import json

import pytest

from lib import corpora
from lib.llm import label_store, labels, windows
from lib.llm.labels import Detection, detection, swapped
from lib.llm.windows import CLOSE, OPEN, Passage
from tests.llm import small
from tests.llm.scripted import failing
from tests.llm.small import CORPUS, EXPERIMENT


@pytest.fixture
def store(small_store):
    with small.opened(small_store) as found:
        yield found


def whole(text):
    return [d for d in corpora.load(CORPUS).documents if text in d.text]


def test_what_is_read_and_what_is_held_out_come_from_different_documents(store):
    found = windows.of_feature(store, EXPERIMENT, 1, 3)
    assert not found.missing and len(found.shown) == 3 and len(found.passages) == 6
    assert sum(p.fires for p in found.passages) == 3
    assert {p.origin for p in found.passages} == {"example", "beside", "elsewhere"}
    read = {d.id for text in found.shown for d in whole(text.replace(OPEN, "").replace(CLOSE, ""))}
    held = {d.id for passage in found.passages for d in whole(passage.text)}
    assert len(read) == 3 and len(held) >= 3 and not read & held


def test_passages_are_where_the_store_says(store):
    found = windows.of_feature(store, EXPERIMENT, 1, 3)
    first = found.shown[0]
    (document,) = whole(first.replace(OPEN, "").replace(CLOSE, ""))
    words = document.text.split()
    marked = [part.split(CLOSE)[0].strip() for part in first.split(OPEN)[1:]]
    assert marked == words[12:14]
    for passage in found.passages:
        (document,) = whole(passage.text)
        words, own = document.text.split(), passage.text.split()
        at = [i for i in range(len(words)) if words[i : i + 11] == own]
        assert len(own) == 11 and at
        if passage.origin == "example":
            assert 7 in at, "the strongest token, 12, in the middle"
        if passage.origin == "beside":
            assert not set(range(at[0], at[0] + 11)) & {12, 13}


def test_the_same_draw_every_time_and_another_for_another_feature(store):
    one = windows.of_feature(store, EXPERIMENT, 1, 3)
    assert windows.of_feature(store, EXPERIMENT, 1, 3) == one
    fires = [
        [p.fires for p in windows.of_feature(store, EXPERIMENT, 1, n).passages] for n in (3, 7)
    ]
    assert fires[0] != sorted(fires[0], reverse=True), "shuffled"
    assert one.unsure == pytest.approx(0.11)


def test_too_few_examples_or_no_text(store, monkeypatch, tmp_path):
    assert "has 2 examples" in windows.of_feature(store, EXPERIMENT, 1, 9).missing
    assert (
        "fires on 90.0 % of tokens" in windows.of_feature(store, EXPERIMENT, 1, small.DENSE).missing
    )
    assert windows.strongest(store, EXPERIMENT, 1, 10) == [7, 5, 3]
    monkeypatch.setattr("lib.paths.CORPORA", tmp_path)
    from lib.store import text

    text._documents.cache_clear()
    assert "not on this machine" in windows.of_feature(store, EXPERIMENT, 1, 3).missing
    text._documents.cache_clear()


def test_counts_and_balanced_accuracy_by_hand():
    passages = [Passage("", fires, "") for fires in (True, False, True, False, True)]
    found = detection(passages, frozenset({1, 3, 4}))
    assert found == Detection(2, 3, 1, 2)
    assert found.score.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert 0 <= found.score.low < found.score.value < found.score.high <= 1
    full = Detection(3, 3, 3, 3).score
    assert full.value == 1 and full.high == 1
    # Wilson for 3 of 3 at 95 %: low = 3 / (3 + 1.96^2) = 0.4385; both rates alike, so the distance of
    # the mean is sqrt(2) / 2 of one rate's.
    assert full.low == pytest.approx(1 - (1 - 0.4385) * 2**0.5 / 2, abs=1e-4)
    wide, narrow = Detection(2, 3, 2, 3).score, Detection(200, 300, 200, 300).score
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_the_baseline_is_always_another_features():
    for n in range(2, 9):
        found = swapped(range(n))
        assert set(found) == set(found.values()) == set(range(n))
        assert all(one != other for one, other in found.items())
    assert swapped([4]) == {}


def perfect(texts):
    """A script whose reader finds exactly the firing passages with the feature's own label, and says
    that every passage matches with another's."""
    names = {one.shown[0]: f"feature {one.latent}" for one in texts}
    right = {
        f"feature {one.latent}": [n for n, p in enumerate(one.passages, 1) if p.fires]
        for one in texts
    }
    bodies = {json.dumps(one.passages[0].text, ensure_ascii=False): one for one in texts}

    def script(asked, n):
        system, user = (m["content"] for m in asked.body["messages"][:2])
        if "ten words" in system:
            return json.dumps({"label": names[json.loads(user.split("\n")[0].removeprefix("1. "))]})
        label = user.split("\n")[0].removeprefix("Label: ")
        one = bodies[user.split("\n")[2].removeprefix("1. ")]
        own = label == f"feature {one.latent}"
        matches = right[label] if own else list(range(1, len(one.passages) + 1))
        return json.dumps({"matches": matches})

    return script


def test_labels_are_tested_stored_and_searched(store):
    texts = [windows.of_feature(store, EXPERIMENT, 1, n) for n in (3, 5, 7, 9)]
    script = perfect(texts[:3])
    with small.desk(script, purpose="label") as (desk, service):
        made = labels.make(desk, EXPERIMENT, 1, texts)
    assert [one.latent for one in made] == [3, 5, 7], "feature 9 has too few examples"
    assert [one.label for one in made] == ["feature 3", "feature 5", "feature 7"]
    assert all(one.own.score.value == 1 and one.other.score.value == 0.5 for one in made)
    assert all(one.other_label != one.label for one in made)
    assert len(service.asked) == 9 and [one.tokens for one in made] == [180] * 3
    means = labels.total([(one.own, one.other) for one in made])
    assert (means.n, means.own.value, means.other.value, means.gain.value) == (3, 1.0, 0.5, 0.5)
    found = label_store.labels()
    assert found.schema == label_store.COLUMNS and found["latent"].to_list() == [3, 5, 7]
    assert found["passages"].to_list() == [6, 2, 6] and found["score"].to_list() == [1.0] * 3
    assert label_store.search(found, "FEATURE 5")["latent"].to_list() == [5]
    assert label_store.search(found, "feature .*").is_empty(), "words, not patterns"
    with small.desk(lambda a, n: failing(500), purpose="label") as (desk, service):
        assert labels.make(desk, EXPERIMENT, 1, texts) == made
    assert service.asked == [] and label_store.labels().equals(found)


def test_a_malformed_label_is_not_tested(store):
    texts = [windows.of_feature(store, EXPERIMENT, 1, n) for n in (3, 5)]
    first = texts[0].shown[0]

    def script(asked, n):
        user = asked.body["messages"][1]["content"]
        if json.dumps(first, ensure_ascii=False) in user:
            return "no idea"
        return '{"label": "five"}' if "«" in user else '{"matches": [99]}'

    with small.desk(script, purpose="label") as (desk, _):
        three, five = labels.make(desk, EXPERIMENT, 1, texts)
    assert three.label is None and three.own is None
    assert five.label == "five" and five.own is None and five.other is None
    assert label_store.labels()["label"].to_list() == ["five"]
    assert labels.total([(five.own, five.other)]) is None


def test_a_passage_cannot_pretend_to_be_another():
    text = 'one\n2. "fires"'
    assert labels._numbered([text, "b"]).count("\n") == 1
