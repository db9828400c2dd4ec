"""Massive-activation tokens: the rule by hand, what it must not catch, and what it saves."""

import pytest
import torch

from lib.metrics.cka import debiased_cka
from lib.metrics.massive import FACTOR, massive_tokens
from lib.metrics.reconstruction import fve


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand():
    base = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [3.0, 4.0], [0.0, 11.0]])
    tuned = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 10.1], [3.0, 4.0], [0.0, 2.0]])
    # medians of (1, 1, 2, 5, 11) and (1, 1, 10.1, 5, 2): 2 and 2, so massive above 10
    got = massive_tokens(base, tuned)
    assert got.keep.tolist() == [True, True, False, True, False]
    assert (got.dropped, got.base, got.tuned) == (2, 1, 1)
    assert got.energy_base == pytest.approx((4 + 121) / (1 + 1 + 4 + 25 + 121))
    assert got.energy_tuned == pytest.approx((10.1**2 + 4) / (1 + 1 + 10.1**2 + 25 + 4))
    assert got.largest == pytest.approx(5.5)
    assert massive_tokens(base, tuned, factor=5.2).dropped == 1


@pytest.mark.parametrize("d", [2, 64, 576])
def test_ordinary_tokens_are_kept_whatever_their_scale(d):
    base = normal(5000, d)
    got = massive_tokens(1e-3 * base, 40 * base)
    assert got.keep.all()
    assert (got.dropped, got.energy_base, got.energy_tuned) == (0, 0.0, 0.0)
    assert 1 < got.largest < FACTOR


def test_the_tokens_themselves_do_not_move_the_limit():
    base = normal(1000, 32)
    base[::20] *= 40.0  # 50 of 1000
    got = massive_tokens(base, base.clone())
    assert got.dropped == got.base == got.tuned == 50
    assert not got.keep[::20].any()
    assert got.energy_base == pytest.approx(got.energy_tuned)
    assert got.energy_base > 0.98


def test_two_shared_massive_tokens_make_independent_views_alike_until_they_are_dropped():
    """methods.md 5: with one such token the debiased form stays near 0, with two it does not."""
    x, y = normal(500, 64), normal(500, 64, seed=1)
    spike = 60 * normal(1, 64, seed=2)
    for view in (x, y):
        view[7], view[300] = spike, spike
    assert debiased_cka(x, y) > 0.9
    keep = massive_tokens(x, y).keep
    assert (~keep).nonzero().flatten().tolist() == [7, 300]
    assert abs(debiased_cka(x[keep], y[keep])) < 0.02


def test_they_own_the_error_until_they_are_dropped():
    x = normal(500, 16)
    x[3] *= 100
    hat = x.clone()
    hat[4:] = 0  # nothing but the massive token and three others is explained
    assert fve(x, hat) > 0.9
    keep = massive_tokens(x, x).keep
    assert fve(x[keep], hat[keep]) < 0.02


def test_refusals():
    x = normal(9, 4)
    with pytest.raises(ValueError, match="no tokens"):
        massive_tokens(x[:0], x[:0])
    with pytest.raises(ValueError, match=r"factor .* above 1, got 1"):
        massive_tokens(x, x, factor=1.0)
    silent = x.clone()
    silent[:5] = 0
    with pytest.raises(ValueError, match="median norm 0"):
        massive_tokens(x, silent)
