"""What a number of points can support: against plain enumeration."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lib.metrics.attainable import attainable
from lib.metrics.statistics import spearman_exact, stratified_spearman


@pytest.mark.parametrize(("n", "p_min", "needed"), [
    (3, 1 / 3, None), (4, 1 / 12, None), (5, 1 / 60, 1.0), (7, 2 / 5040, 0.786),
])  # fmt: skip
def test_one_model(n, p_min, needed):
    got = attainable([n])
    assert (got.n, got.p_min) == (n, pytest.approx(p_min))
    assert got.needed == (None if needed is None else pytest.approx(needed, abs=5e-4))
    assert spearman_exact(range(n), range(n)).p == pytest.approx(got.p_min)


def test_the_needed_rho_is_the_first_that_is_below_the_level():
    single = [stats.spearmanr(range(6), o).statistic for o in itertools.permutations(range(6))]
    sizes = np.unique(np.abs(single).round(9))
    p = [np.mean(np.abs(single) >= size - 1e-9) for size in sizes]
    assert attainable([6]).needed == pytest.approx(sizes[np.array(p) < 0.05].min())
    assert attainable([6], level=0.5).needed == pytest.approx(sizes[np.array(p) < 0.5].min())


def test_four_and_seven_corpora_of_two_models():
    got = attainable([4, 7])
    strata = [*"aaaa", *"bbbbbbb"]
    best = stratified_spearman(range(11), range(11), strata)
    assert best.p == best.p_min == pytest.approx(got.p_min) == pytest.approx(2 / (24 * 5040))
    assert got.n == 11
    # one order just at the needed mean, one just under it
    lists = {n: [stats.spearmanr(range(n), o).statistic for o in itertools.permutations(range(n))]
             for n in (4, 7)}  # fmt: skip
    null = np.abs(np.add.outer(lists[4], lists[7]).ravel() / 2).round(9)
    assert np.mean(null >= got.needed - 1e-9) < 0.05
    under = null[null < got.needed - 1e-9].max()
    assert np.mean(null >= under - 1e-9) >= 0.05


def test_two_models_with_three_corpora_are_still_too_few():
    got = attainable([3, 3])
    assert got.p_min == pytest.approx(1 / 18)
    assert got.needed is None


def test_past_enumeration_nothing_is_claimed_and_two_points_are_refused():
    assert attainable([10]) is None
    for sizes in ([], [2], [4, 2]):
        with pytest.raises(ValueError, match="at least 3 points"):
            attainable(sizes)
