"""Cross-reconstruction: a worked example, exact identities, bounds, offsets, intervals."""

import numpy as np
import pytest
import torch

from lib.metrics.peak import peak_ratio
from lib.metrics.reconstruction import (
    FLOOR,
    bootstrap_ratio,
    cross_ratio,
    fve,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pca(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and top-k directions: a dictionary that needs no training."""
    mean = x.mean(0)
    return mean, torch.linalg.svd(x - mean, full_matrices=False)[2][:k]


def through(fitted: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    mean, v = fitted
    return (x - mean) @ v.T @ v + mean


def test_by_hand():
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])  # variance 4
    from_tuned = x - torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])  # error 1
    from_base = x - torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]])  # error 2
    got = cross_ratio(x, from_base, from_tuned)
    assert got.ratio == pytest.approx(2.0)
    assert got.excess_fvu == pytest.approx(0.25)
    assert (got.fve_self, got.fve_cross) == pytest.approx((0.75, 0.5))
    assert got.bound == pytest.approx(4.0)
    assert fve(x, from_base) == pytest.approx(0.5)


def test_the_same_dictionary_twice_is_exactly_one_even_when_perfect():
    x = normal(100, 8)
    hat = through(pca(x, 3), x)
    for same in (hat, x.clone()):
        got = cross_ratio(x, same, same)
        assert (got.ratio, got.excess_fvu) == (1.0, 0.0)


def test_predicting_the_mean_explains_nothing_and_scores_the_bound():
    x = normal(200, 8) + 5
    mean = x.mean(0, keepdim=True).expand(x.shape)
    assert fve(x, mean) == pytest.approx(0.0, abs=1e-6)
    assert fve(x, x) == 1.0
    got = cross_ratio(x, mean, through(pca(x, 5), x))
    assert got.ratio == pytest.approx(got.bound, rel=1e-5)
    assert got.bound == pytest.approx(1 / (1 - got.fve_self))


def test_no_cross_error_within_the_variance_exceeds_the_bound():
    x = normal(300, 12) @ torch.diag(torch.linspace(0.1, 2, 12))
    own = through(pca(x, 9), x)
    for k in range(9):
        got = cross_ratio(x, through(pca(x, k), x), own)
        assert got.fve_cross >= -1e-6 and got.ratio <= got.bound * (1 + 1e-6)


def test_the_floor_caps_the_ratio():
    x = normal(50, 4)
    got = cross_ratio(x, x.mean(0, keepdim=True).expand(x.shape), x)
    assert got.ratio == pytest.approx(1 / FLOOR)
    assert got.bound == pytest.approx(1 / FLOOR)


def test_a_constant_offset_raises_the_ratio_and_not_the_centred_one():
    base = normal(2000, 16) @ torch.diag(torch.linspace(0.2, 2, 16))
    tuned = base + torch.eye(16)[0]  # along a direction the dictionary leaves out
    got = cross_ratio(tuned, through(pca(base, 10), tuned), through(pca(tuned, 10), tuned))
    assert got.ratio > 1.5
    shift = (tuned - base).mean(0)  # centred: the base dictionary reads them without the offset
    moved = tuned - shift
    centred = cross_ratio(
        moved, through(pca(base, 10), moved), through(pca(tuned, 10), tuned) - shift
    )
    assert centred.ratio == pytest.approx(1.0, abs=1e-3)


def test_swapping_base_and_own_inverts_the_ratio():
    x, a, b = normal(60, 5), normal(60, 5, seed=1), normal(60, 5, seed=2) * 0.3
    one, other = cross_ratio(x, a, b), cross_ratio(x, b, a)
    assert one.ratio == pytest.approx(1 / other.ratio)
    assert one.excess_fvu == pytest.approx(-other.excess_fvu)
    scaled = cross_ratio(7 * x + 0.0, 7 * a, 7 * b)
    assert scaled == pytest.approx(one, rel=1e-5)


def test_interval_holds_the_value_and_ignores_row_order():
    x = normal(400, 6)
    cross, own = x + normal(400, 6, seed=1), x + 0.5 * normal(400, 6, seed=2)
    groups = torch.arange(400) // 10
    got = bootstrap_ratio(x, cross, own, groups)
    value = cross_ratio(x, cross, own)
    assert got.ratio_low < value.ratio < got.ratio_high
    assert got.excess_low < value.excess_fvu < got.excess_high
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    shuffled = bootstrap_ratio(x[order], cross[order], own[order], groups[order])
    assert shuffled == pytest.approx(got, rel=1e-9)


def test_documents_that_differ_widen_the_interval():
    x = normal(400, 6)
    error = normal(400, 6, seed=1)
    alike = bootstrap_ratio(x, x + error, x + 0.5, torch.arange(400) // 10)
    size = torch.where(torch.arange(400) % 40 < 10, 1.9, 0.3)[:, None]  # every fourth document
    apart = bootstrap_ratio(x, x + size * error, x + 0.5, torch.arange(400) // 10)
    assert apart.ratio_high - apart.ratio_low > 2 * (alike.ratio_high - alike.ratio_low)


def test_equal_dictionaries_have_an_interval_of_no_width_and_one_document_none():
    x = normal(40, 3)
    hat = x + 0.1 * normal(40, 3, seed=1)
    got = bootstrap_ratio(x, hat, hat, torch.arange(40) // 4)
    assert got == (1.0, 1.0, 0.0, 0.0)
    one = bootstrap_ratio(x, hat, hat, torch.zeros(40, dtype=torch.int64))
    assert one == (None, None, None, None)


def test_the_peak_takes_its_maximum_inside_each_resample():
    groups = torch.arange(200) // 10
    layers = []
    for seed in range(6):  # six layers of the same true ratio: the maximum is noise
        x = normal(200, 4, seed=seed)
        cross, own = (x + normal(200, 4, seed=s + seed) for s in (100, 200))
        layers.append((x, cross, own))
    ratios = [cross_ratio(*layer).ratio for layer in layers]
    got = peak_ratio(layers, groups)
    assert got.value == pytest.approx(max(ratios))
    best = bootstrap_ratio(*layers[int(np.argmax(ratios))], groups)
    assert got.low > best.ratio_low  # the other layers stand in when the best one draws low
    assert peak_ratio(layers[:1], groups).low == pytest.approx(
        bootstrap_ratio(*layers[0], groups).ratio_low
    )
    assert got.shares.sum() == pytest.approx(1.0)
    assert got.shares.argmax() == np.argmax(ratios)
    assert (got.shares > 0).sum() > 1, "among equal layers, documents decide which is the peak"


def test_a_peak_over_layers_that_left_out_other_tokens():
    """Documents are drawn once for all layers, also where a layer lacks some of their tokens."""
    groups = torch.arange(200) // 10
    x = normal(200, 4)
    far = (x, x + normal(200, 4, seed=1), x + 0.5 * normal(200, 4, seed=2))
    near = (x, x + 0.6 * normal(200, 4, seed=3), x + 0.5 * normal(200, 4, seed=4))
    kept = torch.arange(200) >= 15  # a whole document and half of the next are missing
    fewer = tuple(view[kept] for view in near)
    got = peak_ratio([far, fewer], [groups, groups[kept]])
    alone = peak_ratio([far], groups)
    assert got.value == alone.value
    assert (got.low, got.high) == pytest.approx((alone.low, alone.high))
    assert got.shares.tolist() == [1.0, 0.0]


def test_refusals():
    flat = torch.full((10, 3), 0.1)
    for call in (
        lambda: fve(flat, flat),
        lambda: cross_ratio(flat, flat, flat),
        lambda: bootstrap_ratio(flat, flat, flat, torch.arange(10)),
    ):
        with pytest.raises(ValueError, match="constant over their 10 tokens"):
            call()
    with pytest.raises(ValueError, match="no tokens"):
        fve(flat[:0], flat[:0])
    with pytest.raises(ValueError, match="no layers"):
        peak_ratio([], torch.arange(10))
