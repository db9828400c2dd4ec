"""Angles and cosines of directions, and what chance alone gives (oracle 13)."""

import math

import numpy as np
import pytest
import scipy
import torch

from lib.metrics.angles import (
    Chance,
    chance_angle,
    chance_cosine,
    max_cosine,
    principal_angles,
    span,
    upper_cosine,
)
from lib.metrics.stability import random_cosine

D = 24


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def frame(d: int = D, seed: int = 0) -> torch.Tensor:
    """Orthonormal rows."""
    return torch.linalg.qr(normal(d, d, seed=seed))[0].T


def test_the_same_subspace_is_at_zero_and_its_complement_at_ninety_degrees():
    """Oracle 13, exact."""
    rows = frame()
    same = principal_angles(rows[:9], rows[:9])
    assert len(same) == 9
    assert same.abs().max() < 1e-6
    assert torch.allclose(principal_angles(rows[:9], rows[9:]), 90 * torch.ones(9).double())
    part = principal_angles(rows[:9], rows[6:16])  # three directions in common
    assert torch.allclose(part, torch.tensor([0.0] * 3 + [90.0] * 6).double(), atol=1e-6)


def test_no_change_of_basis_moves_an_angle():
    """Oracle 13: general maps inside either span, a rotation of both, and the order of the two."""
    one, other, turn = normal(5, D), normal(7, D, seed=1), frame(seed=2)
    want = principal_angles(one, other)
    assert (want.diff() >= 0).all() and want[0] > 0 and want[-1] < 90
    for got in (
        principal_angles(normal(5, 5, seed=3) @ one, normal(7, 7, seed=4) @ other),
        principal_angles(one @ turn, other @ turn),
        principal_angles(other, one),
        principal_angles(-3 * one, 1e-3 * other),
    ):
        assert torch.allclose(got, want, atol=1e-6)
    scipys = np.rad2deg(scipy.linalg.subspace_angles(one.T.numpy(), other.T.numpy()))
    assert want.numpy() == pytest.approx(scipys[::-1], abs=1e-9)


@pytest.mark.parametrize("degrees", [1e-5, 0.01, 5.0, 44.9, 45.1, 60.0, 89.99])
def test_an_angle_in_a_plane_by_hand(degrees):
    """Small angles keep their digits: an arc cosine alone would lose 1e-5 degrees to rounding."""
    angle = math.radians(degrees)
    one = torch.tensor([[2.0, 0.0, 0.0]]).double()
    other = torch.tensor([[math.cos(angle), math.sin(angle), 0.0]]).double()
    assert float(principal_angles(one, other)[0]) == pytest.approx(degrees, rel=1e-6)


def test_dependent_rows_span_no_more_than_the_independent_ones():
    one, other = normal(3, D), normal(4, D, seed=1)
    repeated = torch.cat([one, 2 * one[:1], one[1:2] - one[2:], torch.zeros(2, D).double()])
    assert span(repeated).shape == (D, 3)
    assert torch.allclose(principal_angles(repeated, other), principal_angles(one, other))
    single = (normal(40, 3, seed=2) @ one).float()  # what float32 rounds off is no direction
    assert span(single).shape == (D, 3)
    assert span(single.bfloat16()).shape == (D, D)  # rounded so coarsely that it is one
    assert span(single.bfloat16(), k=3).shape == (D, 3)


def test_the_strongest_directions_of_more_rows_than_dimensions():
    """Every such set spans everything; a planted low-rank change is found among its strongest."""
    planted = frame()[:4]
    rows = normal(2_000, 4, seed=1) @ planted + 0.1 * normal(2_000, D, seed=2)
    assert principal_angles(rows, planted).max() < 1e-6
    found = principal_angles(rows, planted, k=4)
    assert 0 < found.max() < 5
    assert principal_angles(normal(2_000, D, seed=3), planted, k=4).mean() > 30


