"""Points and verdicts: which numbers a page states, and in which words."""

import polars as pl
import pytest

from lib import paths
from lib.figures.layers import METRICS
from lib.figures.scatter import Cuts
from lib.metrics.statistics import RankTest
from lib.ui import (
    claims,
    definitions,
    labelling,
    limits,
    names,
    nulls,
    oracle,
    orders,
    points,
    published,
    regime_claims,
    verdicts,
)
from lib.ui.inner import INNER


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
            "seed": seeds, "hook": "mlp", "n_documents": 10, "n_tokens": 1000, "ratio": ratios,
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
    pairs = oracle.published(cells())
    assert dict(pairs.select("name", "regime").iter_rows()) == {
        "Marcus 70B": "coupled adaptation", "Seneca 70B": "coupled adaptation",
        "DTC 70B": "latent divergence", "Alpaca 70B": "behavioural capture",
    }  # fmt: skip
    test = orders.correlations(pairs)["70B"]
    assert (test.rho, test.p, test.n) == (pytest.approx(-0.8), pytest.approx(1 / 3), 4)
    stated = cells("aggregates").filter(scope="within 70B")["value"][0]
    assert stated == pytest.approx(test.rho)
    near = oracle.within_margin(pairs, oracle.CUTS)
    assert near == {"Marcus 70B": ["outer"], "DTC 70B": ["outer"]}


def test_the_verdict_on_four_corpora_says_what_n_allows():
    text = claims.correlation(orders.correlations(oracle.published(cells())), None, {}, "KL")
    assert "nearly the reverse of the order of KL" in text
    assert "\u03c1 = \u22120.80 (n = 4), exact p = 0.33" in text
    assert "happens by chance one time in three" in text
    text = limits.said(oracle.published(cells()))
    assert text == "No result on four corpora can reach p < 0.05 (the smallest is 0.083)."


def test_cuts_are_medians_within_each_model():
    both = pl.concat([
        axes([1.0, 2.0, 4.0, 8.0], [0.8, 0.4, 0.2, 0.1]),
        axes([10.0, 20.0, 40.0, 80.0], [1.0, 2.0, 4.0, 8.0], model="n"),
    ])  # fmt: skip
    found, cuts, *_ = points.measured(both, INNER["ratio"])
    by_model = {cut.label: cut for cut in cuts}
    assert by_model["m"][:2] == pytest.approx((1 + (1 * 3) ** 0.5, 0.08**0.5))  # of changes from 1
    assert by_model["n"][:2] == pytest.approx((1 + (19 * 39) ** 0.5, 8**0.5))
    assert found.filter(model="n")["regime"].to_list() == [
        "near-unchanged", "near-unchanged", "coupled adaptation", "coupled adaptation",
    ]  # fmt: skip
    assert found.filter(model="m")["regime"].to_list() == [
        "behavioural capture", "behavioural capture", "latent divergence", "latent divergence",
    ]  # fmt: skip


def test_points_near_a_cut_and_points_without_one_are_indeterminate():
    found, cuts, *_ = points.measured(axes([1.1, 1.2], [0.5, 0.6]), INNER["ratio"])
    assert found["regime"].to_list() == ["indeterminate"] * 2
    assert len(cuts) == 1
    alone, none, *_ = points.measured(axes([1.1], [0.5]), INNER["ratio"])
    assert (alone["regime"].to_list(), none) == (["indeterminate"], [])


def test_values_that_were_not_measured_are_left_out():
    rows = axes([1.1, 1.3], [0.5, 0.6]).with_columns(
        ratio=pl.when(pl.col("corpus") == "c0").then(None).otherwise("ratio")
    )
    found, *_ = points.measured(rows, INNER["ratio"])
    assert found["corpus"].to_list() == ["c1"]


def test_seeds_of_one_corpus_are_one_point_of_the_correlation():
    rows = axes(
        [1.0, 3.0, 2.5, 2.0], [0.1, 0.3, 0.5, 0.3], corpora=["a", "a", "b", "c"],
        seeds=[0, 1, 0, 0],
    )  # fmt: skip
    found, *_ = points.measured(rows, INNER["ratio"])
    assert found.select("name", "x", "seeds").rows() == [
        ("a", 2.0, 2),
        ("b", 2.5, 1),
        ("c", 2.0, 1),
    ]
    means = labelling.corpus_means(found)
    assert means.select("corpus", "x", "runs").rows() == [
        ("a", 2.0, 1),
        ("b", 2.5, 1),
        ("c", 2.0, 1),
    ]
    assert orders.correlations(found)["m"].n == 3


