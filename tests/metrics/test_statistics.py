"""Exact rank tests: the published numbers, plain enumeration, ties, strata, error propagation."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from lib.metrics import permutation
from lib.metrics.statistics import (
    holm,
    leave_one_out,
    measurement_error,
    partial_spearman,
    ranks,
    spearman_exact,
    stratified_spearman,
)

R_70B = (340.2, 99.5, 77.1, 39.8)
KL_70B = (0.478, 1.24, 0.72, 1.41)
SCALES = np.repeat(["3B", "8B", "70B"], 4)


def layout(*inside: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Scales that separate both axes completely, with the given order of y inside each."""
    x = np.arange(12)
    y = np.concatenate([4 * block + np.array(order) for block, order in enumerate(inside)])
    return x, y


def test_published_70b_numbers():
    got = spearman_exact(R_70B, KL_70B)
    assert got.rho == pytest.approx(-0.8)
    assert got.p == pytest.approx(8 / 24)
    assert (got.n, got.p_min, got.exact) == (4, pytest.approx(2 / 24), True)
    assert sorted(leave_one_out(R_70B, KL_70B)) == pytest.approx([-1, -1, -0.5, -0.5])


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7])
def test_smallest_attainable_p(n):
    got = spearman_exact(range(n), range(n))
    assert got.rho == 1.0
    assert got.p == got.p_min == pytest.approx(2 / math.factorial(n))


def test_a_rho_of_0_62_cannot_come_from_four_points():
    reachable = {
        round(spearman_exact(range(4), order).rho, 2) for order in itertools.permutations(range(4))
    }
    assert 0.6 in reachable and 0.8 in reachable
    assert not any(0.615 <= rho < 0.625 for rho in reachable)


@pytest.mark.parametrize("y", [[1, 1, 2, 2, 3], [1, 2, 2, 2, 5], [3, 1, 2, 5, 4]])
def test_ties_are_enumerated(y):
    x = [1.0, 2.0, 2.0, 4.0, 5.0]
    got = spearman_exact(x, y)
    null = [stats.spearmanr(x, order).statistic for order in itertools.permutations(y)]
    assert got.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert got.p == pytest.approx(np.mean(np.abs(null) >= abs(got.rho) - 1e-9))
    assert got.p_min == pytest.approx(np.mean(np.abs(null) >= np.max(np.abs(null)) - 1e-9))


def test_monotone_maps_and_symmetry():
    rng = np.random.default_rng(0)
    x, y = rng.lognormal(size=8), rng.lognormal(size=8)
    got = spearman_exact(x, y)
    assert spearman_exact(np.log(x), y**3) == pytest.approx(got)
    assert spearman_exact(y, x) == pytest.approx(got)
    assert spearman_exact(x, -y).rho == pytest.approx(-got.rho)
    assert spearman_exact(x, -y).p == pytest.approx(got.p)


def test_nine_points_exact_twelve_sampled():
    x = np.arange(9)
    y = [2, 1, 4, 3, 5, 8, 7, 6, 0]
    assert spearman_exact(x, y).exact
    pooled_x, pooled_y = layout((3, 2, 1, 0), (3, 2, 1, 0), (3, 2, 1, 0))
    got = spearman_exact(pooled_x, pooled_y)
    assert got.rho == pytest.approx(0.790, abs=5e-4)  # -1 inside every scale
    assert not got.exact and got.p_min == pytest.approx(1 / 100_001)
    assert got == spearman_exact(pooled_x, pooled_y)  # seeded
    assert got.p == pytest.approx(0.0037, abs=0.001)  # t approximation 0.0022, permutation 0.0037


def test_sampled_p_agrees_with_the_exact_one(monkeypatch):
    x, y = np.arange(7), [1, 0, 3, 6, 2, 5, 4]
    exact = spearman_exact(x, y)
    monkeypatch.setattr(permutation, "MAX_ENUMERATED", 6)
    sampled = spearman_exact(x, y)
    assert exact.exact and not sampled.exact
    assert sampled.p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p / 100_000))


