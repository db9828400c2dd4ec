"""Points and verdicts: which numbers a page states, and in which words."""

import polars as pl
import pytest

from lib import paths
from lib.figures.layers import METRICS
from lib.figures.scatter import Cuts
from lib.metrics.statistics import spearman_exact
from lib.ui import definitions, names, points, verdicts


def cells(name: str = "cells") -> pl.DataFrame:
    return pl.read_csv(paths.PUBLISHED / f"published_{name}.csv", comment_prefix="#")


def axes(ratios, kls, *, corpora=None, model="m", seeds=None) -> pl.DataFrame:
    n = len(ratios)
    corpora = corpora or [f"c{i}" for i in range(n)]
    seeds = seeds or [0] * n
    return pl.DataFrame(
        {
            "experiment_id": [f"{model}.{c}.s{s}" for c, s in zip(corpora, seeds, strict=True)],
            "corpus": corpora, "base_model": model, "n_parameters": 100, "rank": 16, "steps": 50,
            "seed": seeds, "n_documents": 10, "ratio": ratios,
            "ratio_low": [r * 0.99 for r in ratios], "ratio_high": [r * 1.01 for r in ratios],
            "kl": kls, "kl_low": [k * 0.9 for k in kls], "kl_high": [k * 1.1 for k in kls],
        }
    )  # fmt: skip


def test_the_published_cells_hold_what_the_seeds_give_and_nothing_else():
    rows = cells()
    assert len(rows) == 12
    counts = {c: rows[c].drop_nulls().len() for c in ("ratio", "kl", "agreement", "novel_features")}
    assert counts == {"ratio": 6, "kl": 5, "agreement": 2, "novel_features": 0}
    assert rows["perplexity_base"].drop_nulls().sort().to_list() == [4.4, 14.5]
    for value in ("ratio", "kl", "agreement", "perplexity_base"):  # a source for each number
        assert rows[value].is_null().to_list() == rows[f"{value}_source"].is_null().to_list()


def test_the_published_regimes_and_the_rank_correlation_are_reproduced():
    pairs = points.published(cells())
    assert dict(pairs.select("name", "regime").iter_rows()) == {
        "Marcus 70B": "coupled adaptation", "Seneca 70B": "coupled adaptation",
        "DTC 70B": "latent divergence", "Alpaca 70B": "behavioural capture",
    }  # fmt: skip
    test = points.correlations(pairs)["70B"]
    assert (test.rho, test.p, test.n) == (pytest.approx(-0.8), pytest.approx(1 / 3), 4)
    stated = cells("aggregates").filter(scope="within 70B")["value"][0]
    assert stated == pytest.approx(test.rho)
    near = points.within_margin(pairs, points.PUBLISHED_CUTS)
    assert near == ["Marcus 70B", "DTC 70B"]


def test_the_verdict_on_four_corpora_says_what_n_allows():
    text = verdicts.correlation(points.correlations(points.published(cells())), None, {}, "KL")
    assert "nearly the reverse of the order of KL" in text
    assert "\u03c1 = \u22120.80 (n = 4), exact p = 0.33" in text
    assert "happens by chance one time in three" in text
    assert "No result on four corpora can reach p < 0.05 (the smallest is 0.083)" in text


def test_the_limit_is_computed_and_absent_where_n_allows_more():
    five = {"m": spearman_exact([1.0, 2, 3, 4, 5], [2.0, 1, 3, 4, 5])}
    text = verdicts.correlation(five, None, {}, "KL")
    assert "No result" not in text
    assert "nearly the same as" in text


def test_cuts_are_medians_within_each_model():
    both = pl.concat([
        axes([1.0, 2.0, 4.0, 8.0], [0.8, 0.4, 0.2, 0.1]),
        axes([10.0, 20.0, 40.0, 80.0], [1.0, 2.0, 4.0, 8.0], model="n"),
    ])  # fmt: skip
    found, cuts = points.measured(both, points.INNER["ratio"])
    by_model = {cut.label: cut for cut in cuts}
    assert by_model["m"][:2] == pytest.approx((8**0.5, 0.08**0.5))
    assert by_model["n"][:2] == pytest.approx((800**0.5, 8**0.5))
    assert found.filter(model="n")["regime"].to_list() == [
        "near-unchanged", "near-unchanged", "coupled adaptation", "coupled adaptation",
    ]  # fmt: skip
    assert found.filter(model="m")["regime"].to_list() == [
        "behavioural capture", "behavioural capture", "latent divergence", "latent divergence",
    ]  # fmt: skip


def test_points_near_a_cut_and_points_without_one_are_indeterminate():
    found, cuts = points.measured(axes([1.1, 1.2], [0.5, 0.6]), points.INNER["ratio"])
    assert found["regime"].to_list() == ["indeterminate"] * 2
    assert len(cuts) == 1
    alone, none = points.measured(axes([1.1], [0.5]), points.INNER["ratio"])
    assert (alone["regime"].to_list(), none) == (["indeterminate"], [])


def test_values_that_were_not_measured_are_left_out():
    rows = axes([1.1, 1.3], [0.5, 0.6]).with_columns(
        ratio=pl.when(pl.col("corpus") == "c0").then(None).otherwise("ratio")
    )
    found, _ = points.measured(rows, points.INNER["ratio"])
    assert found["corpus"].to_list() == ["c1"]