def test_no_correlation_from_two_corpora_or_without_any_spread():
    two, *_ = points.measured(axes([1.0, 2.0], [0.1, 0.2]), INNER["ratio"])
    flat, *_ = points.measured(axes([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]), INNER["ratio"])
    assert orders.correlations(two) == orders.correlations(flat) == {}
    assert "Too few points" in claims.correlation({}, None, {}, "KL")


def test_models_are_pooled_within_and_never_across():
    inner = INNER["ratio"]
    opposed = [
        points.measured(axes([s, 2 * s, 3 * s], [3 * s, 2 * s, s], model=m), inner)[0]
        for m, s in (("m", 1.0), ("n", 100.0))
    ]
    found = orders.confound(pl.concat(opposed))
    assert found.within.rho == found.partial.rho == pytest.approx(-1.0)
    assert found.pooled.rho > 0.5  # the models lie apart, so pooling turns the sign
    assert orders.confound(opposed[0]) is None


def test_the_sign_is_steady_when_intervals_are_narrow_and_not_when_they_are_wide():
    narrow, *_ = points.measured(axes([1.0, 2.0, 4.0, 8.0], [8.0, 4.0, 2.0, 1.0]), INNER["ratio"])
    wide = narrow.with_columns(
        x_low=pl.col("x") / 50, x_high=pl.col("x") * 50,
        y_low=pl.col("y") / 50, y_high=pl.col("y") * 50,
    )  # fmt: skip
    assert orders.steadiness(narrow)["m"].same_sign == pytest.approx(1.0, abs=1e-3)
    assert orders.steadiness(wide)["m"].same_sign < 0.9


def test_a_rho_of_0_is_said_to_have_no_sign():
    level, *_ = points.measured(axes([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 1.0, 3.0]), INNER["ratio"])
    other, *_ = points.measured(
        axes([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4], model="n"), INNER["ratio"]
    )
    one = claims.correlation(orders.correlations(level), None, orders.steadiness(level), "KL")
    assert "\u03c1 keeps its sign under the numbers' own error is not defined for m, " in one
    both = pl.concat([level, other])
    text = claims.correlation(orders.correlations(both), None, orders.steadiness(both), "KL")
    assert "of draws (n). It is not defined for m, because \u03c1 is 0 there." in text
    assert "of draws (m)" not in text
    assert orders.hypotheses({("ratio", "KL"): level})["same_sign"].to_list() == [None]


@pytest.mark.parametrize(
    ("pooled", "within", "says"),
    [
        (0.001, 0.01, "Opposite signs: the pooled one is made by the differences between models."),
        (0.30, 0.97, "but neither differs from 0 (pooled p = 0.3, within p = 0.97)."),
        (0.001, 0.97, "but only the pooled one differs from 0 (pooled p = 0.001, within p = 0.97)"),
        (0.30, 0.01, "but only the one within models differs from 0"),
    ],
)
def test_opposite_signs_are_made_much_of_only_where_both_differ_from_0(pooled, within, says):
    found = orders.Confound(
        RankTest(0.6, pooled, 8, 0.001, True),
        RankTest(-0.02, within, 8, 0.001, True),
        RankTest(-0.02, within, 8, 0.001, True),
    )
    text = claims.confounded(found, 2, False)
    assert says in text
    assert ("is made by" in text) == (pooled < 0.05 and within < 0.05)


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


def test_regime_counts_name_the_undecided_axis_and_the_limits_of_the_cuts():
    found, cuts, judgements, *_ = points.measured(axes([1.1, 1.2], [0.5, 0.6]), INNER["ratio"])
    text = regime_claims.regimes(found, cuts, judgements, "medians")
    assert "2 indeterminate" in text
    assert "Undecided: c0 and c1 on the outer axis" in text
    assert "medians within the model, so they always put as many corpora above as below" in text
    assert "of a ratio, (ratio \u2212 1) / (cut \u2212 1), or under 90 % of draws" in text
    assert "no cuts" in regime_claims.regimes(found, [Cuts(None, None)][:0], judgements, "medians")
    one, cuts, judgements, *_ = points.measured(
        axes([1.1, 1.11, 1.5, 1.6], [0.1, 0.5, 0.51, 2.0]), INNER["ratio"]
    )
    text = regime_claims.regimes(one, cuts, judgements, "medians")
    assert "c1 and c2 on the outer axis" in text
    assert "both axes" not in text


