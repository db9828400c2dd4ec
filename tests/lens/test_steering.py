"""Steering: the coherence measure and its search by hand, the writer against plain passes."""

import math

import numpy as np
import pytest
import torch

from lib import corpora, models
from lib.lens import steering
from lib.lens.coherence import (
    LEAST,
    MOST,
    MOST_ROUNDS,
    base_losses,
    distinct_pairs,
    is_coherent,
    largest_coherent,
    longest_run,
    loss_bound,
)
from lib.lens.passes import edited
from lib.lens.prompts import PROMPTS, prompt_ids
from lib.lens.relevance import own_words
from lib.lens.steering import steer
from lib.lens.writing import Writer

D, LAYER = 32, 0


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def loaded() -> models.LoadedModel:
    return models.load("tiny-llama", device="cpu")


# ------------------------------------------------- the search
@pytest.mark.parametrize("edge", [0.02, 0.1, 0.25, 0.3, 1.0, 7.0, 50.0])
def test_the_search_finds_the_edge_of_coherence(edge):
    asked = []

    def share_at(coefficient: float) -> float:
        asked.append(coefficient)
        return 0.8 if coefficient <= edge else 0.79

    got = largest_coherent(share_at)
    assert got.coefficient <= edge < got.coefficient * 2**0.25 + 1e-12
    assert got.tried == tuple(asked) and len(set(asked)) == len(asked) <= MOST_ROUNDS
    assert got.shares == tuple(0.8 if c <= edge else 0.79 for c in asked)


def test_the_search_by_hand():
    got = largest_coherent(lambda c: 1.0 - 0.3 * c, wanted=0.5)  # edge at 5/3
    assert got.tried == pytest.approx((0.25, 0.5, 1.0, 2.0, 2**0.5, 2**0.75))
    assert got.coefficient == pytest.approx(2**0.5)


def test_the_search_ends_at_its_limits():
    assert largest_coherent(lambda c: 1.0).coefficient == MOST
    nothing = largest_coherent(lambda c: 0.0)
    assert nothing.coefficient == 0 and min(nothing.tried) == LEAST
    assert len(largest_coherent(lambda c: float(c <= 40)).tried) == MOST_ROUNDS


# ------------------------------------------------- coherence
def test_repetition_by_hand():
    assert distinct_pairs([1, 2, 1, 2, 1]) == 0.5  # 12 21 12 21
    assert math.isnan(distinct_pairs([1]))
    assert [longest_run(ids) for ids in ([], [5], [5, 5, 1, 5], [2, 3, 3, 3])] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "ids, loss, coherent",
    [
        ([1, 2, 3, 4, 5, 6], 2.0, True),
        ([1, 2, 3, 4, 5, 6], 2.1, False),  # less likely than the bound
        ([1, 2, 3, 4, 5, 6], math.nan, False),
        ([1, 2, 3], 1.0, False),  # too short to tell
        ([1, 2, 1, 2, 1], 1.0, True),  # half of the pairs are distinct
        ([1, 2, 1, 2, 1, 2], 1.0, False),
        ([7, 7, 7, 7, 1, 2, 3, 4], 1.0, True),
        ([7, 7, 7, 7, 7, 1, 2, 3, 4, 5, 6, 8], 1.0, False),  # five in a row
    ],
)
def test_coherence_by_hand(ids, loss, coherent):
    assert is_coherent(ids, loss, bound=2.0) is coherent


def test_the_bound_passes_nearly_all_unsteered_text_and_no_noise():
    losses = [0.1 * i for i in range(21)]  # 0 to 2: the 95 % quantile is 1.9
    assert loss_bound([*losses, math.nan], vocab=100) == pytest.approx(1.9)
    assert sum(x <= loss_bound(losses, 100) for x in losses) == 20
    assert loss_bound(losses, vocab=3) == pytest.approx(math.log(3))  # a uniform guess is no text
    assert math.isnan(loss_bound([math.nan], 100))