def test_seeds_of_one_corpus_are_one_point_of_the_correlation():
    rows = axes(
        [1.0, 3.0, 2.5, 2.0], [0.1, 0.3, 0.5, 0.3], corpora=["a", "a", "b", "c"],
        seeds=[0, 1, 0, 0],
    )  # fmt: skip
    found, _ = points.measured(rows, points.INNER["ratio"])
    assert found["name"].to_list() == [f"{c} · seed {s}" for c, s in ("a0", "a1", "b0", "c0")]
    means = points.corpus_means(found)
    assert means.select("corpus", "x", "runs").rows() == [
        ("a", 2.0, 2),
        ("b", 2.5, 1),
        ("c", 2.0, 1),
    ]
    assert points.correlations(found)["m"].n == 3


def test_no_correlation_from_two_corpora_or_without_any_spread():
    two, _ = points.measured(axes([1.0, 2.0], [0.1, 0.2]), points.INNER["ratio"])
    flat, _ = points.measured(axes([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]), points.INNER["ratio"])
    assert points.correlations(two) == points.correlations(flat) == {}
    assert "Too few points" in verdicts.correlation({}, None, {}, "KL")


def test_models_are_pooled_within_and_never_across():
    inner = points.INNER["ratio"]
    opposed = [
        points.measured(axes([s, 2 * s, 3 * s], [3 * s, 2 * s, s], model=m), inner)[0]
        for m, s in (("m", 1.0), ("n", 100.0))
    ]
    assert points.within_models(pl.concat(opposed)).rho == pytest.approx(-1.0)
    assert points.within_models(opposed[0]) is None


def test_the_sign_is_steady_when_intervals_are_narrow_and_not_when_they_are_wide():
    narrow, _ = points.measured(
        axes([1.0, 2.0, 4.0, 8.0], [8.0, 4.0, 2.0, 1.0]), points.INNER["ratio"]
    )
    wide = narrow.with_columns(
        x_low=pl.col("x") / 50, x_high=pl.col("x") * 50,
        y_low=pl.col("y") / 50, y_high=pl.col("y") * 50,
    )  # fmt: skip
    assert points.steadiness(narrow)["m"].same_sign == pytest.approx(1.0, abs=1e-3)
    assert points.steadiness(wide)["m"].same_sign < 0.9


@pytest.mark.parametrize(
    ("p", "words"),
    [(1 / 3, "one time in three"), (1 / 12, "one time in 12"), (1.0, "every time"),
     (2 / 3, "67 % of the time"), (0.25, "one time in four")],
)  # fmt: skip
def test_a_probability_in_words(p, words):
    assert verdicts.chance(p) == words


def test_peaks_name_layer_value_interval_and_what_was_not_measured():
    rows = pl.DataFrame({
        "layer": [0, 1, 2], "displacement": [0.1, 0.3, 0.2], "displacement_low": [0.05, 0.25, 0.1],
        "displacement_high": [0.2, 0.4, 0.3], "ratio": [None] * 3, "ratio_low": [None] * 3,
        "ratio_high": [None] * 3,
    })  # fmt: skip
    chosen = [metric for metric in METRICS if metric.column != "relative_displacement"]
    text = verdicts.peaks(rows, chosen, late=2)
    found = "CKA displacement peaks at layer 1 of three measured: 0.300 (95\u00a0% 0.250 to 0.400)"
    assert found in text
    assert "among the last" not in text
    assert "reconstruction ratio was not measured" in text
    assert "one of the last 30\u00a0%" in verdicts.peaks(rows, chosen, late=1)


def test_training_verdicts_count_plateaus_and_shrunk_dictionaries():
    rows = pl.DataFrame({
        "stopped": ["flat", "flat", "step limit"], "latents": [8, 4, 8], "latents_asked": [8, 8, 8],
        "fve_difference": [0.26, None, 0.40],
    })  # fmt: skip
    text = verdicts.trained(rows)
    assert text.startswith("**2 of 3 dictionaries stopped because their held-out FVE was flat**")
    assert "1 of 3 shrank" in text
    assert "26 % to 40 %" in text


def test_compute_is_compared_with_one_third_or_said_to_be_unknown():
    assert "below one third" in verdicts.compute(2.6e-8)
    assert "2.6 \\times 10^{-8}" in verdicts.compute(2.6e-8)
    assert "at or above one third" in verdicts.compute(0.4)
    assert "not on record" in verdicts.compute(None)


def test_regime_counts_come_with_the_limits_of_the_cuts():
    found, cuts = points.measured(axes([1.1, 1.2], [0.5, 0.6]), points.INNER["ratio"])
    assert "2 indeterminate" in verdicts.regimes(found, cuts)
    assert "Null controls are not measured yet" in verdicts.regimes(found, cuts)
    assert "no cuts" in verdicts.regimes(found, [Cuts(None, None)][:0])


def test_names_hold_only_what_tells_experiments_apart():
    rows = axes([1.0, 2.0], [0.1, 0.2])
    assert list(names.labels(rows).values()) == ["c0", "c1"]
    twice = pl.concat([rows, axes([1.0, 2.0], [0.1, 0.2], model="n")])
    assert list(names.labels(twice).values()) == ["c0 · m", "c1 · m", "c0 · n", "c1 · n"]


def test_every_definition_a_page_asks_for_exists():
    with pytest.raises(KeyError):
        definitions.chosen(["no such number"])
    assert definitions.chosen(["KL"]).startswith("**KL.** ")