def test_the_verdict_says_what_is_left_without_one_corpus():
    pairs = oracle.published(cells())
    text = claims.correlation(orders.correlations(pairs), None, {}, "KL", orders.without_one(pairs))
    left = orders.without_one(pairs)["70B"]
    assert left == pytest.approx({"Alpaca": -0.5, "DTC": -0.5, "Marcus": -1.0, "Seneca": -1.0})
    assert "between \u22121.00 (without Marcus) and \u22120.50 (without Alpaca)" in text


def test_holm_covers_every_order_that_the_page_can_show():
    rows = axes([1.1, 1.2, 1.3, 1.4], [0.4, 0.3, 0.2, 0.1])
    one = points.measured(rows, INNER["ratio"]).points
    found = orders.hypotheses({("ratio", "a"): one, ("ratio", "b"): one})
    assert found["p"].to_list() == pytest.approx([1 / 12] * 2)
    assert found["p_holm"].to_list() == pytest.approx([1 / 6] * 2)
    assert found["loo_high"].to_list() == pytest.approx([-1.0] * 2)
    text = claims.tested(found)
    assert "Of the 2 orders that this page can show, none is below p = 0.05" in text
    assert "corrected for 2 tests it is 0.17" in text
    assert "No order can be tested yet" in claims.tested(orders.hypotheses({}))


def test_copies_of_the_published_points_pool_to_anything_while_rho_inside_stays():
    pairs = oracle.published(cells())
    pooled = {
        factor: orders.confound(orders.copies(pairs, [1 / factor, 1 / factor**2]))
        for factor in (1.0, 5.0, 10.0)
    }
    assert [found.within.rho for found in pooled.values()] == pytest.approx([-0.8] * 3)
    assert [found.pooled.rho for found in pooled.values()] == pytest.approx(
        [-0.8, 0.713, 0.811], abs=1e-3
    )
    text = claims.confounded(pooled[10.0], 3, True)
    assert "Pooled over three scales \u03c1 = +0.81 (n = 12)" in text
    assert "mean \u03c1 = \u22120.80" in text
    assert "Copies are no data" in text
    assert "Copies" not in claims.confounded(pooled[10.0], 3, False)


def controls(ratios, kls, model="m") -> nulls.Nulls:
    from lib.store.nulls import NULL_LAYERS, NULL_OUTPUTS

    layers = [
        {"experiment_id": f"{model}.c0.s0", "base_model": model, "n_layers": 2, "control": "seed",
         "draw": draw, "layer": layer, "ratio": value - 0.01 * layer, "ratio_centred": value,
         "excess_fvu": 0.0, "displacement": None, "relative_displacement": None}
        for draw, value in enumerate(ratios) for layer in (0, 1)
    ]  # fmt: skip
    outputs = [
        {"experiment_id": f"{model}.c0.s0", "base_model": model, "control": "random_lora",
         "draw": draw, "text": "corpus", "kl": kl} for draw, kl in enumerate(kls)
    ]  # fmt: skip
    return nulls.Nulls(pl.DataFrame(layers, NULL_LAYERS), pl.DataFrame(outputs, NULL_OUTPUTS))


def test_null_controls_turn_ranks_into_findings():
    rows = axes([1.10, 1.20, 1.30, 1.40], [0.4, 0.3, 0.2, 0.1])
    null = controls([1.00, 1.02], [0.03, 0.05])
    assert sorted(null.internal("m", "ratio")) == [1.00, 1.02]  # the largest layer of each draw
    found = points.measured(rows, INNER["ratio"], "nulls", null)
    assert found.cuts[0][:2] == pytest.approx((1.02, 0.05))
    assert found.points["regime"].to_list() == ["coupled adaptation"] * 4
    assert "more than chance gives" in regime_claims.regimes(*found[:3], "nulls")
    small = points.measured(axes([1.10, 1.005], [0.01, 0.3]), INNER["ratio"], "nulls", null)
    assert small.points["regime"].to_list() == ["latent divergence", "behavioural capture"]


def test_without_null_controls_there_are_no_null_cuts():
    rows = axes([1.1, 1.4], [0.4, 0.1])
    empty, inner = controls([], []), INNER["ratio"]
    assert not nulls.known(empty, ["m"], inner.column)
    assert empty.reach("m", inner.column) == (None, None)
    found = points.measured(rows, inner, "nulls", empty)
    assert (found.cuts, set(found.points["regime"])) == ([], {"indeterminate"})
    assert "no model here has null controls" in regime_claims.regimes(*found[:3], "nulls")
    assert regime_claims.nulls({"m": (None, None)}) == regime_claims.NULLS_MISSING


