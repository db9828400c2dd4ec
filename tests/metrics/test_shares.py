"""Wilson's interval against scipy; the late share by hand and its envelope by search."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lib.metrics.shares import late_envelope, late_share, wilson


@pytest.mark.parametrize(("count", "n"), [(0, 50), (3, 50), (50, 50), (104, 6144)])
def test_wilson_equals_scipy(count, n):
    want = stats.binomtest(count, n).proportion_ci(method="wilson")
    found = wilson(count, n)
    assert found.value == count / n
    assert (found.low, found.high) == pytest.approx((want.low, want.high), abs=1e-6)


def test_wilson_refuses_what_is_no_share():
    for count, n in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="a share needs"):
            wilson(count, n)


def test_late_share_by_hand():
    moved = np.array([0.1, 0.1, 0.1, 0.3])
    assert float(late_share(moved, 3)) == pytest.approx(0.5)
    assert float(late_share(np.full(30, 0.2), 21)) == pytest.approx(0.3)
    assert float(late_share(np.array([0.1, -0.5, 0.1]), 2)) == pytest.approx(0.5)  # chance below 0
    assert np.isnan(late_share(np.zeros(4), 3))
    rows = np.stack([[0.1, 0.1, 0.2], [0.1, np.nan, 0.2], [np.inf, 0.1, 0.2]])
    assert np.isnan(late_share(rows, 2)).tolist() == [False, True, True]  # never the row beside it
    many = late_share(np.stack([moved, 2 * moved]), 3)
    assert many == pytest.approx([0.5, 0.5])  # size alone changes nothing


def test_the_envelope_holds_every_combination_of_the_layers_intervals():
    low, high = np.array([0.1, 0.2, 0.05, 0.3]), np.array([0.2, 0.3, 0.15, 0.5])
    every = [
        float(late_share(np.array(corner), 2))
        for corner in itertools.product(*zip(low, high, strict=True))
    ]
    assert late_envelope(low, high, 2) == pytest.approx((min(every), max(every)))


def test_a_late_part_must_be_a_part():
    for start in (0, 4, 5):
        with pytest.raises(ValueError, match=r"need 1\.\.L-1"):
            late_share(np.ones(4), start)