def test_base_losses_are_plain_cross_entropies_in_any_batches(loaded, monkeypatch):
    prompts = [[0, 40, 50], [0, 60], [0, 70, 80, 90, 100]]
    after = [[11, 12, 13, 14], [15], []]
    monkeypatch.setattr("lib.lens.coherence._ROWS", 2)
    got = base_losses(loaded, prompts, after)
    for before, tokens, loss in list(zip(prompts, after, got, strict=True))[:2]:
        logits = loaded.model(torch.tensor([[*before, *tokens]])).logits[0].log_softmax(1)
        picked = [logits[len(before) - 1 + at, token] for at, token in enumerate(tokens)]
        assert loss == pytest.approx(-float(sum(picked)) / len(tokens), abs=1e-5)
    assert math.isnan(got[2])


# ------------------------------------------------- prompts
def test_the_prompts_are_twenty_and_belong_to_no_corpus():
    """None uses a word that is among a corpus' own frequent ones."""
    assert len(PROMPTS) == 20 and len(set(PROMPTS)) == 20

    def words(text: str) -> list[str]:
        return [w for w in "".join(c if c.isalpha() else " " for c in text.lower()).split()]

    read = {n: [words(d.text) for d in corpora.load(n).documents] for n in corpora.OWN}
    vocabulary = sorted({w for texts in read.values() for text in texts for w in text})
    index = {w: i for i, w in enumerate(vocabulary)}
    counts = {
        name: np.bincount([index[w] for text in texts for w in text], minlength=len(index))
        for name, texts in read.items()
    }
    said = {index[w] for p in PROMPTS for w in words(" ".join(p)) if len(w) > 2 and w in index}
    for name in set(counts) - {"neutral"}:
        own = own_words(counts[name], counts["neutral"])
        assert not {vocabulary[i] for i in said & set(own.tolist())}, name


def test_prompts_are_plain_text_with_bos_or_go_through_the_template(loaded):
    plain = prompt_ids(loaded.tokenizer)
    assert [ids[0] for ids in plain] == [0] * 20
    assert [loaded.tokenizer.decode(ids[1:]) for ids in plain] == [p.opening for p in PROMPTS]
    with pytest.raises(ValueError, match="no chat template"):
        prompt_ids(loaded.tokenizer, chat=True)
    chatty = models.byte_tokenizer()
    chatty.chat_template = (
        "<s>{{ messages[0]['content'] }}!{% if add_generation_prompt %}>{% endif %}"
    )
    got = prompt_ids(chatty)
    assert [chatty.decode(ids) for ids in got] == [f"<s>{p.request}!>" for p in PROMPTS]
    assert [ids.count(0) for ids in got] == [1] * 20
    assert prompt_ids(chatty, chat=False) == plain


# ------------------------------------------------- writing
def test_batched_cached_writing_is_what_the_edited_model_says_one_by_one(loaded):
    """At a temperature near 0 every token is the likeliest of a plain pass with the vector added."""
    prompts = ((0, 40, 50, 60, 70, 80), (0, 90), (0, 33, 44))
    added = 2.0 * normal(D, seed=2)
    got = Writer(loaded, LAYER, prompts, 12, 1e-4, 0).write(added)
    assert got != Writer(loaded, LAYER, prompts, 12, 1e-4, 0).write(None)
    for before, after in zip(prompts, got, strict=True):
        assert len(after) == 12
        with torch.no_grad(), edited(loaded, LAYER, lambda stream: stream + added):
            logits = loaded.model(torch.tensor([[*before, *after]]), use_cache=False).logits[0]
        logits[:, 1] = -math.inf  # the end token may not come first
        assert logits[len(before) - 1 : -1].argmax(1).tolist() == after


def test_a_text_ends_at_its_end_token(loaded, monkeypatch):
    def generate(ids, **_):
        tail = torch.tensor([[5, 6, 1, 1], [7, 8, 9, 4]])
        return torch.cat([ids, tail], dim=1)

    monkeypatch.setattr(loaded.model, "generate", generate)
    writer = Writer(loaded, LAYER, ((0, 3), (0, 3, 4)), 4, 1.0, 0)
    assert writer.write(None) == [[5, 6], [7, 8, 9, 4]]


