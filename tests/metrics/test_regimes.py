"""The regime rule on the published table, its bands, and what must not change a label."""

import math

import pytest

from lib.metrics.regimes import (
    classify,
    median_cuts,
    metric_dependent,
    null_cuts,
    with_timing,
)

PUBLISHED = {  # at 70B: peak cross-reconstruction ratio, KL in nats, label in the post
    "DTC": (340.2, 0.478, "latent divergence"),
    "Seneca": (99.5, 1.24, "coupled adaptation"),
    "Marcus": (77.1, 0.72, "coupled adaptation"),
    "Alpaca": (39.8, 1.41, "behavioural capture"),
}
CUTS = (55.4, 0.587)


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_published_table(corpus):
    ratio, kl, label = PUBLISHED[corpus]
    assert classify(ratio, kl, *CUTS, margin=0) == label


@pytest.mark.parametrize("corpus", PUBLISHED)
@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_rescaling_an_axis_with_its_cut_changes_no_label(corpus, margin):
    ratio, kl, _ = PUBLISHED[corpus]
    want = classify(ratio, kl, *CUTS, margin=margin)
    assert classify(1e3 * ratio, kl / 7, 1e3 * CUTS[0], CUTS[1] / 7, margin=margin) == want


def test_the_margin_band():
    def label(i: float, o: float) -> str:
        return classify(math.exp(i), math.exp(o), 1.0, 1.0)

    assert label(0.26, 0.26) == "coupled adaptation"
    assert label(-0.26, -0.26) == "near-unchanged"
    assert label(0.24, 5.0) == label(5.0, -0.24) == label(0.0, 0.0) == "indeterminate"
    assert classify(1.0, 1.0, 1.0, 1.0, margin=0) == "coupled adaptation"


def test_values_without_a_logarithm_are_low():
    assert classify(1.0, 0.0, 2.0, 0.5) == "near-unchanged"
    assert classify(-0.01, 3.0, 0.1, 0.5) == "behavioural capture"


def test_median_cuts_split_in_halves():
    ratios, kls, _ = zip(*PUBLISHED.values(), strict=True)
    cuts = median_cuts(ratios, kls)
    assert cuts.internal == pytest.approx(math.sqrt(77.1 * 99.5))
    assert cuts.output == pytest.approx(math.sqrt(0.72 * 1.24))
    assert sum(r > cuts.internal for r in ratios) == sum(k > cuts.output for k in kls) == 2
    assert median_cuts([1, 2, 5], [0.0, 3.0, 4.0]) == pytest.approx((2.0, 3.0))


def test_refusals():
    with pytest.raises(ValueError, match="internal value is NaN"):
        classify(math.nan, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="output cut must be positive"):
        classify(1.0, 1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="margin must be 0 or more"):
        classify(1.0, 1.0, 1.0, 1.0, margin=-0.1)
    with pytest.raises(ValueError, match="at least two experiments; the internal axis has 1"):
        median_cuts([1.0], [1.0])
    with pytest.raises(ValueError, match="1 internal and 2 output values are not of the same"):
        median_cuts([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no geometric midpoint"):
        median_cuts([1.0, 2.0], [0.0, 2.0])


def test_null_cuts_are_the_upper_end_of_the_draws_or_the_practical_floors():
    few = null_cuts([0.98, 1.01, 1.03], [0.1, 0.3], no_change=1.0)
    assert few == (1.03, 0.3)  # under 20 draws: the largest
    many = null_cuts([1 + i / 1000 for i in range(100)], no_change=1.0)
    assert many.internal == pytest.approx(1.095)
    assert many.output == 0.02
    below = null_cuts([0.97, 0.99], [0.001], no_change=1.0, kl_floor=0.01)
    assert below == pytest.approx((1.005, 0.03))  # nulls under no change: 3 x the numerical floor


def test_null_cuts_refuse_no_draws_and_nan():
    with pytest.raises(ValueError, match="measure null controls first"):
        null_cuts([])
    with pytest.raises(ValueError, match="internal axis must be finite"):
        null_cuts([1.0, math.nan])
    with pytest.raises(ValueError, match="output axis must be finite"):
        null_cuts([1.0], [math.inf])


def test_only_decided_labels_can_contradict_each_other():
    assert metric_dependent(["latent divergence", "coupled adaptation", "indeterminate"])
    assert not metric_dependent(["latent divergence", "indeterminate"])
    assert not metric_dependent([])


def test_delayed_is_said_only_with_a_trajectory():
    capture, coupled = "behavioural capture", "coupled adaptation"
    assert with_timing(capture, []) == capture
    assert with_timing(capture, [(False, None)]) == capture
    assert with_timing(capture, [(False, True)]) == capture
    assert with_timing(capture, [(False, False)]) == "delayed behavioural capture"
    assert with_timing(coupled, [(True, False)]) == "coupled adaptation, internal first"
    assert with_timing(coupled, [(None, True)]) == "coupled adaptation, early"
    assert with_timing(coupled, [(False, False)]) == coupled
    assert with_timing("latent divergence", [(False, False)]) == "latent divergence"
