"""Training seeds: one point, its spread in words, in P(label), in no rank test as a corpus."""

import math

import polars as pl
import pytest

from lib.figures import scatter
from lib.figures.axis import Axis
from lib.ui import orders, points, retest
from lib.ui.inner import INNER, interval
from tests.test_verdicts import axes


def repeated(spread: float = 0.1) -> pl.DataFrame:
    """Corpus a with three seeds, b to d with one."""
    ratios = [2.0 - spread, 2.0, 2.0 + spread, 1.2, 1.5, 1.6]
    return axes(ratios, [0.4, 0.5, 0.6, 0.1, 0.2, 0.3], corpora=[*"aaabcd"],
                seeds=[1, 0, 2, 0, 0, 0])  # fmt: skip


def test_a_point_is_the_mean_over_its_seeds_with_their_spread_beside_the_documents():
    found = points.measured(repeated(), INNER["ratio"])
    a = found.points.row(by_predicate=pl.col("corpus") == "a", named=True)
    assert (a["experiment_id"], a["seeds"]) == ("m.a.s0", 3)  # the lowest seed stands for it
    assert (a["x"], a["y"]) == (pytest.approx(2.0), pytest.approx(0.5))
    assert (a["x_sd"], a["y_sd"]) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (a["x_low"], a["x_high"]) == (pytest.approx(1.98), pytest.approx(2.02))
    assert "mean of 3 training seeds; sd over them 0.1 inner, 0.1 nats outer" in a["says"]
    assert "1,000 tokens" in a["says"]
    assert a["unit"] == "cross / self error"
    b = found.points.row(by_predicate=pl.col("corpus") == "b", named=True)
    assert (b["seeds"], b["x_sd"]) == (1, None)
    assert "its spread is not known" in b["says"]
    belongs = dict(found.runs.select("experiment_id", "point").iter_rows())
    assert {belongs[f"m.a.s{seed}"] for seed in range(3)} == {"m.a.s0"}


def test_seeds_are_no_further_corpora_in_any_test():
    found = points.measured(repeated(), INNER["ratio"]).points
    assert orders.correlations(found)["m"].n == 4
    assert len(orders.without_one(found)["m"]) == 4
    assert orders.hypotheses({("ratio", "kl"): found})["n"].to_list() == [4]
    two = pl.concat([repeated(), axes([1.1, 1.2, 1.4], [0.1, 0.3, 0.2], model="n")])
    both = points.measured(two, INNER["ratio"]).points
    assert orders.confound(both).pooled.n == 7
    assert len(orders.per_corpus(both)) == 7
    assert [test.n for test in orders.within(both)] == [7, 7]


def test_seeds_that_disagree_take_support_and_steadiness_from_a_point():
    calm, wild = (
        points.measured(repeated(spread), INNER["ratio"]) for spread in (0.01, 0.8)
    )  # fmt: skip

    def support(found):
        return found.judgements["m.a.s0"].support["coupled adaptation"]

    assert support(calm) > support(wild)
    assert "inner" in wild.judgements["m.a.s0"].undecided
    assert "inner" not in calm.judgements["m.a.s0"].undecided
    shares = [orders.steadiness(f.points)["m"].error for f in (calm, wild)]
    assert shares[0] <= shares[1]


def test_the_spread_is_a_table_in_the_units_of_the_quantities():
    rows = repeated().with_columns(name=pl.col("corpus"))
    kl = retest.Quantity("kl", "KL on corpus text", "nats per token")
    ratio = retest.Quantity("ratio", "peak reconstruction ratio", "cross / self error")
    table = retest.spread(rows, [ratio, kl])
    assert table["name"].to_list() == ["a", "a"]
    a = table.row(1, named=True)
    assert (a["seeds"], a["mean"], a["sd"]) == (3, pytest.approx(0.5), pytest.approx(0.1))
    assert (a["low"], a["high"]) == (0.4, 0.6)
    assert (a["documents_low"], a["documents_high"]) == pytest.approx((0.45, 0.55))
    assert a["share"] == pytest.approx(0.1 / (0.1 / 3.919928))
    text = retest.said(table, ratio.label, kl.label)
    assert "- a, three seeds: peak reconstruction ratio 2, sd 0.1, range 1.9 to 2.1" in text
    assert "KL on corpus text 0.5 nats, sd 0.1, range 0.4 to 0.6" in text
    assert "95\u00a0% over documents 0.45 to 0.55" in text
    assert "Two sources of error" in text


def test_without_repeated_seeds_the_page_says_that_their_error_is_unknown():
    once = axes([1.1, 1.4], [0.4, 0.1]).with_columns(name=pl.col("corpus"))
    table = retest.spread(once, [retest.Quantity("kl", "KL", "nats per token")])
    assert table.is_empty()
    assert "none repeated" in retest.said(table, "ratio", "KL")


