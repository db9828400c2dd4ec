"""What n corpora and two models can support, and our rule on the published table."""

import polars as pl
import pytest

from lib import paths
from lib.ui import limits, oracle, orders, points
from lib.ui.inner import INNER
from tests.test_verdicts import axes, cells


def shown(*sizes: int, models=("fam-1b", "fam-2b", "other-1b")) -> pl.DataFrame:
    parts = [
        axes([1.1 + i / 10 for i in range(n)], [0.1 * (i + 1) for i in range(n)], model=model)
        for n, model in zip(sizes, models, strict=False)
    ]
    return points.measured(pl.concat(parts), INNER["ratio"]).points


@pytest.mark.parametrize(("n", "said"), [
    (3, "No result on three corpora can reach p < 0.05 (the smallest is 0.333)."),
    (4, "No result on four corpora can reach p < 0.05 (the smallest is 0.083)."),
    (5, "With five corpora p < 0.05 takes a perfect order (|\u03c1| = 1); the smallest p is 0.017."),
    (7, "With seven corpora p < 0.05 takes |\u03c1| of 0.79 or more; the smallest p is "
        "4.0\u00a0\u00d7\u00a010\u207b\u2074."),
])  # fmt: skip
def test_one_model(n, said):
    assert limits.said(shown(n)) == said


def test_seven_and_four_corpora_of_two_models():
    text = limits.said(shown(7, 4))
    assert "Within one model no result on four corpora can reach p < 0.05" in text
    assert "Within one model with seven corpora p < 0.05 takes |\u03c1| of 0.79 or more" in text
    assert "Over two models together (7 + 4 points), permuted within each" in text
    assert "a mean |\u03c1| of 0.68 or more" in text
    assert "the smallest p is 1.7\u00a0\u00d7\u00a010\u207b\u2075" in text
    best = orders.within(shown(7, 4))[0]
    assert best.p == best.p_min == pytest.approx(2 / (24 * 5040))


def test_two_models_of_three_corpora_reach_nothing_together_either():
    assert "together (3 + 3 points) nothing can reach p < 0.05 either (the smallest is 0.056)" in (
        limits.said(shown(3, 3))
    )


def test_scale_and_family_are_told_apart_only_within_a_family():
    assert limits.families(["fam-1b"]) == ""
    assert limits.families(["fam-1b", "fam-8b"]) == ""
    assert limits.families(["fam-1b", "fam-8b", "other-1b"]) == ""
    text = limits.families(["smollm2-135m", "gemma3-270m"])
    assert "Scale and family cannot be told apart here" in text
    assert "Scale and family" in limits.said(shown(4, 3, models=("a-1b", "b-2b")))
    assert "Scale and family" not in limits.said(shown(4, 3))


def test_a_model_with_two_corpora_has_no_sentence():
    assert limits.said(shown(2)) == ""


def labels() -> pl.DataFrame:
    return pl.read_csv(paths.PUBLISHED / "published_labels.csv", comment_prefix="#")


def test_our_rule_gives_the_published_labels_and_rho():
    table = oracle.compared(cells(), labels())
    assert table["agrees"].to_list() == [True] * 4
    assert dict(table.select("corpus", "margin").iter_rows()) == {
        "DTC": "outer", "Alpaca": None, "Marcus": "outer", "Seneca": None
    }  # fmt: skip
    text = oracle.verdict(table, cells("aggregates"))
    assert "four of four published labels" in text
    assert "\u03c1 = \u22120.80 is reproduced: \u22120.80 (n = 4)" in text
    assert "two-sided it is 0.333: by chance one time in three" in text


def test_a_table_that_disagrees_is_said_to_disagree():
    wrong = labels().with_columns(label=pl.lit("near-unchanged"))
    table = oracle.compared(cells(), wrong)
    assert not table["agrees"].any()
    stated = cells("aggregates").with_columns(value=pl.lit(0.5))
    text = oracle.verdict(table, stated)
    assert "no of four published labels" in text
    assert "is not reproduced" in text