def test_stratified_perfect_order_inside_three_scales():
    x, y = layout((3, 2, 1, 0), (3, 2, 1, 0), (3, 2, 1, 0))
    got = stratified_spearman(x, y, SCALES)
    assert got.rho == pytest.approx(-1.0)
    assert got.p == got.p_min == pytest.approx(2 / math.factorial(4) ** 3)
    assert got.p == pytest.approx(1.45e-4, abs=1e-6)


def test_stratified_p_by_plain_enumeration_of_all_13824():
    x, y = layout((3, 2, 0, 1), (2, 3, 1, 0), (3, 1, 2, 0))
    got = stratified_spearman(x, y, SCALES)
    single = [
        stats.spearmanr(range(4), order).statistic for order in itertools.permutations(range(4))
    ]
    null = np.add.outer(np.add.outer(single, single), single).ravel() / 3
    assert len(null) == 13_824
    assert got.rho == pytest.approx(-0.8)
    assert (
        got.p
        == pytest.approx(np.mean(np.abs(null) >= 0.8 - 1e-9))
        == pytest.approx(0.014, abs=5e-4)
    )


def test_stratified_ignores_what_separates_the_strata():
    x, y = layout((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2))
    pooled = spearman_exact(x, y).rho
    shift = np.repeat([0.0, -100.0, 50.0], 4)
    assert pooled > 0.85
    assert stratified_spearman(x, y, SCALES).rho == pytest.approx(0.0)
    assert stratified_spearman(x + shift, y, SCALES) == pytest.approx(
        stratified_spearman(x, y, SCALES)
    )
    order = np.random.default_rng(0).permutation(12)
    shuffled = stratified_spearman(x[order], y[order], SCALES[order])
    assert shuffled.p == pytest.approx(stratified_spearman(x, y, SCALES).p)


def test_stratified_beyond_a_million_permutations():
    strata = np.repeat(np.arange(6), 4)  # (4!)^6 = 191 million, still exact
    x = np.tile(np.arange(4), 6)
    got = stratified_spearman(x, x, strata)
    assert got.exact and got.p == pytest.approx(2 / math.factorial(4) ** 6)
    rng = np.random.default_rng(0)
    long = rng.normal(size=(2, 24))
    sampled = stratified_spearman(*long, np.repeat([0, 1], 12))
    assert not sampled.exact and 0 < sampled.p <= 1
    assert sampled.rho == pytest.approx(
        np.mean([stats.spearmanr(*long[:, i : i + 12]).statistic for i in (0, 12)])
    )


def test_partial_is_pearson_of_ranks_after_regressing_on_dummies():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=12), rng.normal(size=12) + np.repeat([0, 1, 3], 4)
    dummies = (SCALES[:, None] == np.unique(SCALES)[None]).astype(float)
    residuals = []
    for v in (x, y):
        r = stats.rankdata(v)
        residuals.append(r - dummies @ np.linalg.lstsq(dummies, r, rcond=None)[0])
    got = partial_spearman(x, y, SCALES)
    assert got.rho == pytest.approx(np.corrcoef(*residuals)[0, 1])
    drawn = np.random.default_rng(0)
    blocks = residuals[1].reshape(3, 4)
    null = [
        residuals[0] @ drawn.permuted(blocks, axis=1).ravel()
        / np.prod([np.linalg.norm(r) for r in residuals])
        for _ in range(4000)
    ]  # fmt: skip
    assert got.exact
    assert got.p == pytest.approx(np.mean(np.abs(null) >= abs(got.rho) - 1e-9), abs=0.03)


def test_partial_equals_stratified_when_scales_separate():
    x, y = layout((3, 2, 0, 1), (2, 3, 1, 0), (3, 1, 2, 0))
    assert partial_spearman(x, y, SCALES).rho == pytest.approx(-0.8)
    assert partial_spearman(x, y, SCALES).p == pytest.approx(stratified_spearman(x, y, SCALES).p)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        holm([0.1, np.nan])


