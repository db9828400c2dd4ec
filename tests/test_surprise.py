"""Base perplexity against novel features above their null and both axes."""

import polars as pl
import pytest

from lib.figures import panels
from lib.metrics.shares import Share, excess, wilson
from lib.store.nulls import NULL_LAYERS, NULL_OUTPUTS
from lib.ui import novelty, orders, surprise, surprise_claims
from lib.ui.nulls import Nulls
from tests.test_verdicts import axes

NO_NULLS = Nulls(NULL_LAYERS.to_frame(), NULL_OUTPUTS.to_frame())


def counted(experiment: str, strict: int, null: int | None, layers: int = 2) -> list[dict]:
    """Rows of ``lib.store.novelty``: 100 alive latents per depth, of them ``strict``."""
    return [{
        "experiment_id": experiment, "layer": layer, "alive": 100, "strict": strict,
        "loose": strict + 1, "leaning": strict + 5, "energy_strict": strict / 1000,
        "energy_loose": strict / 500, "fve_difference": 0.3 + layer / 10,
        "null_draws": 0 if null is None else 1, "null_alive": None if null is None else 90.0,
        "null_strict": None if null is None else float(null),
        "null_loose": None if null is None else null + 1.0,
        "null_leaning": None if null is None else null + 2.0,
        "null_energy_strict": None if null is None else null / 1000,
        "null_energy_loose": None if null is None else null / 500,
    } for layer in range(layers)]  # fmt: skip


def rows(n: int = 4, **more) -> pl.DataFrame:
    frame = axes([1.1 + i / 10 for i in range(n)], [0.1 * (i + 1) for i in range(n)], **more)
    return frame.with_columns(
        perplexity_base=10.0 + 10 * pl.int_range(pl.len()),
        perplexity_base_low=9.0 + 10 * pl.int_range(pl.len()),
        perplexity_base_high=11.0 + 10 * pl.int_range(pl.len()),
    )


def frame(*parts: list[dict]) -> pl.DataFrame:
    return pl.DataFrame([row for part in parts for row in part], infer_schema_length=None)