def test_a_model_without_null_controls_is_named_beside_one_with_them():
    both = pl.concat([axes([1.1, 1.4], [0.4, 0.1]), axes([1.2, 1.5], [0.4, 0.1], model="n")])
    null = controls([1.0, 1.02], [0.03])
    found = points.measured(both, INNER["ratio"], "nulls", null)
    assert [cut.label for cut in found.cuts] == ["m"]
    assert set(found.points.filter(model="n")["regime"]) == {"indeterminate"}
    assert "n: no cuts without null controls" in regime_claims.regimes(*found[:3], "nulls")
    reaches = {m: null.reach(m, "ratio") for m in ("m", "n")}
    text = regime_claims.nulls(reaches)
    assert "With fewer than 20 draws a cut is their largest" in text
    assert text.startswith(regime_claims.nulls(reaches, "medians"))
    assert "fewer than 20" not in regime_claims.nulls(reaches, "medians")
    assert "m inner 1 to 1.02 (2 draws), outer 0.03 to 0.03 nats (1 draw)" in text
    assert "n inner not measured, outer not measured" in text
    says = found.points.filter(model="m")["says"][0]
    assert "null of this model: inner 1 to 1.02 (2 draws); outer 0.03 to 0.03 nats (1 draw)" in says


def test_null_draws_that_are_not_numbers_make_no_cut():
    null = controls([1.01, float("nan")], [0.03, float("inf")])
    assert null.internal("m", "ratio") == [1.01]
    assert null.output("m") == [0.03]


def test_a_label_that_changes_with_the_inner_metric_is_named():
    assert labelling.opinions(["latent divergence", "coupled adaptation"]) == "metric-dependent"
    assert labelling.opinions(["latent divergence", "indeterminate"]) == (
        "1 of 2 metrics decide, alike"
    )
    assert labelling.opinions(["indeterminate"] * 3) == "none decides"
    table = pl.DataFrame({"name": ["a", "b"], "opinion": ["metric-dependent", "none decides"]})
    assert "the label of a depends on the inner metric" in regime_claims.opinions(table)


def test_delayed_needs_an_earlier_point_of_one_family():
    rows = axes([1.4, 1.1, 1.3], [0.1, 0.5, 0.2], corpora=["a", "a", "a"]).with_columns(
        base_model=pl.Series(["fam-1b", "fam-8b", "other-1b"]), n_parameters=pl.Series([1, 8, 1]),
        hook=pl.lit("mlp"), experiment_id=pl.Series(["small", "large", "stranger"]),
    )  # fmt: skip
    low = labelling.Judgement("near-unchanged", (), {
        "near-unchanged": 1.0, "latent divergence": 0.0, "behavioural capture": 0.0,
        "coupled adaptation": 0.0,
    })  # fmt: skip
    high = labelling.Judgement("behavioural capture", (), {
        "near-unchanged": 0.0, "latent divergence": 0.0, "behavioural capture": 1.0,
        "coupled adaptation": 0.0,
    })  # fmt: skip
    judged = {"small": low, "large": high, "stranger": low}
    assert labelling.timed(rows, judged)["large"] == "delayed behavioural capture"
    alone = rows.filter(pl.col("experiment_id") != "small")
    assert labelling.timed(alone, judged)["large"] == "behavioural capture"


def test_what_is_not_published_is_listed_with_its_source():
    gaps = cells("gaps")
    assert set(gaps["kind"]) == {"not published", "in tension"}
    assert gaps.select("what", "scope", "source").null_count().sum_horizontal().item() == 0
    assert gaps.columns[: len(published.GAPS)] == list(published.GAPS)
    counts = {column: cells()[column].drop_nulls().len() for column in ("ratio", "kl")}
    assert (
        f"{counts['ratio']} of 12 cells" in gaps.filter(what="peak reconstruction ratio")["note"][0]
    )
    assert f"{counts['kl']} of 12 cells" in gaps.filter(what="KL")["note"][0]


def test_names_hold_only_what_tells_experiments_apart():
    rows = axes([1.0, 2.0], [0.1, 0.2])
    assert list(names.labels(rows).values()) == ["c0", "c1"]
    twice = pl.concat([rows, axes([1.0, 2.0], [0.1, 0.2], model="n")])
    assert list(names.labels(twice).values()) == ["c0 · m", "c1 · m", "c0 · n", "c1 · n"]


def test_every_definition_a_page_asks_for_exists():
    with pytest.raises(KeyError):
        definitions.chosen(["no such number"])
    assert definitions.chosen(["KL"]).startswith("**KL.**\n\n$$")
