"""Directions against a pretrained dictionary, always beside chance and other seeds (oracle 13)."""

import math

import numpy as np
import pytest
import torch

from lib.geometry.alignment import align, cosines
from lib.geometry.directions import (
    energy_rows,
    expected_cosine,
    random_directions,
    random_mixtures,
)
from lib.geometry.distance import from_chance, from_exact
from lib.geometry.similarity import similarity
from lib.geometry.subspaces import subspaces
from lib.metrics.angles import Chance, chance_angle, chance_cosine, upper_cosine
from tests.geometry.planted import dictionary, frame, normal

D = 32


def test_the_distance_from_chance_by_hand():
    got = from_chance(0.5, Chance(0.3, 0.1, 100), seed=4, n=25)
    assert got[:4] == pytest.approx((0.5, 0.3, 0.1, 2.0))
    assert got.errors == pytest.approx(0.2 / (0.1 * math.sqrt(1 / 25 + 1 / 100)))
    assert (got.n, got.seed) == (25, 4)
    exact = from_exact(0.5, 0.3, 0.1)
    assert exact.distance == exact.errors == pytest.approx(2) and exact.seed is None
    assert math.isnan(from_exact(1.0, 1.0, 0.0).distance)
    assert math.isnan(from_chance(1.0, Chance(1.0, 0.0, 8), seed=0).distance)


def test_unrelated_rows_score_the_published_cosine_in_closed_form():
    """Oracle 13: 0.066 and 0.069 at 16,384 rows and d 3,584, exactly and below 0.074."""
    signed, absolute = (expected_cosine(16_384, 3_584, absolute=a) for a in (False, True))
    assert signed.mean == pytest.approx(0.0659, abs=5e-4)
    assert absolute.mean == pytest.approx(0.0685, abs=5e-4)
    assert signed.mean < absolute.mean < upper_cosine(16_384, 3_584)


@pytest.mark.parametrize(("rows", "d"), [(1, 2), (1, 40), (30, 3), (500, 64), (4_096, 576)])
@pytest.mark.parametrize("absolute", [False, True])
def test_the_closed_form_is_what_is_simulated(rows, d, absolute):
    """Directions meet fresh rows each, as the closed form has it."""
    want = expected_cosine(rows, d, absolute=absolute)
    if rows * d < 50_000:
        unit = torch.nn.functional.normalize(normal(400, rows, d), dim=2)
        best = (unit[:, :, 0].abs() if absolute else unit[:, :, 0]).amax(1)
        mean, sd = float(best.mean()), float(best.std())
        assert sd == pytest.approx(want.sd, rel=0.2)
    else:
        mean = chance_cosine(rows, d, absolute=absolute, directions=256).mean
    assert mean == pytest.approx(want.mean, abs=4 * want.sd / math.sqrt(256) + 1e-4)


def test_one_random_cosine_in_three_dimensions_by_hand():
    """In 3 dimensions a cosine is uniform on -1..1: best of n has mean 1 - 2/(n + 1)."""
    for n in (1, 2, 9):
        assert expected_cosine(n, 3).mean == pytest.approx(1 - 2 / (n + 1), abs=1e-6)
        assert expected_cosine(n, 3, absolute=True).mean == pytest.approx(n / (n + 1), abs=1e-6)
    assert expected_cosine(1, 3).sd == pytest.approx(1 / math.sqrt(3), rel=1e-4)
    for wrong in ((0, 3), (3, 1)):
        with pytest.raises(ValueError, match="at least 1 row"):
            expected_cosine(*wrong)


def test_unrelated_dictionaries_are_at_chance_and_seeds_that_agree_are_far_from_it():
    own, pretrained = random_directions(200, D, 1), random_directions(300, D, 2)
    turned = own + 0.02 * normal(200, D, seed=3).float()
    got = align(own, pretrained, other_adapter=turned, seed=9)
    for score in (got.pretrained.signed, got.pretrained.absolute, got.pretrained.signed_mixed):
        assert abs(score.errors) < 4 and abs(score.distance) < 0.4
        assert (score.n, score.seed) == (200, 9)
    assert got.adapter_seeds.signed.value > 0.98
    assert got.adapter_seeds.signed.distance > 5
    assert got.pretrained_seeds is None
    both = align(own, pretrained, other_pretrained=pretrained.flip(0))
    assert both.pretrained_seeds.signed.value == pytest.approx(1)
    assert both.pretrained.expected.mean == pytest.approx(both.pretrained.signed.chance, abs=0.02)
    again = align(own, pretrained, seed=9).pretrained
    assert again.signed == got.pretrained.signed
    assert align(own, pretrained, seed=8).pretrained.signed != got.pretrained.signed


def test_the_sign_tells_opposite_rows_from_equal_ones():
    axes = frame(D).float()
    got = cosines(torch.stack([axes[0], -axes[1], 0 * axes[2]]), axes)
    assert got.closest.absolute[:2].tolist() == pytest.approx([1, 1])
    assert got.closest.signed[:2].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert got.absolute.value == pytest.approx(1) and got.signed.value == pytest.approx(0.5)
    assert got.signed.n == 2, "a direction without a norm has no cosine"