def test_the_best_cosine_by_hand_signed_and_absolute():
    dictionary = torch.tensor([[0.0, 5.0], [-2.0, 0.0], [0.0, 0.0]])
    got = max_cosine(torch.tensor([[3.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), dictionary)
    assert got.signed[:2].tolist() == pytest.approx([0.0, 0.8])
    assert got.absolute[:2].tolist() == pytest.approx([1.0, 0.8])
    assert got.signed[2].isnan() and got.absolute[2].isnan()
    for empty in (dictionary[2:], dictionary[:0]):
        assert max_cosine(dictionary[:2], empty).signed.isnan().all()


def test_chunks_of_a_dictionary_change_nothing(monkeypatch):
    directions, dictionary = normal(5, D), normal(301, D, seed=1)
    want = (directions / directions.norm(dim=1, keepdim=True)) @ (
        dictionary / dictionary.norm(dim=1, keepdim=True)
    ).T
    for entries in (1, 7 * D, 1 << 20):
        monkeypatch.setattr("lib.metrics.angles._CHUNK", entries)
        got = max_cosine(directions, dictionary)
        assert torch.allclose(got.signed, want.amax(1))
        assert torch.allclose(got.absolute, want.abs().amax(1))


def test_unrelated_directions_score_the_published_cosine():
    """Oracle 13 at the published size: 0.066 signed and 0.069 absolute, below 0.074."""
    signed, absolute = (chance_cosine(16_384, 3_584, absolute=a) for a in (False, True))
    assert signed.mean == pytest.approx(0.066, abs=0.002)
    assert absolute.mean == pytest.approx(0.069, abs=0.002)
    assert signed.mean < absolute.mean < upper_cosine(16_384, 3_584)
    assert upper_cosine(16_384, 3_584) == pytest.approx(0.074, abs=5e-4)
    assert signed.mean == pytest.approx(random_cosine(16_384, 3_584), abs=0.002)  # closed form


@pytest.mark.parametrize(
    ("k", "degrees"), [(64, 83.6), (128, 80.7), (256, 76.6), (380, 73.5), (512, 70.6)]
)
def test_random_subspaces_lie_at_the_published_angles(k, degrees):
    """Oracle 13: the "74 degrees" of arXiv:2605.28896 is what 380 random dimensions of 3,584 give."""
    got = chance_angle(k, k, 3_584, draws=2)
    assert got.mean == pytest.approx(degrees, abs=0.15)
    assert got.sd < 0.1


def test_chance_is_what_the_measures_themselves_give_on_random_input():
    """Both simulations take a short cut (shared rows, one fixed subspace) that changes nothing."""
    angles = [
        principal_angles(normal(5, 40, seed=s), normal(9, 40, seed=s + 100)) for s in range(60)
    ]
    means = torch.stack(angles).mean(1)
    chance = chance_angle(9, 5, 40, draws=200)
    assert abs(chance.distance(float(means.mean()), n=60)) < 3
    assert chance.sd == pytest.approx(float(means.std()), rel=0.3)
    got = max_cosine(normal(300, 40), normal(200, 40, seed=1))
    for score, absolute in ((got.signed, False), (got.absolute, True)):
        cosine = chance_cosine(200, 40, absolute=absolute, directions=300, seed=5)
        assert cosine.mean == pytest.approx(float(score.mean()), abs=0.01)
        assert cosine.sd == pytest.approx(float(score.std()), rel=0.2)
    assert chance_angle(30, 30, 40, draws=3).mean < chance_angle(5, 5, 40, draws=3).mean


def test_seeds_repeat_and_the_distance_from_chance_by_hand():
    assert chance_cosine(50, 8, seed=4) == chance_cosine(50, 8, seed=4)
    assert chance_angle(3, 4, 9, seed=4) == chance_angle(4, 3, 9, seed=4)
    assert chance_angle(3, 4, 9, seed=4) != chance_angle(3, 4, 9, seed=5)
    chance = Chance(70.0, 2.0, 4)
    assert chance.distance(66.0) == pytest.approx(-4 / (2 * math.sqrt(1 + 1 / 4)))
    assert chance.distance(66.0, n=12) == pytest.approx(-4 / (2 * math.sqrt(1 / 12 + 1 / 4)))
    assert math.isnan(Chance(90.0, 0.0, 4).distance(66.0))
    assert math.isnan(upper_cosine(0, 5))


def test_refusals():
    x, broken = normal(3, D), normal(3, D)
    broken[1, 2] = math.nan
    for measure in (principal_angles, max_cosine):
        with pytest.raises(ValueError, match="width 24 and 23"):
            measure(x, x[:, 1:])
        for pair in ((broken, x), (x, broken)):
            with pytest.raises(ValueError, match="not finite at row 1"):
                measure(*pair)
    with pytest.raises(ValueError, match="there is no direction"):
        max_cosine(x[:0], x)
    for nothing in (x[:0], 0 * x):
        with pytest.raises(ValueError, match="has 0 dimensions"):
            principal_angles(x, nothing)
    with pytest.raises(ValueError, match="has 3 dimensions, 4 are needed"):
        principal_angles(x, x, k=4)
    for arguments in ((0, 5), (5, 1)):
        with pytest.raises(ValueError, match="at least 1 row"):
            chance_cosine(*arguments)
    for arguments in ((0, 2, 5), (2, 6, 5)):
        with pytest.raises(ValueError, match=r"1\.\.d dimensions"):
            chance_angle(*arguments)
    with pytest.raises(ValueError, match="2 draws"):
        chance_angle(2, 2, 5, draws=1)
