"""Slopes and courses of paths: numbers by hand, and the powers of the small-change law on data."""

import math

import numpy as np
import pytest
import torch

from lib.metrics.cka import debiased_cka, linear_cka
from lib.metrics.displacement import displacement
from lib.metrics.divergence import streamed
from lib.metrics.paths import LAWS, Course, Departure, course, crossing, departure, slope

S = [0.25, 0.5, 1.0, 2.0]
BARE = [None] * 4


def test_the_slope_of_a_power_is_the_power():
    for power in (1, 2, 0.5):
        found = slope(S, [3 * s**power for s in S], BARE, BARE)
        assert found.value == pytest.approx(power)
        assert (found.low, found.high, found.n) == (None, None, 4)
        assert "no interval" in found.why


def test_the_interval_of_two_points_by_hand():
    """Half a natural-log unit up or down for each: the difference has root 2 times that, over ln 2."""
    ends = [[y * math.exp(sign * 0.5) for y in (1.0, 4.0)] for sign in (-1, 1)]
    found = slope([0.5, 1.0], [1.0, 4.0], *ends)
    half = 0.5 * math.sqrt(2) / math.log(2)
    assert found.value == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert found.why == ""


def test_the_interval_covers_the_slope_of_noisy_points():
    """With independent errors of the stated size, 95 of 100 intervals hold the true slope."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        y = [s**2 * math.exp(rng.normal(0, 0.1)) for s in S]
        low, high = ([v * math.exp(sign * 0.196) for v in y] for sign in (-1, 1))
        found = slope(S, y, low, high)
        held += found.low <= 2 <= found.high
    assert 925 <= held <= 975


def test_zero_and_negative_values_are_no_points_of_a_slope():
    found = slope([0, 0.5, 1, 2], [0.0, -0.1, 1.0, 4.0], BARE, BARE)
    assert found.value == pytest.approx(2)
    assert found.n == 2
    none = slope([0, 1], [0.0, 1.0], [None, None], [None, None])
    assert none.value is None and none.why.startswith("n = 1")
    assert slope([1, 1], [1.0, 2.0], [None] * 2, [None] * 2).value is None
    reaching = slope([0.5, 1], [1.0, 4.0], [0.0, 3.0], [2.0, 5.0])
    assert reaching.value == pytest.approx(2) and reaching.low is None
    with pytest.raises(ValueError, match="3 entries for 2"):
        slope([1, 2], [1.0, 2.0, 3.0], [None] * 2, [None] * 2)


def test_the_order_of_the_points_does_not_matter():
    y = [s**2 for s in S]
    assert slope(S[::-1], y[::-1], BARE, BARE).value == pytest.approx(2)
    low, high = [0.9 * v for v in y], [1.1 * v for v in y]
    bent = [*y[:3], 6.0]
    wide = departure(S[::-1], bent[::-1], low[::-1], high[::-1], 2)
    assert wide.at == 2.0


def test_a_path_leaves_the_law_where_both_intervals_say_so():
    y = [0.0625, 0.25, 1.0, 2.0]  # s^2, but half of it at 2
    low, high = [v / 1.2 for v in y], [v * 1.2 for v in y]
    found = departure(S, y, low, high, 2)
    assert found == Departure(2.0, pytest.approx(0.5), 3)
    wide = departure(S, y, [v / 2 for v in y], [v * 2 for v in y], 2)  # ln 2 < sqrt(2) ln 2
    assert wide == Departure(None, None, 3)
    assert departure(S, y, BARE, BARE, 2) == Departure(None, None, 0)
    assert departure([0], [0.0], [None], [None], 2) == Departure(None, None, 0)


LOW, HIGH, BETWEEN = False, True, None


@pytest.mark.parametrize(
    ("sides", "found"),
    [
        ([(LOW, LOW), (HIGH, LOW), (HIGH, HIGH)], Course("inner first", 2, 3)),
        ([(LOW, LOW), (LOW, HIGH), (HIGH, HIGH)], Course("outer first", 3, 2)),
        ([(LOW, LOW), (HIGH, HIGH), (HIGH, HIGH)], Course("together", 2, 2)),
        ([(LOW, LOW), (HIGH, BETWEEN), (HIGH, HIGH)], Course("undecided", 2, 3)),
        ([(LOW, LOW), (BETWEEN, LOW), (HIGH, HIGH)], Course("together", 3, 3)),
        ([(LOW, LOW), (HIGH, LOW), (HIGH, LOW)], Course("inner only", 2, None)),
        ([(LOW, LOW), (HIGH, BETWEEN), (HIGH, BETWEEN)], Course("undecided", 2, None)),
        ([(LOW, LOW), (LOW, LOW), (LOW, HIGH)], Course("outer only", None, 3)),
        ([(LOW, LOW), (LOW, LOW), (LOW, LOW)], Course("neither", None, None)),
        ([(LOW, LOW), (LOW, LOW), (BETWEEN, LOW)], Course("undecided", None, None)),
        # inner high and outer low again, but only after the outer had been high
        ([(HIGH, BETWEEN), (HIGH, HIGH), (HIGH, LOW)], Course("undecided", 1, 2)),
    ],
)
def test_which_axis_is_first(sides, found):
    assert course([1, 2, 3], sides) == found


def test_a_course_of_nothing_is_undecided_and_pairs_must_match():
    assert course([], []) == Course("undecided", None, None)
    with pytest.raises(ValueError, match="2 values have 1 pairs"):
        course([1, 2], [(True, True)])


def test_a_crossing_is_linear_between_points():
    assert crossing([0, 1, 2], [3.5, 3.3, 3.1], 3.2) == pytest.approx(1.5)
    assert crossing([2, 0, 1], [3.1, 3.5, 3.3], 3.4) == pytest.approx(0.5)
    assert crossing([0, 1], [3.5, 3.3], 3.0) is None
    assert crossing([0, 1], [3.5, 3.5], 3.5) == 0
    assert crossing([], [], 1.0) is None


SMALL = [0.004, 0.008, 0.016]


def power(values: list[float]) -> float:
    found = slope(SMALL, values, [None] * 3, [None] * 3).value
    assert found is not None
    return found


def random(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape))


def test_displacement_is_of_second_order_and_relative_displacement_of_first():
    """Also with a second-order term in the change, and for both estimators of CKA."""
    x, first, second = random(300, 12), random(300, 13)[:, :12], random(300, 14)[:, :12]
    moved = [x + s * first + s**2 * second for s in SMALL]
    groups = torch.arange(300) // 10
    relative = [displacement(x, y, groups).relative for y in moved]
    assert power(relative) == pytest.approx(LAWS["relative"], abs=0.03)
    for cka in (linear_cka, debiased_cka):
        assert power([1 - cka(x, y) for y in moved]) == pytest.approx(
            LAWS["displacement"], abs=0.05
        )


def test_the_constant_of_the_law_is_that_of_the_derivation():
    """(s^2 / 2) (|E|^2 |K|^2 - <K, E>^2) / |K|^4 with centred Gram matrices."""
    x, change, s = random(60, 8), random(60, 9)[:, :8], 1e-3
    xc, dc = x - x.mean(0), change - change.mean(0)
    k, e = xc @ xc.T, xc @ dc.T + dc @ xc.T
    kk, ee, ke = float((k * k).sum()), float((e * e).sum()), float((k * e).sum())
    expected = s**2 / 2 * (ee * kk - ke**2) / kk**2
    assert 1 - linear_cka(x, x + s * change) == pytest.approx(expected, rel=0.02)


def test_a_rotation_or_an_offset_has_no_displacement_of_second_order():
    x = random(200, 6)
    turn = torch.zeros(6, 6, dtype=x.dtype)
    turn[0, 1], turn[1, 0] = 1.0, -1.0
    large = [0.1, 0.2, 0.4]
    values = [1 - linear_cka(x, x + s * x @ turn) for s in large]  # I + s T: a rotation to order 1
    assert slope(large, values, [None] * 3, [None] * 3).value == pytest.approx(4, abs=0.3)
    assert abs(1 - linear_cka(x, x + 0.5 * torch.ones(6, dtype=x.dtype))) < 1e-9


def test_kl_is_of_second_order():
    hidden, weight, change = (
        random(40, 8).float(),
        random(50, 8).float(),
        random(40, 9)[:, :8].float(),
    )
    weight = weight / 3
    kl = [
        float(
            streamed(
                hidden + s * change, hidden, weight, weight, targets=torch.zeros(40).long()
            ).kl.mean()
        )
        for s in [0.05, 0.1, 0.2]
    ]
    found = slope([0.05, 0.1, 0.2], kl, [None] * 3, [None] * 3).value
    assert found == pytest.approx(LAWS["kl"], abs=0.1)