def test_newcombe_interval_of_the_published_example():
    got = excess(wilson(56, 70), wilson(48, 80))  # Newcombe 1998, table II, case a, method 10
    assert got == pytest.approx(Share(0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_null_is_taken_off_the_share():
    found = frame(counted("m.c0.s0", 5, 1), counted("m.c1.s0", 3, None))
    joined = rows(2).join(novelty.counts(found, "strict"), on="experiment_id", how="left")
    own = novelty.above(joined, "own")
    assert own["novel"].to_list() == [pytest.approx(10 / 200 - 2 / 180), None]
    want = excess(wilson(10, 200), wilson(2, 180))
    assert (own["novel_low"][0], own["novel_high"][0]) == pytest.approx(want[1:])
    model = novelty.above(joined, "model")
    assert model["novel"].to_list() == pytest.approx([10 / 200 - 2 / 180, 6 / 200 - 2 / 180])
    kept = novelty.above(joined, "kept")
    assert kept["novel"].to_list() == pytest.approx([0.05, 0.03])
    assert kept["novel_low"][0] == pytest.approx(wilson(10, 200).low)


def test_draws_of_a_model_are_pooled_and_models_kept_apart():
    both = pl.concat([rows(2), rows(1, model="n")])
    found = frame(
        counted("m.c0.s0", 5, 1), counted("m.c1.s0", 3, 4), counted("n.c0.s0", 9, None)
    )  # fmt: skip
    joined = both.join(novelty.counts(found, "strict"), on="experiment_id", how="left")
    got = novelty.above(joined, "model")["novel"].to_list()
    assert got[:2] == pytest.approx([0.05 - 10 / 360, 0.03 - 10 / 360])
    assert got[2] is None  # no null of this model: not defined, never the raw share


def test_a_null_of_some_depths_only_is_no_null():
    found = frame(counted("m.c0.s0", 5, 1, layers=1))
    half = pl.concat([found, frame(counted("m.c0.s0", 5, None, layers=1))], how="vertical_relaxed")
    assert novelty.counts(half, "strict")["null_count"].to_list() == [None]


def test_energy_is_a_mean_over_depths_without_an_interval():
    joined = rows(1).join(
        novelty.counts(frame(counted("m.c0.s0", 5, 1)), "energy_strict"), on="experiment_id"
    )
    got = novelty.above(joined, "own").row(0, named=True)
    assert got["novel"] == pytest.approx(0.005 - 0.001)
    assert got["novel_low"] is None
    assert got["count"] == 10


def points(null="kept", **more) -> surprise.Surprise:
    found = frame(*(counted(f"m.c{i}.s0", 8 - 2 * i, i) for i in range(4)))
    axis = rows()
    return surprise.points(axis, axis, found, "strict", NO_NULLS, null, **more)


def test_points_carry_perplexity_novelty_and_both_axes_with_what_the_pointer_says():
    found = points()
    row = found.points.row(0, named=True)
    assert (row["perplexity"], row["inner"], row["outer"]) == (10.0, 1.1, pytest.approx(0.1))
    assert row["novel"] == pytest.approx(16 / 200)
    assert "16 novel of 200 alive latents, 2 depths; null 0 of 180 (1 draw)" in row["says"]
    assert "10 documents, 1,000 tokens" in row["says"]
    assert "null of this model: inner not measured" in row["says"]
    tests = surprise.tests(found.points, surprise.panels("strict", "kept"))
    assert [t.test.rho for t in tests] == pytest.approx([-1.0, 1.0, 1.0])
    text = surprise_claims.verdict(tests)
    assert (
        "- novel features, share of alive latents: \u03c1 = \u22121.00, n = 4, exact p = 0.083"
        in text
    )
    assert "has the published sign" in surprise_claims.sign(tests)


def test_two_models_are_tested_within_and_never_pooled():
    both = pl.concat([rows(), rows(3, model="n")])
    found = frame(*(counted(e, 3 + i, 0) for i, e in enumerate(both["experiment_id"])))
    got = surprise.points(both, both, found, "strict", NO_NULLS, "kept")
    tests = [t for t in surprise.tests(got.points, surprise.panels("strict", "kept"))
             if t.panel.column == "inner"]  # fmt: skip
    assert [(t.over, t.test.n) for t in tests] == [("m", 4), ("n", 3), (orders.WITHIN, 7)]
    text = surprise_claims.allowed(tests, orders.hypotheses({}))
    assert "Within one model no result on three corpora" in text
    assert "Within one model no result on four corpora" in text


def test_seeds_are_one_corpus_here_too():
    axis = rows(5, corpora=["a", "a", "b", "c", "d"], seeds=[0, 1, 0, 0, 0])
    found = frame(*(counted(e, 3 + i, 0) for i, e in enumerate(axis["experiment_id"])))
    got = surprise.points(axis, axis, found, "strict", NO_NULLS, "kept")
    assert len(got.points) == 4
    assert got.points["novel"][0] == pytest.approx((6 + 8) / 400)
    assert {t.test.n for t in surprise.tests(got.points, surprise.panels("strict", "kept"))} == {4}
    assert got.runs["point"].to_list()[:2] == ["m.a.s0"] * 2
    figure = panels.shared(
        got.points, surprise.PERPLEXITY, surprise.panels("strict", "kept"), runs=got.runs
    )
    small = [t for t in figure.data if t.mode == "markers" and t.marker.opacity != 0]
    assert [len(t.x) for t in small] == [2, 2, 2]
    says = got.points["says"][0]
    assert "mean of 2 training seeds; of seed 0 alone: 6 novel of 200" in says
    mean = next(t for t in figure.data if "mean of 2" in (t.hovertemplate or ""))
    assert "base perplexity of the corpus: %{x:.3g}" in mean.hovertemplate
    titles = ("novel features, share of alive latents:", "inner peak cross / self error:",
              "outer KL, nats per token:")  # fmt: skip
    for title, trace in zip(titles, small, strict=True):
        assert f"<br>{title} %{{y" in trace.hovertemplate
    centres = [t for t in figure.data if t.mode == "markers" and t.marker.opacity == 0]
    assert [t.hovertemplate.count("mean of 2") for t in centres] == [1, 1, 1]


def test_a_constant_count_of_novel_features_has_no_correlation():
    axis = rows(3).with_columns(kl=pl.when(pl.col("corpus") == "c0").then(None).otherwise("kl"))
    found = frame(*(counted(e, 0, None) for e in axis["experiment_id"]))
    got = surprise.points(axis, axis, found, "strict", NO_NULLS, "kept")
    tests = surprise.tests(got.points, surprise.panels("strict", "kept"))
    assert [t.test is None for t in tests] == [True, False, True]
    text = surprise_claims.verdict(tests)
    assert "**not defined because** all three corpora have the same value (0)" in text
    assert "**not defined because** n = 2" in text
    assert surprise_claims.sign(tests) == ""


def test_no_crosscoder_is_not_measured_and_never_0():
    axis = rows(3)
    got = surprise.points(
        axis, axis, frame(counted("m.c0.s0", 1, None)), "strict", NO_NULLS, "kept"
    )
    assert got.points["novel"].to_list() == [0.01, None, None]
    text = surprise_claims.counted(got.runs, "strict", "kept")
    assert "2 of 200 alive latents in one trainings" in text
    assert "random LoRA) is not measured, so none is taken off" in text
    assert "30 to 40 %" in text
    assert "Counts under 10" in text


def test_what_the_null_takes_off_is_said():
    assert "In the four with a null control: 40 against 12 where nothing was learned" in (
        surprise_claims.counted(points("own").runs, "strict", "own")
    )
    assert "orders stay as they were" in surprise_claims.counted(
        points("model").runs, "strict", "model"
    )
    axis, found = rows(2), frame(counted("m.c0.s0", 5, 1), counted("m.c1.s0", 3, None))
    got = surprise.points(axis, axis, found, "strict", NO_NULLS, "own")
    assert "Without a null, so not in the first panel: c1" in surprise_claims.counted(
        got.runs, "strict", "own"
    )


def test_the_seeds_perplexity_claim_comes_with_what_four_corpora_allow():
    text = surprise_claims.claim()
    assert "\u03c1 = \u22120.80 between base perplexity and novel features (n = 4)" in text
    assert "Exact p = 0.33" in text
    assert "by chance one time in three" in text
    assert "two of 24 orders give \u22120.80; in them DTC is third or fourth" in text
    assert surprise_claims.possible_orders() == [(4, 2, 3, 1), (4, 3, 1, 2)]


def test_the_null_band_of_a_panel_is_drawn_and_widens_no_scale():
    figure = panels.shared(
        points().points, surprise.PERPLEXITY, surprise.panels("strict", "kept"),
        bands={"outer": (0.001, 0.004)},
    )  # fmt: skip
    assert [(s.y0, s.y1, s.yref) for s in figure.layout.shapes] == [(0.001, 0.004, "y3")]
    assert figure.layout.yaxis3.type == "linear"
