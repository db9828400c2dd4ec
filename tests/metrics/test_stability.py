"""Stability over seeds: worked by hand, permuted, independent, half shared; chance against draws."""

import itertools

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from lib.metrics import matching
from lib.metrics.matching import FOUND, match
from lib.metrics.stability import (
    Stability,
    change_cosine,
    random_cosine,
    shuffled_cosine,
    stability,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everyone(decoder: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(decoder), dtype=torch.bool)


def compare(reference: torch.Tensor, *replicas: torch.Tensor) -> Stability:
    return stability(reference, replicas, everyone(reference), [everyone(r) for r in replicas])


def test_two_by_two_by_hand():
    """Cosines [[0.8, 0.6], [0.6, -0.8]]: the first finds a partner, the second's best is 0.6."""
    reference = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    replica = torch.tensor([[[0.8, 0.6]], [[0.6, -0.8]]]) * 5
    got = match(reference, replica)
    assert got.best.tolist() == pytest.approx([0.8, 0.6])
    assert got.partner.tolist() == [0, -1]


def test_both_sides_count_as_one_vector():
    """Base alike, tuned orthogonal: cosine 1/2, not found, although one side is the very same."""
    reference = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    replica = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    got = match(reference, replica)
    assert got.best.tolist() == pytest.approx([0.5])
    assert got.partner.tolist() == [-1]


def test_the_same_dictionary_survives_everywhere_also_permuted_scaled_and_in_bfloat16():
    decoder = normal(200, 2, 32)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    got = compare(decoder, decoder, 3 * decoder[order], decoder[order].bfloat16())
    assert got.seeds == 4 and got.found.tolist() == [4] * 200
    assert got.cosine.min() > 0.999 and got.change.min() > 0.99
    assert match(decoder, decoder[order]).partner.tolist() == order.argsort().tolist()


def test_independent_dictionaries_share_nothing_and_half_shared_ones_exactly_half():
    reference, other = normal(300, 2, 64), normal(300, 2, 64, seed=1)
    assert compare(reference, other).found.tolist() == [1] * 300
    half = torch.cat([other[:150], reference[150:]])
    assert compare(reference, half, other).found.tolist() == [1] * 150 + [2] * 150


def test_a_direction_that_the_replica_has_once_survives_once():
    """The best cosine would let both copies survive; the nearer one gets the partner."""
    copies = torch.tensor([[[1.0, 0.1]], [[1.0, 0.0]]])
    got = match(copies, torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert (got.best > FOUND).all()
    assert got.partner.tolist() == [-1, 0]


def test_pairs_that_are_no_match_do_not_compete():
    """Cosines [[0.75, 0.65], [0.65, 0.1]]: assigning all would take 0.65 + 0.65 and find nothing."""
    replica = torch.eye(3)[:2, None] * 2
    rows = torch.tensor([[0.75, 0.65], [0.65, 0.1]])
    rest = (1 - rows.square().sum(1, keepdim=True)).sqrt()
    reference = torch.cat([rows, rest], dim=1)[:, None]
    assert match(reference, replica).partner.tolist() == [0, -1]


def test_the_assignment_is_the_best_of_all_permutations():
    for seed in range(20):
        reference, replica = normal(5, 1, 2, seed=seed), normal(5, 1, 2, seed=100 + seed)
        cosines = torch.nn.functional.cosine_similarity(reference, replica[:, 0][None], dim=2)
        gain = torch.where(cosines >= FOUND, cosines, 0.0).numpy()
        best = max(gain[range(5), list(p)].sum() for p in itertools.permutations(range(5)))
        partner = match(reference, replica).partner
        found = (partner >= 0).nonzero().flatten()
        assert len(set(partner[found].tolist())) == len(found)
        assert gain[found, partner[found]].sum() == pytest.approx(best, abs=1e-5)


def test_chunks_and_the_greedy_way_out_change_nothing_where_the_answer_is_plain(monkeypatch):
    reference = normal(100, 2, 32)
    replica = reference + 0.3 * normal(100, 2, 32, seed=1)
    whole = match(reference, replica)
    monkeypatch.setattr(matching, "_CHUNK_BYTES", 4 * 100 * 7)
    chunked = match(reference, replica)
    assert torch.equal(chunked.partner, whole.partner) and torch.allclose(chunked.best, whole.best)
    crowd = normal(1, 2, 32) + 0.1 * normal(30, 2, 32, seed=2)  # one group of 30 x 30
    monkeypatch.setattr(matching, "_BLOCK", 4)
    greedy = match(crowd, crowd.flip(0))
    assert greedy.partner.tolist() == list(range(29, -1, -1))


def test_dead_latents_neither_survive_nor_vouch():
    decoder = normal(6, 2, 16)
    alive = torch.tensor([True, False, True, True, True, True])
    replica_alive = torch.tensor([False, True, True, True, True, True])
    got = stability(decoder, [decoder, decoder], alive, [everyone(decoder), replica_alive])
    assert got.found.tolist() == [2, 0, 3, 3, 3, 3]
    assert got.cosine.isnan().tolist() == [False, True, False, False, False, False]
    none = match(decoder, decoder, alive, torch.zeros(6, dtype=torch.bool))
    assert none.partner.tolist() == [-1] * 6 and none.best.isnan().all()


def test_a_latent_without_a_direction_is_not_found():
    decoder = normal(3, 2, 8)
    decoder[1] = 0
    assert match(decoder, decoder).partner.tolist() == [0, -1, 2]


def test_the_change_can_be_another_one_in_a_stable_latent():
    base, change = normal(3, 64), normal(3, 64, seed=1)
    reference = torch.stack([base, base + 0.01 * change], dim=1)
    signs = torch.tensor([[1.0], [-1.0], [0.0]])  # the same change, the opposite one, none
    replica = torch.stack([base, base + 0.01 * signs * change], dim=1)
    got = compare(reference, replica)
    assert got.found.tolist() == [2, 2, 2] and got.cosine.min() > 0.999
    assert got.change[:2].tolist() == pytest.approx([1.0, -1.0], abs=1e-3)
    assert got.change[2].isnan(), "a change of zero has no direction"


def test_a_change_counts_only_where_there_is_a_pair_and_two_sides():
    decoder = normal(2, 2, 16)
    assert change_cosine(decoder, decoder, torch.tensor([-1, 1])).isnan().tolist() == [True, False]
    assert change_cosine(decoder[:, :1], decoder[:, :1], torch.tensor([0, 1])).isnan().all()


@pytest.mark.parametrize(("latents", "d"), [(1, 5), (50, 8), (400, 32)])
def test_the_chance_level_is_what_drawn_directions_score(latents: int, d: int):
    directions = torch.nn.functional.normalize(normal(latents, d), dim=1)
    drawn = torch.nn.functional.normalize(normal(4000, d, seed=1), dim=1)
    median = (drawn @ directions.T).amax(1).median()
    assert random_cosine(latents, d) == pytest.approx(float(median), abs=0.05)


def test_the_chance_level_by_hand():
    """d = 3: the cosine is uniform on -1..1, so the best of two has median 2 sqrt(1/2) - 1."""
    assert random_cosine(2, 3) == pytest.approx(2 * 0.5**0.5 - 1)
    assert 0.0 < random_cosine(65_536, 4096) < 0.1
    assert np.isnan(random_cosine(0, 3))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        random_cosine(5, 1)


def test_shuffled_coordinates_are_near_chance_and_see_what_the_sides_share():
    """Equal sides double nothing: the level is that of d, not of 2 d, dimensions."""
    base = normal(500, 1, 64)
    decoder = base.expand(-1, 2, -1)
    assert shuffled_cosine(decoder, decoder) == pytest.approx(random_cosine(500, 64), abs=0.03)
    assert np.isnan(shuffled_cosine(decoder[:0], decoder))


def test_what_cannot_be_compared_is_named():
    decoder = normal(4, 2, 8)
    with pytest.raises(ValueError, match=r"\(2, 8\) and \(1, 8\)"):
        match(decoder, decoder[:, :1])
    with pytest.raises(ValueError, match=r"\(2, 8\) and \(2, 6\)"):
        match(decoder, decoder[:, :, :6])
    with pytest.raises(ValueError, match="at least one replica"):
        stability(decoder, [], everyone(decoder), [])
    broken = decoder.clone()
    broken[1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 4 decoders hold NaN"):
        match(decoder, broken)
    with pytest.raises(TypeCheckError):
        match(decoder, decoder.long())