def test_a_quantity_without_an_interval_or_with_one_value_only():
    rows = repeated().with_columns(
        name=pl.col("corpus"), centred=pl.when(pl.col("seed") < 2).then("ratio"),
        centred_low=pl.lit(None, pl.Float64), centred_high=pl.lit(None, pl.Float64),
        alone=pl.when(pl.col("seed") < 1).then("ratio"),
        alone_low=pl.col("ratio_low"), alone_high=pl.col("ratio_high"),
    )  # fmt: skip
    wanted = [retest.Quantity(name, name, "ratio") for name in ("centred", "alone")]
    table = retest.spread(rows, wanted)
    assert table.select("quantity", "seeds", "share").rows() == [("centred", 2, None)]
    assert "no interval over documents" in retest.said(table, "centred", "alone")


def test_a_run_with_another_recipe_is_another_point_of_the_same_corpus():
    rows = pl.concat([
        repeated(), axes([1.7], [0.2], corpora=["a"]).with_columns(
            rank=pl.lit(4, pl.Int32), experiment_id=pl.lit("m.a.r4")),
    ])  # fmt: skip
    found = points.measured(rows, INNER["ratio"]).points
    assert found.filter(corpus="a")["name"].to_list() == ["a \u00b7 rank 16", "a \u00b7 rank 4"]
    assert orders.correlations(found)["m"].n == 4


def test_seeds_are_small_marks_joined_to_their_mean():
    found = points.measured(repeated(), INNER["ratio"])
    x, y = (Axis.over("", points.extent(found.points, axis)) for axis in "xy")
    figure = scatter.regimes(found.points, x, y, found.cuts, runs=found.runs)
    lines, seeds, *rest, centre = figure.data
    assert len(rest) == 4  # one mark per corpus
    mean = next(trace for trace in rest if trace.customdata[0][0] == "m.a.s0")
    assert (centre.x, centre.y, centre.marker.opacity) == (mean.x, mean.y, 0)  # over the seeds
    assert (centre.hovertemplate, centre.marker.size) == (mean.hovertemplate, seeds.marker.size)
    assert all("cross / self error" in trace.hovertemplate for trace in rest)
    assert (lines.mode, seeds.mode) == ("lines", "markers")
    assert list(lines.x) == [2.0, 1.9, None, 2.0, 2.0, None, 2.0, 2.1, None]
    assert seeds.marker.size < min(trace.marker.size for trace in rest)
    assert {(row[0], row[1]) for row in seeds.customdata} == {
        ("m.a.s0", 0), ("m.a.s1", 1), ("m.a.s2", 2)
    }  # fmt: skip
    assert "training seed" in seeds.hovertemplate


def test_models_have_panels_of_their_own_on_shared_axes():
    two = pl.concat([repeated(), axes([3.1, 3.2, 3.4], [0.1, 0.3, 0.2], model="n")])
    found = points.measured(two, INNER["ratio"])
    x, y = Axis.over("inner", [1.0, 4.0]), Axis.over("outer", [0.0, 1.0])
    planes = [
        (model, scatter.Plane(
            found.points.filter(model=model), x, y,
            [cut for cut in found.cuts if cut.label == model], (1.0, 1.02), None,
            found.runs.filter(model=model),
        ))
        for model in ("m", "n")
    ]  # fmt: skip
    figure = scatter.assemble(planes, (1120, 470))
    assert {t.xaxis for t in figure.data if "n." in str(t.customdata)} == {"x2"}
    cuts = {(s.xref, s.x0) for s in figure.layout.shapes if s.type == "line" and s.xref[-1] != "n"}
    assert cuts == {(axis, cut.internal) for axis, cut in zip(("x", "x2"), found.cuts, strict=True)}
    assert figure.layout.xaxis2.matches == "x"
    assert figure.layout.yaxis2.matches == "y"
    assert list(figure.layout.xaxis.range) == list(figure.layout.xaxis2.range)
    notes = [note.text for note in figure.layout.annotations]
    assert {"m", "n", "inner"} <= set(notes)
    assert notes.count("\u2190 null") == 2
    left, right = figure.layout.xaxis.domain, figure.layout.xaxis2.domain
    assert left[1] < right[0] and math.isclose(right[1], 1.0)


def test_far_cuts_do_not_squeeze_the_points_onto_a_logarithmic_axis():
    plain = Axis.over("", [0.4, 0.6], start=0.0, held=[0.02, 0.001])
    assert not plain.log
    assert plain.low == 0.0
    log = Axis.over("", [0.1, 1.0], start=0.0, held=[0.02, 0.0])
    assert log.log
    assert 0 < log.low < 0.02


def test_a_null_band_starts_at_the_edge_of_a_logarithmic_axis():
    found = points.measured(repeated(), INNER["ratio"])
    x = Axis.over("", [0.01, 1.0])
    figure = scatter.regimes(found.points, x, x, null=(-0.1, 0.02), null_output=(0.0, 0.03))
    flat = [s for s in figure.layout.shapes if s.type == "rect"]
    assert (flat[0].x0, flat[0].x1) == (x.low, 0.02)
    assert (flat[1].y0, flat[1].y1) == (x.low, 0.03)


def test_the_interval_of_the_peak_says_whether_it_holds_the_choice_of_the_depth():
    assert "with the choice of the depth" in interval(INNER["ratio"])
    assert "(of a and b: at that depth alone)" in interval(INNER["ratio"], ["a", "b"])
    assert "choice of that layer is not in it" in interval(INNER["excess"], ["a"])
    assert interval(INNER["centred"]) == "not measured"
