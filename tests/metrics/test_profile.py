"""Profiles over depth: which layers are late, and what is late in them."""

import numpy as np
import pytest

from lib.metrics.intervals import jackknife_interval
from lib.metrics.profile import late_minus_mid, late_part, late_start


def test_the_last_thirty_percent_of_layers():
    assert [late_start(n) for n in (1, 2, 3, 4, 10, 18, 30)] == [1, 2, 3, 3, 7, 13, 21]


@pytest.mark.parametrize("layers", [0, -3])
def test_a_model_without_layers_is_refused(layers: int):
    with pytest.raises(ValueError, match=f"{layers} layers have no late part"):
        late_start(layers)


def test_shares_and_contrast_by_hand():
    """Ten layers: 4, 5 and 6 are the middle (depth 0.4 to 0.6), 7, 8 and 9 are late."""
    profile = np.array([[1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 3.0, 5.0, 4.0]]) / 100
    assert late_part(profile)[0] == pytest.approx(12 / 25)
    assert late_minus_mid(profile)[0] == pytest.approx((4.0 - 3.0) / 100)


def test_a_flat_profile_is_late_by_its_number_of_layers_only():
    flat = np.full((1, 30), 0.2)
    assert late_part(flat)[0] == pytest.approx(0.3)
    assert late_minus_mid(flat)[0] == pytest.approx(0.0)


def test_the_contrast_turns_with_the_profile():
    rng = np.random.default_rng(0)
    profile = rng.random((5, 10))
    swapped = profile.copy()
    swapped[:, 4:7], swapped[:, 7:] = profile[:, 7:], profile[:, 4:7]
    assert late_minus_mid(swapped) == pytest.approx(-late_minus_mid(profile))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_model_of_few_layers_has_no_such_parts(layers: int):
    flat = np.full((4, layers), 0.2)
    assert np.isnan(late_part(flat)).all()
    assert np.isnan(late_minus_mid(flat)).all()


def test_the_jackknife_of_a_mean_is_student_t():
    """Blocks of one document: the jackknife of a mean is the textbook standard error."""
    x = np.random.default_rng(1).normal(size=12)
    without = (x.sum() - x) / 11
    ((low, high),) = jackknife_interval(x.mean(keepdims=True), without[:, None])
    half = 2.200985 * x.std(ddof=1) / np.sqrt(12)  # t(0.975, 11)
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), rel=1e-6)
