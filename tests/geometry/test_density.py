"""How dense features are: both definitions by hand, and what a fixed k makes of them."""

import math

import numpy as np
import pytest
import torch

from lib.geometry.density import Firings, density, firings
from lib.sparse import Dictionary
from tests.geometry.planted import dictionary, frame, normal, sparse_sums


def counts(fired, tokens, energy=None) -> Firings:
    fired = np.array(fired)
    energy = fired.astype(float) if energy is None else np.array(energy, dtype=float)
    return Firings(np.array(tokens), fired, energy)


def test_both_definitions_by_hand():
    """4,000 tokens: a latent counts as firing often from 5 firings on, since 4 are 0.1 % exactly."""
    got = density(counts([[5, 4, 0, 1000], [0, 0, 0, 1000]], [2000, 2000]))
    assert got.per_token.value == pytest.approx((5 + 4 + 2000) / 4000 / 4)
    assert got.often.value == pytest.approx(2 / 4)
    assert (got.latents, got.tokens) == (4, 4000)
    assert (got.often.low, got.often.high) == (0, 1)  # 1/4 and 3/4 without one of two documents


def test_the_effective_share_is_1_for_equal_latents_and_1_over_n_for_one():
    equal = density(counts([[3, 3, 3, 3], [3, 3, 3, 3]], [9, 9]))
    assert equal.effective == pytest.approx((1, 1, 1))
    single = density(counts([[3, 0, 0, 0], [1, 0, 0, 0]], [9, 9]))
    assert single.effective.value == pytest.approx(1 / 4)
    by_hand = density(counts([[1, 1]], [9], energy=[[1.0, 3.0]]))
    assert by_hand.effective == (pytest.approx(16 / 10 / 2), None, None)
    lone = density(counts([[1, 1], [0, 0]], [9, 9]))  # without its one document nothing fires
    assert lone.effective == (1, 0, 1)


def test_counts_of_a_dictionary_by_hand_in_any_chunks():
    """Bias -1 on unit rows: a coordinate fires above 1, by what it exceeds 1."""
    made = dictionary(torch.diag(torch.tensor([1.0, 2.0])), 1, bias=-1.0)
    x = torch.tensor([[3.0, 0.0], [0.5, 2.0], [2.0, 1.0], [0.0, 0.0]])
    groups = torch.tensor([4, 4, 2, 2])
    for chunk in (1, 3, 100):
        got = firings(made, x, groups, chunk=chunk)
        assert got.tokens.tolist() == [2, 2]
        assert got.fired.tolist() == [[1, 1], [1, 1]]
        assert np.allclose(got.energy, [[1, 4 * 1], [4, 4 * 9]])


def test_a_fixed_k_fixes_the_first_definition_and_not_how_many_latents_are_used():
    """Why density per token says nothing of a BatchTopK dictionary: two texts, one of which uses a
    quarter of the features; both fire k of m."""
    rows, groups = frame(32), torch.arange(2_000) // 100
    made = dictionary(rows, 3)
    made.selection = "topk"
    wide, narrow = sparse_sums(rows, 2_000, 3), sparse_sums(rows[:8], 2_000, 3)
    one, other = (density(firings(made, x + 1e-6, groups)) for x in (wide, narrow))
    assert one.per_token.value == other.per_token.value == pytest.approx(3 / 32)
    assert other.effective.high < 0.3 < 0.9 < one.effective.low
    assert other.effective.low <= other.effective.value <= other.effective.high


def test_documents_are_resampled_not_tokens():
    """Ten documents that each fire all or nothing: wide; the same tokens, one a document: narrow."""
    fire = (torch.arange(1_000) // 100 % 2)[:, None].float() * 3
    made = dictionary(torch.eye(1), 1, bias=-1.0)
    few, many = (
        density(firings(made, fire, g)).per_token
        for g in (torch.arange(1_000) // 100, torch.arange(1_000))
    )
    assert few.value == many.value == pytest.approx(0.5)
    assert few.high - few.low > 5 * (many.high - many.low)


def test_latents_that_never_fire_have_no_effective_share():
    silent = Dictionary(1, 4, 6, 2)
    got = density(firings(silent, normal(50, 4).float(), torch.arange(50) // 10))
    assert (got.per_token.value, got.often.value) == (0, 0)
    assert math.isnan(got.effective.value) and got.effective.low is None


def test_the_interval_of_used_latents_holds_the_value():
    """Each document uses its own latents: any resample has fewer of them, so a percentile interval of
    the bootstrap would lie below the value."""
    data = counts(40 * np.eye(30, 40, dtype=int) + 1, [200] * 30)
    got = density(data)
    for share in (got.effective, got.often):
        assert share.low <= share.value <= share.high
    assert got.often.value == 1
    rng = np.random.default_rng(0)
    fired = rng.poisson(0.2, (30, 40)) * 20
    leave = np.array([((fired.sum(0) - f) > 0.001 * 5800).mean() for f in fired])
    often = density(counts(fired, [200] * 30)).often
    spread = math.sqrt(29 / 30 * ((leave - leave.mean()) ** 2).sum())
    assert often.high - often.value == pytest.approx(
        min(1 - often.value, 2.0452 * spread), rel=1e-3
    )


def test_refusals():
    made = dictionary(torch.eye(3), 1)
    for tokens, documents in ((0, 0), (5, 4)):
        with pytest.raises(ValueError, match=f"{tokens} tokens of {documents} documents"):
            firings(made, torch.ones(tokens, 3), torch.zeros(documents))
    with pytest.raises(ValueError, match="expected activations"):
        firings(made, torch.ones(5, 4), torch.zeros(5))
