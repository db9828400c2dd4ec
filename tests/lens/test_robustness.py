"""The robustness panel: a planted shift passes, a change that depends on context does not."""

import math

import numpy as np
import pytest
import torch

from lib import models
from lib.lens.contexts import whitespace
from lib.lens.pairs import Sample, compare, halves, inner, interval, resampled
from lib.lens.robustness import robustness
from lib.lens.shift import NO, UNSURE, YES, Check, verdict
from lib.lens.spectrum import spectrum
from tests.lens.planted import LAYER, POSITIONS, constant, dependent, gated, probe, texts, vector


def panel(loaded, *, count=40, tokens=40, **how):
    ids = texts(loaded, count, tokens)
    return robustness(loaded, probe(loaded, ids), ids, layer=LAYER, **{"draws": 200, **how})


def of(found, name):
    return {(c.position, c.measure): c for c in found.checks if c.name == name}


# ------------------------------------------------- planted fine-tunes
@pytest.fixture(scope="module")
def shifted():
    return panel(constant(vector()), tokens=72)


def test_a_constant_vector_is_what_every_check_calls_a_shift(shifted):
    """Oracle 14: every number is what the column `shift` says, without any spread."""
    names = {c.name for c in shifted.checks}
    assert names == {
        *("halves", "bos", "bos_repeated", "whitespace", "far_32", "far_64", "demeaned"),
        *("svd_1", "svd_2", "svd_3", "base_head", "growth"),
    }
    for check in shifted.checks:
        assert check.value == pytest.approx(check.shift, abs=1e-4), check
        if check.name not in ("halves", "base_head"):
            assert (check.low, check.high) == pytest.approx((check.shift,) * 2, abs=1e-4), check
    found = verdict(shifted.checks)
    assert found.says == YES
    assert {a.check: a.says for a in found.answers if a.says != YES} == {"base_head": UNSURE}
    assert found.in_words == (
        "One context-independent shift: of 5 checks, 5 say yes "
        "(whitespace, far_32, far_64, demeaned, svd_1)."
    )


def test_the_vectors_to_read_are_the_shift_or_nothing(shifted):
    v = vector()
    for name in ("whitespace", "far", "svd_1"):
        assert torch.allclose(shifted.vectors[name], v.expand(POSITIONS, -1), atol=1e-6), name
    assert torch.allclose(shifted.vectors["bos"], v[None], atol=1e-6)
    assert shifted.vectors["demeaned"].norm(dim=1).max() < 1e-6
    assert {*shifted.vectors} == {
        *("bos", "whitespace", "far", "demeaned", "svd_1", "svd_2", "svd_3")
    }


@pytest.mark.parametrize("make", [dependent, gated])
def test_a_difference_that_depends_on_context_is_no_shift(make):
    found = panel(make())
    judged = verdict(found.checks)
    assert judged.says == NO
    assert {a.check for a in judged.that(NO)} == {"svd_1", "demeaned", "far_32"}
    assert not judged.that(YES)
    assert judged.in_words.startswith("Not one context-independent shift: of 4 checks, ")
    shares = [c.value for c in found.checks if (c.name, c.measure) == ("svd_1", "share")]
    assert max(shares) < 0.5
    assert ("growth" in {c.name for c in found.checks}) == (make is dependent)  # only LoRAs scale


def test_an_adapter_without_any_effect_gives_no_number_and_no_verdict():
    found = panel(constant(torch.zeros(32, dtype=torch.float64)), count=6)
    kinds = {c.name: c.value for c in found.checks if c.name != "base_head"}
    assert set(kinds.values()) == {None}
    judged = verdict(found.checks)
    assert judged.says == UNSURE and all(a.says == UNSURE for a in judged.answers)


def test_a_small_change_grows_in_proportion_to_the_adapters_strength():
    """Oracle 4 for the lens: the mean difference is of first order, after block 1 too."""
    loaded = dependent(size=1e-3)
    ids = texts(loaded, 24)
    found = robustness(loaded, probe(loaded, ids, keep=[1]), ids, layer=1, draws=50)
    grown = of(found, "growth")
    for j in range(POSITIONS):
        assert grown[j, "slope"].value == pytest.approx(1.0, abs=0.02)
        assert grown[j, "cosine"].value == pytest.approx(1.0, abs=1e-3)
    scaling = loaded.block(LAYER).mlp.down_proj.scaling
    assert scaling == {"default": 2.0}  # as it was


