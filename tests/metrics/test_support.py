"""P(label): against the closed form, with moving cuts, and which axis is named undecided."""

import math

import numpy as np
import pytest
from scipy import stats

from lib.metrics.regimes import QUARTERS, classify, median_cuts
from lib.metrics.support import Sampled, judge, middle_of_draws, sample_axis, with_seeds

SD = 2 * 1.959964


def interval(value: float, sd: float) -> tuple[float, float]:
    """The 95 % interval of a log-normal with this spread."""
    return value * math.exp(-SD / 2 * sd), value * math.exp(SD / 2 * sd)


def axis(value: float, sd: float, cut: float, seed: int, draws: int = 40_000) -> Sampled:
    low, high = interval(value, sd)
    one = [np.array([v]) for v in (value, low, high)]
    values = sample_axis(*one, draws=draws, seed=seed)[:, 0]
    return Sampled(value, cut, values, np.full(draws, cut))


def test_draws_follow_the_interval_they_come_from():
    low, high = interval(2.0, 0.3)
    found = sample_axis(np.array([2.0, 0.1, 5.0]), np.array([low, -0.1, np.nan]),
                        np.array([high, 0.3, np.nan]), draws=40_000)  # fmt: skip
    assert np.log(found[:, 0]).mean() == pytest.approx(math.log(2.0), abs=0.01)
    assert np.log(found[:, 0]).std() == pytest.approx(0.3, abs=0.01)
    assert (found[:, 0] > 0).all()
    assert found[:, 1].mean() == pytest.approx(0.1, abs=0.01)  # reaches 0: normal
    assert found[:, 1].std() == pytest.approx(0.4 / SD, abs=0.01)
    assert np.ptp(found[:, 2]) == 0.0  # no interval: no spread
    assert np.corrcoef(found[:, 0], found[:, 1])[0, 1] == pytest.approx(0.0, abs=0.02)


def test_support_equals_the_product_of_normal_tails():
    inner, outer = axis(1.3, 0.3, 1.0, 0), axis(0.9, 0.2, 1.0, 1)
    found = judge(inner, outer, margin=0.0)
    high = {
        "inner": stats.norm.cdf(math.log(1.3) / 0.3), "outer": stats.norm.cdf(math.log(0.9) / 0.2)
    }  # fmt: skip
    assert sum(found.support.values()) == pytest.approx(1.0)
    for label, (inside, outside) in QUARTERS.items():
        want = (high["inner"] if inside else 1 - high["inner"]) * (
            high["outer"] if outside else 1 - high["outer"]
        )
        assert found.support[label] == pytest.approx(want, abs=0.01)
    assert found.label == "indeterminate"
    assert found.undecided == ("inner", "outer")


def test_only_the_axis_that_is_uncertain_is_named():
    sure, wide = axis(5.0, 0.1, 1.0, 0), axis(1.5, 1.0, 1.0, 1)
    assert judge(sure, wide).undecided == ("outer",)
    assert judge(wide, sure).undecided == ("inner",)
    near = axis(1.1, 0.001, 1.0, 1)  # certain, but within the margin band
    assert judge(sure, near).undecided == ("outer",)
    assert judge(sure, near, margin=0.0).undecided == ()
    decided = judge(sure, axis(0.2, 0.1, 1.0, 1))
    assert (decided.label, decided.undecided) == ("latent divergence", ())


def test_the_weaker_axis_is_named_when_only_the_two_together_are_uncertain():
    a, b = (axis(math.exp(z * 0.5), 0.5, 1.0, seed) for seed, z in ((0, 1.55), (1, 1.45)))
    found = judge(a, b)  # 0.94 x 0.93 = 0.87
    assert 0.85 < found.support["coupled adaptation"] < 0.9
    assert (found.label, found.undecided) == ("indeterminate", ("outer",))


def test_a_narrow_interval_gives_the_label_of_the_rule():
    for value, kl in ((3.0, 4.0), (0.3, 4.0), (3.0, 0.2), (0.3, 0.2)):
        found = judge(axis(value, 1e-4, 1.0, 0, 200), axis(kl, 1e-4, 1.0, 1, 200))
        assert found.label == classify(value, kl, 1.0, 1.0)
        assert found.support[found.label] == 1.0


def test_moving_cuts_are_the_medians_of_each_draw():
    draws = np.array([[1.0, 2.0, 4.0, 8.0], [8.0, 1.0, 4.0, 2.0], [-1.0, 0.0, 1.0, 2.0]])
    assert middle_of_draws(draws)[:2] == pytest.approx(
        [median_cuts(d, d).internal for d in draws[:2]]
    )
    assert middle_of_draws(draws)[2] == 0.0  # no geometric middle


def test_a_missing_value_never_moves_the_median_of_the_draws():
    draws = np.array([[1.0, 4.0, np.nan]])
    with pytest.raises(ValueError, match="NaN in 1 of 3 values; leave out"):
        middle_of_draws(draws)  # sorted last it would be the largest: 4 instead of 2
    assert middle_of_draws(draws[:, :2]) == pytest.approx([2.0])
    with pytest.raises(ValueError, match="no values"):
        middle_of_draws(draws[:, :0])


def test_the_error_of_a_mean_over_seeds_is_students_t():
    values, sd = np.array([2.0, -0.5, 3.0]), np.array([0.2, 0.1, np.nan])
    flat = np.tile(values, (40_000, 1))
    found = with_seeds(flat, values, sd, np.array([3, 4, 1]))
    ends = [0.025, 0.5, 0.975]
    t3, t4 = stats.t.ppf(ends, 2), stats.t.ppf(ends, 3)
    want = 2.0 * np.exp(t3 * 0.1 / math.sqrt(3))
    assert np.quantile(found[:, 0], ends) == pytest.approx(want, rel=0.02)
    want = -0.5 + t4 * 0.1 / 2
    assert np.quantile(found[:, 1], ends) == pytest.approx(want, abs=0.01)
    assert (found[:, 2] == 3.0).all()  # one seed: unknown spread, nothing invented
    assert (found[:, 0] > 0).all()
    assert (flat == values).all()  # the caller's draws are left alone


def test_seeds_that_differ_take_support_from_a_label():
    one = [np.array([v]) for v in (1.6, *interval(1.6, 0.05))]
    documents = sample_axis(*one, draws=20_000)
    sure = axis(5.0, 0.01, 1.0, 1, 20_000)

    def label(sd: float):
        draws = with_seeds(documents, one[0], np.array([sd]), np.array([3]))[:, 0]
        return judge(Sampled(1.6, 1.0, draws, np.full(len(draws), 1.0)), sure)

    assert label(0.05).label == "coupled adaptation"
    wide = label(1.0)
    assert (wide.label, wide.undecided) == ("indeterminate", ("inner",))
    assert wide.support["coupled adaptation"] < 0.9 < label(0.05).support["coupled adaptation"]


def test_two_wild_seeds_give_finite_draws_and_a_spread_must_be_known():
    draws = with_seeds(np.ones((50_000, 1)), np.ones(1), np.ones(1) * 9, np.array([2]))
    assert np.isfinite(draws).all()
    with pytest.raises(ValueError, match="2 seeds need a spread of 0 or more, got nan"):
        with_seeds(np.ones((2, 1)), np.ones(1), np.array([np.nan]), np.array([2]))


def test_refusals_are_those_of_the_rule():
    nan = Sampled(math.nan, 1.0, np.array([1.0]), np.array([1.0]))
    with pytest.raises(ValueError, match="internal value is NaN"):
        judge(nan, axis(1.0, 0.1, 1.0, 0, 10))
