"""Bootstrap over documents: by hand, against an explicit resample, coverage."""

import numpy as np
import pytest

from lib.metrics.intervals import bootstrap, bootstrap_mean, bootstrap_ratio, sums_by_group


def test_the_mean_weighs_tokens_not_documents():
    got = bootstrap_mean([10.0, 0.0], [1, 9])
    assert got.value == 1.0
    assert (got.low, got.high) == (0.0, 10.0)  # a quarter of the draws is one document twice


def test_it_is_the_percentile_bootstrap_of_explicit_resamples():
    rng = np.random.default_rng(1)
    counts = rng.integers(5, 50, 12)
    sums = counts * rng.normal(2, 1, 12)
    got = bootstrap_mean(sums, counts, draws=500, seed=3)
    drawn = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=500)
    means = []
    for row in drawn:
        documents = np.repeat(np.arange(12), row)
        assert len(documents) == 12
        means.append(sums[documents].sum() / counts[documents].sum())
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert got == bootstrap_mean(sums, counts, draws=500, seed=3)
    assert got != bootstrap_mean(sums, counts, draws=500, seed=4)


def test_level_and_scale():
    sums, counts = np.arange(20.0), np.full(20, 3)
    wide, narrow = (bootstrap_mean(sums, counts, level=level) for level in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    doubled = bootstrap_mean(2 * sums, counts)
    assert doubled == pytest.approx(tuple(2 * v for v in wide))


def test_coverage():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        counts = rng.integers(20, 60, 40)
        effect = rng.normal(1.0, 0.5, 40)  # documents differ; tokens of one document do not
        got = bootstrap_mean(effect * counts, counts, draws=500, seed=seed)
        covered += got.low <= 1.0 <= got.high
    assert 180 <= covered <= 198


def test_fewer_than_two_documents_have_no_interval():
    assert bootstrap_mean([6.0], [3]) == (2.0, None, None)


def test_resamples_without_a_denominator_are_left_out():
    got = bootstrap_ratio([1.0, 3.0], [0.0, 1.0])
    assert got.value == 4.0
    assert np.isfinite([got.low, got.high]).all()


def test_any_function_of_totals():
    got = bootstrap(lambda t: t[:, 0] ** 2, np.array([[1.0], [2.0]]))
    assert got == (9.0, 4.0, 16.0)


def test_sums_by_group_takes_any_labels_in_any_order():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert sums_by_group(values, np.array([7, -1, 7])).tolist() == [[2.0, 20.0], [5.0, 50.0]]


def test_refusals():
    with pytest.raises(ValueError, match="no documents"):
        bootstrap_mean([], [])
    with pytest.raises(ValueError, match="one entry per document"):
        bootstrap_mean([1.0], [1, 2])
    with pytest.raises(ValueError, match="sum to zero"):
        bootstrap_mean([1.0, 2.0], [0, 0])