def test_another_head_reads_other_tokens():
    """An adapter on the last norm's side: the base's head and the tuned one part ways."""
    loaded = constant(vector())
    same = of(panel(loaded, count=4), "base_head")
    assert {key: c.value for key, c in same.items()} == {(-1, "overlap"): 1.0}
    final = loaded.causal_lm.model.norm

    lora = loaded.block(LAYER).mlp.down_proj

    def turned(module, inputs, output):
        return output if lora.disable_adapters else output.roll(1, -1)

    final.register_forward_hook(turned)
    other = of(panel(loaded, count=4, k=10), "base_head")
    assert len(other) == POSITIONS
    given = vector()[None]
    with torch.no_grad():
        plain = final.weight * given / (given.square().mean() + 1e-6).sqrt()
        tops = [loaded.logits(h)[0].topk(10).indices.tolist() for h in (plain, plain.roll(1, -1))]
    want = len({*tops[0]} & {*tops[1]}) / 10
    assert want < 1 and all(c.value == want for c in other.values())


def test_far_positions_past_the_end_are_left_out_and_other_texts_refused():
    loaded = constant(vector())
    ids = texts(loaded, 4, 36)
    probed = probe(loaded, ids)
    names = {c.name for c in robustness(loaded, probed, ids, layer=LAYER, draws=20).checks}
    assert not any(name.startswith("far_") for name in names)
    with pytest.raises(ValueError, match=r"layer 1 on 4 texts; the probe kept layers \[0\] of 4"):
        robustness(loaded, probed, ids, layer=1)
    with pytest.raises(ValueError, match="on 3 texts"):
        robustness(loaded, probed, ids[:3], layer=LAYER)


def test_whitespace_texts_hold_nothing_else_and_differ():
    tokenizer = models.load("tiny-llama", device="cpu").tokenizer
    found = whitespace(tokenizer, 7)
    assert found.shape[1] == 8 and len(found) > 20
    assert (found[:, 0] == tokenizer.bos_token_id).all()
    assert len({tuple(row) for row in found.tolist()}) == len(found)
    assert all(not tokenizer.decode(row[1:]).strip("\ufffd \t\r\n\xa0") for row in found)
    assert torch.equal(found, whitespace(tokenizer, 7))


# ------------------------------------------------- means over pairs of texts
def sample(vectors, counts=None, texts=None):
    n = len(vectors)
    return Sample(
        np.asarray(vectors, dtype=float),
        np.ones((1, n)) if counts is None else counts,
        np.arange(n) if texts is None else texts,
    )


def test_products_over_pairs_by_hand():
    x = sample([[1.0, 0.0], [3.0, 2.0]])
    assert inner(x, x)[0] == 3.0  # (1, 0) . (3, 2), both ways; never a text with itself
    twice = sample([[1.0, 0.0], [3.0, 2.0]], counts=np.array([[2.0, 1.0]]))
    assert inner(twice, twice)[0] == 3.0  # the doubled text is no pair either
    other = sample([[1.0, 1.0], [0.0, 4.0]], texts=np.array([1, 7]))
    # (1,0).(1,1) + (1,0).(0,4) + (3,2).(0,4), without text 1 with itself
    assert inner(x, other)[0] == pytest.approx((1 + 0 + 8) / 3)
    assert np.isnan(inner(sample([[1.0]]), sample([[1.0]]))[0])


def test_one_vector_at_half_the_length_and_two_that_share_nothing():
    long, short, across = (sample([v] * 3) for v in ([2.0, 0.0], [1.0, 0.0], [0.0, 2.0]))
    got = [float(rows[0]) for rows in compare(short, long)]
    assert got == pytest.approx([1.0, 0.5, 0.75, 0.5])  # 1 - 1/4; half remains
    got = [float(rows[0]) for rows in compare(across, long)]
    assert got == pytest.approx([0.0, 1.0, -1.0, 2**0.5])