@pytest.mark.parametrize(
    ("sd", "same", "negative"),
    [(0.05, 0.97, 1.0), (0.1, 0.79, 1.0), (0.2, 0.55, 0.98), (0.5, 0.30, 0.84)],
)
def test_measurement_error_of_the_published_result(sd, same, negative):
    got = measurement_error(R_70B, KL_70B, sd)
    assert got.same_rho == pytest.approx(same, abs=0.02)
    assert got.negative == got.same_sign == pytest.approx(negative, abs=0.015)


def test_a_rho_of_0_has_no_sign_to_keep():
    got = measurement_error([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 1.0, 3.0], 0.3)
    assert math.isnan(got.same_sign)
    assert 0.2 < got.negative < 0.5  # the rest is 0 again


def test_no_measurement_error_changes_nothing():
    assert measurement_error(R_70B, KL_70B, 0.0, draws=10) == (1.0, 1.0, 1.0)
    tied = measurement_error([1, 1, 2, 3], [1, 2, 2, 4], 0.0, draws=10)
    assert tied == (0.0, 1.0, 1.0)


def test_each_value_may_have_an_error_of_its_own():
    none, wide = np.zeros(4), np.array([0.0, 0.0, 0.0, 3.0])
    assert measurement_error(R_70B, KL_70B, none, none) == (1.0, 1.0, 1.0)
    one = measurement_error(R_70B, KL_70B, wide, none)  # Alpaca's ratio alone is uncertain
    assert 0.1 < one.same_rho < 0.9
    assert one == measurement_error(R_70B, KL_70B, wide, none)  # seeded
    assert measurement_error(R_70B, KL_70B, 0.2) == measurement_error(R_70B, KL_70B, 0.2, 0.2)
    with pytest.raises(ValueError, match="sd_log >= 0"):
        measurement_error(R_70B, KL_70B, 0.1, -none - 0.1)


def test_ranks_share_ties():
    values = [3.0, 1.0, 3.0, 2.0, 3.0]
    assert ranks(values).tolist() == stats.rankdata(values).tolist() == [4, 1, 4, 2, 4]


def test_refusals_say_why_it_is_not_defined():
    with pytest.raises(ValueError, match="not defined because there are 2 points"):
        spearman_exact([1, 2], [2, 1])
    with pytest.raises(ValueError, match="not defined because y is constant"):
        spearman_exact([1, 2, 3], [1, 1, 1])
    with pytest.raises(ValueError, match="3 and 4 values"):
        spearman_exact([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="must be finite"):
        spearman_exact([1, 2, np.nan], [1, 2, 3])
    with pytest.raises(ValueError, match="stratum 'b' has 1 points"):
        stratified_spearman([1, 2, 3, 4], [1, 2, 3, 4], ["a", "a", "a", "b"])
    with pytest.raises(ValueError, match="x is constant in stratum 'a'"):
        stratified_spearman([1, 1, 1, 4, 5, 6], range(6), [*"aaabbb"])
    with pytest.raises(ValueError, match="one stratum per point"):
        stratified_spearman([1, 2, 3], [1, 2, 3], ["a"])
    with pytest.raises(ValueError, match="varies inside no stratum"):
        partial_spearman([1, 1, 2, 2], [1, 2, 3, 4], [*"aabb"])
    with pytest.raises(ValueError, match="there are 3 points; 4 needed"):
        leave_one_out([1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="positive values"):
        measurement_error([0, 1, 2], [1, 2, 3], 0.1)


def test_the_dashboard_needs_neither_torch_nor_scipy_for_these():
    code = (
        "import sys; import lib.metrics.statistics, lib.metrics.regimes, lib.metrics.support; "
        "sys.exit(bool({'torch', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