def test_a_shared_subspace_without_shared_directions_is_told_by_mixtures():
    """Directions that merely live where the dictionary lives look aligned beside isotropic chance."""
    axes = frame(D).float()
    own, pretrained = normal(300, 6).float() @ axes[:6], normal(300, 6, seed=1).float() @ axes[:6]
    got = cosines(own, pretrained)
    assert got.signed.distance > 3
    assert abs(got.signed_mixed.distance) < 0.4
    mixed = random_mixtures(own, seed=3)
    unit = torch.nn.functional.normalize(own, dim=1).double()
    assert torch.allclose(mixed @ axes[:6].T.double() @ axes[:6].double(), mixed, atol=1e-5)
    gap = (mixed.T @ mixed - unit.T @ unit).norm() / (unit.T @ unit).norm()
    assert 0.01 < gap < 0.3


def test_subspaces_same_and_complement():
    """Oracle 13: 0 and 90 degrees, with a basis change and beside chance."""
    axes = frame(D)
    mixed = normal(5, 5, seed=1) @ axes[:5]
    same = subspaces(mixed, axes[:5], 5)
    assert float(same.angles.max()) < 1e-6 and same.cosine_squared.value == pytest.approx(1)
    apart = subspaces(mixed, axes[5:10], 5)
    assert torch.allclose(apart.angles, torch.full((5,), 90.0).double())
    assert apart.cosine_squared.value == pytest.approx(0, abs=1e-12)
    for got in (same, apart):
        assert got.cosine_squared.chance == pytest.approx(5 / D)
        assert (got.k, got.d, got.angle.seed) == (5, D, 0)
    assert same.angle.distance < -10 < 3 < apart.angle.distance
    part = subspaces(axes[:5], axes[4:9], 5)
    assert float(part.smallest.value) == pytest.approx(0, abs=1e-6)
    assert part.smallest.distance < -5 and part.cosine_squared.value == pytest.approx(1 / 5)


@pytest.mark.slow
def test_random_subspaces_are_at_the_published_chance():
    """Oracle 13: 73.5 degrees at k 380 of 3,584; here both are drawn, as no short cut would."""
    got = subspaces(normal(380, 3_584), normal(380, 3_584, seed=1), 380, draws=2)
    assert got.angle.value == pytest.approx(73.5, abs=0.15)
    assert got.angle.chance == pytest.approx(73.5, abs=0.15)
    assert got.cosine_squared.chance == pytest.approx(380 / 3_584)
    assert abs(got.cosine_squared.distance) < 4


def test_the_chance_of_an_angle_is_the_one_that_short_cuts_give():
    got = subspaces(normal(4, D), normal(4, D, seed=1), 4, draws=200)
    other = chance_angle(4, 4, D, draws=200)
    assert got.angle.chance == pytest.approx(other.mean, abs=0.7)
    assert got.angle.chance_sd == pytest.approx(other.sd, rel=0.25)
    assert float(got.chance_angles.mean()) == pytest.approx(got.angle.chance)
    assert (got.chance_angles.diff() > 0).all()
    with pytest.raises(ValueError, match="2 draws"):
        subspaces(frame(D), frame(D), 4, draws=1)
    with pytest.raises(ValueError, match="has 3 dimensions, 4 are needed"):
        subspaces(frame(D)[:3], frame(D), 4)


def test_rows_weighted_by_energy_by_hand():
    """Codes (2, 0) and (1, 3) of rows of length 1 and 2; the encoder is the transpose, bias -1."""
    made = dictionary(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), 1, bias=-1.0)
    x = torch.tensor([[3.0, 0.0], [2.0, 2.0]])
    got = energy_rows(made, x)
    assert torch.allclose(got, torch.tensor([[2.5**0.5, 0], [0, 2 * 4.5**0.5]]).double())
    assert torch.allclose(energy_rows(made, x, chunk=1), got)
    with pytest.raises(ValueError, match="without tokens"):
        energy_rows(made, x[:0])


def test_similarity_of_one_text_and_of_turned_text():
    x = normal(400, 6)
    slow = torch.cumsum(x, 0)  # neighbouring tokens alike: turned text is alike by chance, widely
    y = x @ normal(6, 6, seed=1)
    assert similarity(x, y).value > 0.3 and similarity(x, y).distance > 20
    assert abs(similarity(x, normal(400, 6, seed=2)).value) < 0.05
    assert similarity(slow, slow).chance_sd > 5 * similarity(x, x).chance_sd
    assert similarity(x, x).value == pytest.approx(1)
    assert np.isclose(similarity(x, y, seed=1).value, similarity(x, y).value)
    for arguments, draws in (((x[:15], x[:15]), 8), ((x, x), 1)):
        with pytest.raises(ValueError, match="at least 2 draws and 16 tokens"):
            similarity(*arguments, draws=draws)


def test_refusals():
    with pytest.raises(ValueError, match="at least 2 directions and 1 row"):
        cosines(frame(D)[:1].float(), frame(D).float())
    with pytest.raises(ValueError, match="0 of 3"):
        cosines(frame(D)[:4].float(), 0 * frame(D)[:3].float())