# ------------------------------------------------- the whole
@pytest.fixture(scope="module")
def steered(loaded) -> steering.Steering:
    eta = 6.0
    return steer(loaded, normal(D, seed=9), eta, LAYER, samples=2, tokens=12, seed=3)


def test_a_model_is_steered_as_far_as_text_stays_coherent(loaded, steered):
    told = steered.generations
    assert steered.note == "" and steered.coefficient > 0
    assert steered.coherent >= 0.8 and steered.coherent_plain >= 0.8
    assert [g.kind for g in told] == ["unsteered"] * 40 + ["steered"] * 40
    assert [(g.prompt, g.sample) for g in told[:40]] == [(p, s) for p in range(20) for s in (0, 1)]
    for kind, share in (("unsteered", steered.coherent_plain), ("steered", steered.coherent)):
        assert np.mean([g.coherent for g in told if g.kind == kind]) == pytest.approx(share)
    at = steered.tried.index(steered.coefficient)
    assert steered.tried_coherent[at] == steered.coherent
    pairs = zip(steered.tried, steered.tried_coherent, strict=True)
    beyond = [share for coefficient, share in pairs if coefficient > steered.coefficient]
    assert beyond and max(beyond) < 0.8
    assert {g.text for g in told[:40]} != {g.text for g in told[40:]}


def test_a_seed_gives_its_text_again_and_another_seed_another(loaded, steered):
    rounds = []

    def again(seed: int) -> steering.Steering:
        torch.manual_seed(seed + 77)  # the caller's random state does not matter, nor change
        before = torch.get_rng_state()
        got = steer(
            loaded,
            5.0 * normal(D, seed=9),  # nor does the vector's length
            6.0,
            LAYER,
            tokens=12,
            seed=seed,
            progress=lambda *told: rounds.append(told),
        )
        assert torch.equal(torch.get_rng_state(), before)
        return got

    same = again(3)
    assert same.generations == steered.generations and same.tried == steered.tried
    most = 1 + MOST_ROUNDS
    count = len(same.tried)
    assert rounds == [
        ("unsteered", 1, most),
        *(("steered", at, most) for at in range(2, count + 2)),
    ]
    assert again(4).generations != steered.generations


def test_no_direction_no_steering(loaded):
    for nothing in (torch.zeros(D), torch.full((D,), math.nan)):
        got = steer(loaded, nothing, 6.0, LAYER, samples=1, tokens=8)
        assert got.coefficient == 0 and got.tried == () and "no direction" in got.note
        assert {g.kind for g in got.generations} == {"unsteered"}
        assert got.coherent == got.coherent_plain


def test_incoherent_unsteered_text_is_said_to_be_so(loaded, monkeypatch):
    monkeypatch.setattr(Writer, "_generate", lambda self: [[5] * 8] * len(self.prompts))
    got = steer(loaded, normal(D), 6.0, LAYER, samples=1, tokens=8)
    assert got.coefficient == 0 and got.coherent_plain == 0
    assert got.note.startswith("Only 0% of the unsteered samples")


def test_a_direction_that_no_text_survives_is_said_to_be_so(loaded, monkeypatch):
    write = Writer.write

    def written(self, added):
        return write(self, None) if added is None else [[5] * 8] * len(self.prompts)

    monkeypatch.setattr(Writer, "write", written)
    got = steer(loaded, normal(D), 6.0, LAYER, samples=2, tokens=12, seed=3)
    assert got.coefficient == 0 and got.coherent == got.coherent_plain >= 0.8
    assert "0.015625, left fewer than 80%" in got.note
    assert len(got.tried) == 5 and set(got.tried_coherent) == {0.0}


@pytest.mark.parametrize("change", [{"eta": 0.0}, {"eta": math.nan}, {"samples": 0}])
def test_what_cannot_be_steered_is_refused(loaded, change):
    given = {"eta": 1.0, "samples": 1} | change
    with pytest.raises(ValueError, match="eta must be the norm"):
        steer(loaded, normal(D), given["eta"], LAYER, samples=given["samples"], tokens=8)
