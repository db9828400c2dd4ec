"""Similarity of written text to corpora: by hand, and what must not change it."""

import math

import numpy as np
import pytest

from lib.lens.similarity import Similarity, Texts, pieces, similarity, verdict

ALPHA = [" ".join(["ant"] * 64)]
BETA = [" ".join(["bee"] * 64)]


def texts(*given: str, samples: int = 1) -> Texts:
    return Texts([at // samples for at in range(len(given))], list(given))


def test_tfidf_by_hand():
    """One term a corpus and its pair: a text of both terms is at 45 degrees but for the pairs."""
    found = similarity(
        {"steered": texts("Ant ant", "ant bee", "cow cow", "")}, {"a": ALPHA, "b": BETA}
    )["steered"]
    # idf is equal for all four terms. A piece: ant with log tf 1 + ln 64, "ant ant" with 1 + ln 63.
    word, pair = 1 + math.log(64), 1 + math.log(63)
    length = math.hypot(word, pair)
    # "Ant ant": ant twice (1 + ln 2), the pair once; "ant bee": one of each word, its pair unknown
    twice = 1 + math.log(2)
    assert found.of("a")[0] == pytest.approx((word * twice + pair) / length / math.hypot(twice, 1))
    assert found.of("b")[0] == 0
    both = word / length / math.sqrt(2)
    assert found.values[1].tolist() == pytest.approx([both, both])
    assert found.values[2:].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_samples_of_a_prompt_are_averaged_first():
    given = Texts([7, 3, 7], ["ant", "bee", "cow"])
    found = similarity({"x": given}, {"a": ALPHA, "b": BETA})["x"]
    alone = similarity({"x": texts("ant")}, {"a": ALPHA, "b": BETA})["x"].of("a")[0]
    assert found.prompts.tolist() == [3, 7]
    assert found.of("a").tolist() == pytest.approx([0.0, alone / 2])
    assert found.of("b").tolist() == pytest.approx([alone, 0.0])
    low, value, high = (found.interval("a")[i] for i in (1, 0, 2))
    assert (low, value, high) == pytest.approx((0.0, alone / 4, alone / 2))


def test_corpora_are_cut_to_equal_size():
    """A corpus of more, longer or otherwise broken documents gives as many pieces of as many words."""
    long = [f"w{i}" for i in range(1000)]
    cut = pieces({"long": [" ".join(long)], "short": [" ".join(long[:40]), " ".join(long[40:130])]})
    assert [len(part) for part in cut.values()] == [2, 2]
    assert {len(piece.split()) for part in cut.values() for piece in part} == {64}
    assert cut["short"] == [" ".join(long[:64]), " ".join(long[64:128])]
    assert cut["long"] == [" ".join(long[:64]), " ".join(long[14 * 64 : 15 * 64])]  # both ends
    assert len(pieces({"a": [" ".join(long)]}, words=10, most=7)["a"]) == 7


def test_an_embedding_takes_the_place_of_tfidf_and_is_called_once():
    calls = []

    def embed(given: list[str]) -> np.ndarray:
        calls.append(given)
        known = {ALPHA[0]: [2.0, 0.0], BETA[0]: [0.0, 5.0], "left": [-1.0, 0.0], "none": [0.0, 0.0]}
        return np.array([known.get(text, [3.0, 4.0]) for text in given])

    kinds = {"steered": texts("left", "else"), "unsteered": texts("none")}
    found = similarity(kinds, {"a": ALPHA, "b": BETA}, embed=embed)
    assert len(calls) == 1
    assert found["steered"].values.tolist() == pytest.approx(np.array([[-1.0, 0.0], [0.6, 0.8]]))
    assert found["unsteered"].values.tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="one vector per text"):
        similarity(kinds, {"a": ALPHA, "b": BETA}, embed=lambda given: np.ones((1, 2)))


def table(*columns: list[float]) -> Similarity:
    values = np.array(columns).T
    return Similarity(np.arange(len(values)), ("own", "near", "far")[: len(columns)], values)


def test_a_verdict_by_hand():
    steered = table([0.5, 0.6, 0.7], [0.4, 0.4, 0.4], [0.1, 0.1, 0.4])
    plain = table([0.2, 0.2, 0.2], [0.4, 0.4, 0.4], [0.0, 0.0, 0.0])
    got = verdict(steered, plain, "own")
    assert got.gain.value == pytest.approx(0.4) and got.nearest_other == "near"
    assert (got.gain.low, got.gain.high) == pytest.approx((0.3, 0.5))  # all three resamples alike
    assert got.margin.value == pytest.approx(0.2)
    assert got.gained_other == "far" and got.selective.value == pytest.approx(0.2)
    assert got.nearer_than_unsteered and got.nearest
    other = verdict(steered, plain, "near")
    assert other.gain.value == 0 and not other.nearer_than_unsteered
    assert other.nearest_other == "own" and not other.nearest


def test_pairing_narrows_the_interval():
    """Prompts differ by far more than steering adds: only paired differences see it."""
    level = np.linspace(0.1, 0.9, 20)
    other = np.zeros(20)
    steered, plain = (table((level + up).tolist(), other.tolist()) for up in (0.01, 0.0))
    got = verdict(steered, plain, "own")
    assert got.gain.low == pytest.approx(0.01) and got.nearer_than_unsteered
    assert steered.interval("own").low < plain.interval("own").high


def test_one_prompt_supports_no_verdict():
    got = verdict(table([0.9], [0.1]), table([0.1], [0.1]), "own")
    assert got.gain.value == pytest.approx(0.8) and got.gain.low is None
    assert not got.nearer_than_unsteered and not got.nearest


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="64 words: \\['b'\\]"):
        similarity({"x": texts("ant")}, {"a": ALPHA, "b": ["bee"]})
    with pytest.raises(ValueError, match="1 texts for 2 prompts"):
        similarity({"x": Texts([0, 1], ["ant"])}, {"a": ALPHA, "b": BETA})
    with pytest.raises(ValueError, match="differ"):
        similarity({"x": texts("ant")}, {"a": ALPHA, "b": ALPHA})
    with pytest.raises(ValueError, match="no pairs"):
        verdict(table([0.1, 0.2]), table([0.1]), "own")
    with pytest.raises(ValueError, match="another one"):
        verdict(table([0.1]), table([0.1]), "own")