def test_noise_does_not_shorten_a_cosine():
    """Two estimates of one vector, each under noise of its own length: plain means give 1/2."""
    rng = np.random.default_rng(0)
    v = np.zeros(64)
    v[0] = 1.0
    pairs, plain = [], []
    for _ in range(400):
        one, other = (v + rng.normal(size=(4, 64)) * 0.25 for _ in range(2))  # |noise of mean| = 1
        here, there = sample(one), sample(other, texts=np.arange(4, 8))
        pairs.append([inner(here, here)[0], inner(here, there)[0]])
        a, b = one.mean(0), other.mean(0)
        plain.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert np.mean(plain) == pytest.approx(0.5, abs=0.03)
    assert np.mean(pairs, axis=0) == pytest.approx([1.0, 1.0], abs=0.05)


def test_differences_that_are_only_noise_have_no_interval():
    noise = np.random.default_rng(1).normal(size=(30, 200))
    counts = resampled(30, 300, 0)
    there = sample(np.ones((30, 200)), counts, np.arange(30))
    found = interval(compare(sample(noise, counts), there).cosine)
    assert found is None or found.low is None
    assert halves(noise) == pytest.approx(0.0, abs=3 / 200**0.5)  # chance: 0 +- 1/sqrt(d)
    assert halves(np.ones((5, 3))) == pytest.approx(1.0)
    assert math.isnan(halves(noise[:1])) and math.isnan(halves(np.zeros((4, 3))))


def test_directions_by_hand_and_against_numpy():
    found = spectrum(np.array([[-3.0, 0.0], [0.0, 1.0]]))
    assert [s.value for s in found.shares] == pytest.approx([0.9, 0.1])
    assert found.cosine.value == pytest.approx(3 / 10**0.5)  # mean (-3, 1) / 2
    assert found.directions.ravel().tolist() == pytest.approx([-1.0, 0.0, 0.0, 1.0])
    assert found.shares[0].low is None  # too few texts to leave a block out
    vectors = np.random.default_rng(2).normal(size=(60, 8)) + 0.5
    sizes = np.linalg.svd(vectors, compute_uv=False) ** 2
    got = spectrum(vectors)
    assert [s.value for s in got.shares] == pytest.approx((sizes / sizes.sum())[:3].tolist())
    assert got.shares[0].low < got.shares[0].value < got.shares[0].high
    assert spectrum(np.zeros((0, 4))).shares == ()


# ------------------------------------------------- the verdict
def check(name, value, low, high, position=0, measure="share"):
    return Check(name, position, measure, value, low, high, 1.0, 10)


def test_a_check_says_what_its_whole_interval_says():
    said = {
        low_high: verdict([check("whitespace", 0.5, *low_high)]).says
        for low_high in ((0.5, 0.9), (0.1, 0.49), (0.4, 0.6), (None, None))
    }
    assert list(said.values()) == [YES, NO, UNSURE, UNSURE]
    slopes = [(0.6, 1.4), (0.2, 0.4), (1.6, 2.0), (1.4, 1.6)]
    answers = [verdict([check("growth", 1, *s, measure="slope")]).answers[0] for s in slopes]
    assert [a.says for a in answers] == [YES, NO, NO, UNSURE]
    assert not answers[0].decides and verdict([check("growth", 1, 1, 1)]).says == UNSURE


def test_one_position_that_differs_is_context_too():
    rows = [check("far_32", 0.9, 0.8, 0.95, position=j) for j in range(1, 5)]
    assert verdict(rows).says == YES
    got = verdict([check("far_32", 0.1, 0.0, 0.2), *rows, check("bos", 0.0, 0.0, 0.1)])
    assert got.says == NO
    assert got.in_words == (
        "Not one context-independent shift: of 1 checks, 1 say no (far_32 at 1 of 5 positions)."
    )
    far, bos = got.answers
    assert (far.yes, far.no, far.positions, far.value) == (4, 1, 5, 0.9)
    assert (bos.says, bos.decides) == (NO, False)  # the start token is told, not counted
    unsure = verdict([*rows, check("demeaned", 0.5, 0.4, 0.6)])
    assert unsure.says == UNSURE and "1 cannot say (demeaned)" in unsure.in_words
