"""Krippendorff's alpha: by hand, against published values, and where it is not defined."""

import random

import pytest

from lib.llm.agreement import krippendorff_alpha

N = None
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve
# units; he gives alpha 0.743 nominal and 0.815 ordinal.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3),
    (N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N),
)
PUBLISHED = list(zip(*OBSERVERS, strict=True))


def test_published_values():
    values = range(1, 6)
    assert krippendorff_alpha(PUBLISHED, values, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(PUBLISHED, values, "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_three_units_by_hand():
    """Two raters: (0, 0), (0, 1), (2, 2). Coincidences: 00 twice, 01 and 10 once, 22 twice; n = 6,
    totals 3, 1, 2.

    Nominal: D_o = 2/6, D_e = (36 - 9 - 1 - 4) / 30 = 22/30, alpha = 1 - (1/3) / (11/15) = 6/11.
    Ordinal: d(0,1) = (3 + 1 - 2)^2 = 4, d(1,2) = (1 + 2 - 1.5)^2 = 2.25,
    d(0,2) = (3 + 1 + 2 - 2.5)^2 = 12.25; observed 2 * 4 = 8; expected
    2 * (3*1*4 + 1*2*2.25 + 3*2*12.25) = 180; alpha = 1 - 5 * 8 / 180 = 7/9.
    """
    ratings = [(0, 0), (0, 1), (2, 2)]
    assert krippendorff_alpha(ratings, range(3), "nominal") == pytest.approx(6 / 11)
    assert krippendorff_alpha(ratings, range(3), "ordinal") == pytest.approx(7 / 9)


def test_order_of_raters_and_units_is_nothing():
    draw = random.Random(0)
    shuffled = [draw.sample(unit, len(unit)) for unit in PUBLISHED]
    draw.shuffle(shuffled)
    for level in ("nominal", "ordinal"):
        assert krippendorff_alpha(shuffled, range(1, 6), level) == pytest.approx(
            krippendorff_alpha(PUBLISHED, range(1, 6), level)
        )
    backwards = [[None if r is None else 6 - r for r in unit] for unit in PUBLISHED]
    assert krippendorff_alpha(backwards, range(1, 6), "ordinal") == pytest.approx(
        krippendorff_alpha(PUBLISHED, range(1, 6), "ordinal")
    )


def test_extremes():
    assert krippendorff_alpha([(0, 0), (1, 1)], range(2), "ordinal") == 1
    assert krippendorff_alpha([(0, 1), (1, 0)], range(2), "nominal") < 0
    draw = random.Random(1)
    chance = [[draw.randrange(4) for _ in range(5)] for _ in range(2000)]
    assert krippendorff_alpha(chance, range(4), "ordinal") == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("ratings", [[], [(1, None)], [(1,), (2,)], [(2, 2), (2, 2)]])
def test_not_defined(ratings):
    assert krippendorff_alpha(ratings, range(4), "ordinal") is None


def test_unknown_rating():
    with pytest.raises(ValueError, match="rating 7"):
        krippendorff_alpha([(7, 1)], range(4), "ordinal")
