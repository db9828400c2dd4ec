"""Displacement: by hand, batching, first order, offsets that CKA cannot see, intervals."""

import math

import numpy as np
import pytest
import torch

from lib.metrics.cka import debiased_cka
from lib.metrics.displacement import Displacement, displacement


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measure(base: torch.Tensor, tuned: torch.Tensor):
    whole = Displacement(base.shape[1])
    whole.update(base, tuned)
    return whole.value()


def test_by_hand():
    base = torch.tensor([[1.0, 1.0], [3.0, 1.0]])  # mean (2, 1), spread 1 and 1
    tuned = base + torch.tensor([[2.0, 0.0], [0.0, 2.0]])  # 4 and 4; mean (1, 1), |.|^2 = 2
    got = measure(base, tuned)
    assert got.relative == pytest.approx(2.0)
    assert got.offset_share == pytest.approx(2 * 2 / 8)


@pytest.mark.parametrize("sizes", [[200], [1] * 200, [3, 190, 7]])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_batching_changes_nothing(sizes, offset):
    base = normal(200, 6).double() + offset
    tuned = base + 0.2 * normal(200, 6, seed=1) + 0.1
    stream = Displacement(6)
    for a, b in zip(base.split(sizes), tuned.split(sizes), strict=True):
        stream.update(a, b)
    stream.update(base[:0], tuned[:0])
    spread = (base - base.mean(0)).square().sum(1).mean()
    moved = (tuned - base).square().sum(1).mean()
    assert stream.value().relative == pytest.approx(math.sqrt(moved / spread), rel=1e-9)
    assert stream.value().offset_share == pytest.approx(
        float((tuned - base).mean(0).square().sum() / moved), rel=1e-9
    )


def test_nothing_moved():
    x = normal(50, 4)
    assert measure(x, x.clone()) == (0.0, 0.0)


def test_a_pure_offset_is_all_offset_and_invisible_to_cka():
    base = normal(300, 8).double()
    tuned = base + 0.3
    got = measure(base, tuned)
    assert got.offset_share == pytest.approx(1.0)
    assert got.relative > 0.25
    assert debiased_cka(base, tuned) == pytest.approx(1.0, abs=1e-12)


def test_it_is_of_first_order_and_free_of_scale_and_shift():
    base, step = normal(300, 8).double(), normal(300, 8, seed=1).double()
    small, large = (measure(base, base + s * step).relative for s in (0.01, 0.1))
    assert large / small == pytest.approx(10.0)
    tuned = base + 0.1 * step
    assert measure(5 * base + 9, 5 * tuned + 9) == pytest.approx(measure(base, tuned))


def test_interval_matches_resampling_whole_documents_by_hand():
    base, groups = normal(120, 5).double(), torch.arange(120) // 10
    size = (1 + groups.double())[:, None] / 12
    tuned = base + size * normal(120, 5, seed=1) + 0.2
    got = displacement(base, tuned, groups, draws=300, seed=4)
    assert (got.relative, got.offset_share) == pytest.approx(measure(base, tuned))
    weights = np.random.default_rng(4).multinomial(12, np.full(12, 1 / 12), size=300)
    again = []
    for counts in weights:
        rows = torch.cat(
            [torch.arange(10 * g, 10 * g + 10).repeat(c) for g, c in enumerate(counts)]
        )
        again.append(measure(base[rows], tuned[rows]))
    for column, low, high in ((0, got.low, got.high), (1, got.offset_low, got.offset_high)):
        want = np.quantile([a[column] for a in again], [0.025, 0.975])
        assert (low, high) == pytest.approx(tuple(want), rel=1e-9)


def test_one_document_has_no_interval():
    x = normal(30, 3)
    got = displacement(x, x + 1, torch.zeros(30, dtype=torch.int64))
    assert (got.low, got.high, got.offset_low, got.offset_high) == (None,) * 4
    assert got.offset_share == pytest.approx(1.0)


def test_refusals():
    flat = torch.full((9, 3), 0.1)
    with pytest.raises(ValueError, match="constant over their 9 tokens"):
        measure(flat, normal(9, 3))
    with pytest.raises(ValueError, match="no tokens were added"):
        Displacement(3).value()
    with pytest.raises(ValueError, match="width 4, got 3"):
        Displacement(4).update(flat, flat)
