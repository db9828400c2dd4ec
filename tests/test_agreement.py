"""The confirmation panel: bands, agreement, late share, and the figures of both."""

import numpy as np
import polars as pl
import pytest

from lib.figures import agreement as figures
from lib.figures import panels, scale, theme
from lib.store.nulls import NULL_LAYERS, NULL_OUTPUTS
from lib.ui import agreement, claims, confirmation, late, orders, surprise, surprise_claims
from lib.ui.nulls import Nulls


def layers(corpora=("a", "b", "c", "d"), n_layers=10, model="m") -> pl.DataFrame:
    """Dictionaries at layers 2, 5, 7, 9; the corpora move apart in the late layers only."""
    rows = []
    for i, corpus in enumerate(corpora, 1):
        for layer in range(n_layers):
            moved = 0.1 + 0.01 * i * (layer >= 7)
            ratio = {5: 1.5 - 0.1 * i, 7: 1.1 + 0.1 * i, 9: 1.2 + 0.1 * i}.get(layer)
            rows.append({
                "experiment_id": f"{model}.{corpus}", "name": corpus, "corpus": corpus,
                "base_model": model, "n_layers": n_layers, "layer": layer,
                "displacement": moved, "displacement_low": moved - 0.01,
                "displacement_high": moved + 0.01, "ratio": ratio,
                "ratio_low": ratio and ratio - 0.05, "ratio_high": ratio and ratio + 0.05,
            })  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def test_bands_hold_the_layers_with_both_measures():
    found = agreement.in_bands(layers(), "ratio")
    by_band = dict(found.group_by("band").agg(pl.first("layers")).iter_rows())
    assert by_band == {"mid": [5], "late": [7, 9]}
    late = found.filter(band="late", corpus="a").row(0, named=True)
    assert (late["x"], late["y"]) == pytest.approx((0.11, 1.25))
    assert (late["y_low"], late["y_high"]) == pytest.approx((1.20, 1.30))


def test_agreement_is_tested_within_a_model_with_n_and_exact_p():
    points = agreement.in_bands(layers(), "ratio")
    mid, late = agreement.tests(points, "ratio")
    assert (mid.test, mid.why) == (None, "a measure is constant")  # every corpus moved alike there
    assert (late.test.rho, late.test.n) == (pytest.approx(1.0), 4)
    assert late.test.p == pytest.approx(2 / 24)
    text = agreement.said([mid, late], points)
    assert "Mid layers (5 on m): **not defined because** a measure is constant" in text
    assert "Late layers (7 and 9 on m): CKA displacement against reconstruction ratio" in text
    assert "n = 4, exact p = 0.083" in text
    assert "No result on four corpora can reach p < 0.05" in text
    assert "four points without ties cannot give it" in text


def test_two_corpora_or_no_dictionary_are_said_and_not_computed():
    two = agreement.tests(agreement.in_bands(layers(("a", "b")), "ratio"), "ratio")
    assert all(a.test is None and "n = 2" in a.why for a in two)
    bare = layers().with_columns(ratio=pl.lit(None, pl.Float64))
    none = agreement.tests(agreement.in_bands(bare, "ratio"), "ratio")
    assert [a.why for a in none] == ["no dictionary is at such a depth"] * 2


PROFILES = pl.Schema({
    "experiment_id": pl.String, "late_share": pl.Float64, "late_share_low": pl.Float64,
    "late_share_high": pl.Float64, "late_minus_mid": pl.Float64, "late_minus_mid_low": pl.Float64,
    "late_minus_mid_high": pl.Float64,
})  # fmt: skip


def profiles(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(list(rows), PROFILES, orient="row")


def null_layers(*scales: float, control="random_lora") -> pl.DataFrame:
    """One draw per scale: displacement 0.1, and ``scale`` more in the last three of ten layers."""
    rows = [
        {"experiment_id": "m.a", "base_model": "m", "n_layers": 10, "control": control, "draw": d,
         "layer": layer, "displacement": 0.1 + scale * (layer >= 7)}
        for d, scale in enumerate(scales) for layer in range(10)
    ]  # fmt: skip
    return pl.DataFrame(rows, {k: NULL_LAYERS[k] for k in rows[0]})


def test_late_share_and_contrast_by_hand_where_no_interval_is_stored():
    a = late.late(layers(), profiles()).filter(corpus="a").row(0, named=True)
    assert a["late_share"] == pytest.approx(0.33 / 1.03)
    assert a["late_minus_mid"] == pytest.approx(0.01)  # 0.11 late, 0.10 in layers 4, 5 and 6
    assert (a["late_share_low"], a["late_minus_mid_high"], a["source"]) == (
        None, None, "none stored"
    )  # fmt: skip
    assert "No interval is stored for these two" in late.said(
        late.late(layers(), profiles()), late.null_draws(null_layers(0.0)), "m.a"
    )


def test_the_stored_interval_wins_over_what_the_layers_give():
    stored = profiles(("m.a", 0.4, 0.35, 0.45, 0.02, 0.01, 0.03))
    a = late.late(layers(), stored).filter(corpus="a").row(0, named=True)
    assert [a[c] for c in PROFILES if c != "experiment_id"] == [0.4, 0.35, 0.45, 0.02, 0.01, 0.03]
    assert a["source"] == "documents"


def test_an_experiment_without_cka_at_every_layer_has_no_late_share():
    half = layers(("a",)).filter(pl.col("layer") % 2 == 0)
    assert late.late(half, profiles()).is_empty()
    text = late.said(late.late(half, profiles()), late.null_draws(null_layers(0.0)), "m.a")
    assert "**not defined because**" in text
    short = late.late(layers(("a",), n_layers=3), profiles())  # the last 30 % hold no layer
    assert short.select("late_share", "late_minus_mid").row(0) == (None, None)
    assert "**not defined because**" in late.said(short, late.null_draws(null_layers(0.0)), "m.a")


def test_each_random_adapter_gives_the_same_two_numbers_from_its_own_layers():
    draws = late.null_draws(pl.concat([null_layers(0.0, 0.1), null_layers(0.5, control="seed")]))
    assert draws["late_share"].to_list() == pytest.approx([0.3, 0.6 / 1.3])
    assert draws["late_minus_mid"].to_list() == pytest.approx([0.0, 0.1])
    assert late.null_draws(null_layers(0.1).filter(pl.col("layer") > 0)).is_empty()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.47, 0.55, "above all of them"), (0.2, 0.29, "below all of them"),
     (0.31, 0.55, "not apart from them"), (None, None, "not defined")],
)  # fmt: skip
def test_the_random_adapters_are_the_yardstick(low, high, said):
    rows = late.late(layers(("a",)), profiles(("m.a", 0.4, low, high, 0.2, 0.15, 0.25)))
    draws = late.null_draws(null_layers(0.0, 0.1))  # shares 0.30 and 0.46, contrasts 0 and 0.1
    text = late.said(rows, draws, "m.a")
    beside = "without an interval its place is not defined" if low is None else f"so it is {said}"
    assert f"random adapters on m: 30 to 46 % (n = 2), {beside}" in text
    assert "(95 %: 0.15 to 0.25)**; random adapters on m: 0 to 0.1 (n = 2), so it is above" in text
    placed = late.with_places(rows, draws).row(0, named=True)
    assert (placed["late_share_place"], placed["late_minus_mid_place"]) == (
        said, "above all of them"
    )  # fmt: skip
    bare = late.said(rows, draws.clear(), "m.a")
    assert "the random-LoRA profile is not measured" in bare
    assert late.with_places(rows, draws.clear())["late_share_place"][0] == "not defined"


def test_the_pointer_names_both_axes_n_and_the_null_draws():
    known = layers(("a",)).with_columns(n_tokens=pl.lit(1200) + pl.col("layer"))
    null = null_layers(0.0, 0.1).with_columns(ratio=pl.lit(1.01))
    points = agreement.in_bands(known, "ratio")
    late_row = (
        confirmation.told(points, known, null, "ratio").filter(band="late").row(0, named=True)
    )
    assert late_row["says"] == (
        "1,207 to 1,209 tokens a layer<br>null: 1 \u2212 CKA 0.1 to 0.2 (2 draws), reconstruction "
        "ratio 1.01 to 1.01 (2 draws)"
    )
    bare = confirmation.told(points, known, null.clear(), "ratio")
    assert "null: 1 \u2212 CKA not measured, reconstruction ratio not measured" in bare["says"][0]
    shares, draws = late.late(known, profiles()), late.null_draws(null)
    hover = figures.agreement(bare, shares, draws, "reconstruction ratio").data[0].hovertemplate
    assert "1 - CKA: %{x:.3g}" in hover
    assert "<br>reconstruction ratio: %{y:.4g} (1.35 to 1.45)<br>1,205 tokens a layer" in hover


def test_small_numbers_have_a_true_minus_and_one_style_of_exponent():
    assert (
        figures.plain("-0.5 to -6.58e-05, all-round") == "\u22120.5 to \u22120.0000658, all-round"
    )
    assert claims.power(-6.58e-5, ".3g") == "\u22126.58\u00a0\u00d7\u00a010\u207b\u2075"
    assert claims.p_value(0.0004) == "4.0\u00a0\u00d7\u00a010\u207b\u2074"
    assert [claims.p_value(p) for p in (0.0, 0.0123, 1.0)] == ["0", "0.012", "1"]


def test_the_figure_draws_intervals_the_even_share_and_the_null_bands():
    points = agreement.in_bands(layers(), "ratio")
    stored = profiles(*[(f"m.{c}", 0.4, 0.35, 0.45, 0.02, 0.01, 0.03) for c in "abcd"])
    shares, draws = late.late(layers(), stored), late.null_draws(null_layers(0.0, 0.1))
    figure = figures.agreement(points, shares, draws, "ratio")
    assert len(figure.data) == 16  # four corpora in four panels
    assert all(trace.error_x.array is not None for trace in figure.data)
    assert "random LoRA: 30.0% to 46.2% (n = 2 draws)" in figure.data[8].hovertemplate
    bands = [end for s in figure.layout.shapes if s.type == "rect" for end in (s.x0, s.x1)]
    assert bands == pytest.approx([0.3, 0.6 / 1.3, 0.0, 0.1])
    lines = [s.x0 for s in figure.layout.shapes if s.type == "line"]
    assert lines == pytest.approx([0.3, 0.0])  # 3 of 10 layers; no difference
    empty = figures.agreement(points.clear(), shares, draws.clear(), "ratio")
    notes = [note.text for note in empty.layout.annotations]
    assert notes.count("no dictionary at such a depth") == 2
    assert not [s for s in empty.layout.shapes if s.type == "rect"]


def cells() -> pl.DataFrame:
    from lib import paths

    return pl.read_csv(paths.PUBLISHED / "published_cells.csv", comment_prefix="#")


def test_panels_say_where_nothing_is_published():
    rows = surprise.published(cells())
    figure = panels.shared(rows, surprise.PERPLEXITY, surprise.panels("strict", "kept"))
    drawn = [t for t in figure.data if t.x[0] is not None]
    assert [(t.x[0], t.y[0]) for t in drawn] == [
        (4.4, 77.1), (14.5, 340.2), (4.4, 0.72), (14.5, 0.478)
    ]  # fmt: skip
    assert all(t.marker.symbol.endswith("-open") for t in drawn)
    assert [n.text for n in figure.layout.annotations].count("no value") == 1


def test_novel_features_are_shares_of_alive_latents_over_all_depths():
    novelty = pl.DataFrame({
        "experiment_id": ["m.a.s0"] * 2, "layer": [1, 2], "alive": [60, 40], "strict": [1, 2],
        "fve_difference": [0.3, 0.4], "null_draws": 0,
        **dict.fromkeys(("null_strict", "null_alive"), pl.Series([None] * 2, dtype=pl.Float64)),
    })  # fmt: skip
    axes = pl.DataFrame({
        "experiment_id": ["m.a.s0", "m.b.s0"], "corpus": ["a", "b"], "base_model": "m", "rank": 1,
        "steps": 1, "seed": 0, "n_documents": 5, "n_tokens": 50, "n_parameters": 9, "hook": "mlp",
        **{f"{c}{e}": 1.0 for c in ("perplexity_base", "ratio", "kl") for e in ("", "_low", "_high")},
    })  # fmt: skip
    controls = Nulls(NULL_LAYERS.to_frame(), NULL_OUTPUTS.to_frame())
    found = surprise.points(axes, axes, novelty, "strict", controls, "kept")
    a, b = found.points.iter_rows(named=True)
    assert (a["count"], a["alive"], a["novel"]) == (3, 100, 0.03)
    assert a["novel_low"] < 0.03 < a["novel_high"]
    assert (b["count"], b["novel"]) == (None, None)  # no crosscoder: not measured, never 0
    text = surprise_claims.counted(found.runs, "strict", "kept")
    assert "3 of 100 alive latents" in text
    assert "30 to 40 %" in text
    assert "Counts under 10" in text


def test_taking_the_means_off_moves_every_scale_to_one_centre():
    from lib.ui import oracle

    rows = orders.copies(oracle.published(cells()), [0.1, 0.01])
    kept, removed = (scale.confound(rows, removed=flag) for flag in (False, True))
    centres = [
        [float(np.exp(np.log(t.x).mean())) for t in figure.data[:3]] for figure in (kept, removed)
    ]
    assert max(centres[0]) / min(centres[0]) == pytest.approx(100.0)
    assert centres[1] == pytest.approx([1.0] * 3)
    trends = [figure.data[-1].y for figure in (kept, removed)]
    assert trends[0][1] > trends[0][0]  # pooled: rising
    assert trends[1][1] < trends[1][0]  # within: falling
    own = next(t for t in kept.data if t.name == "70B")
    assert set(own.marker.color) == {
        theme.REGIME_COLOURS[r] for r in oracle.published(cells())["regime"]
    }
    copy = next(t for t in kept.data if "copy" in t.name)
    assert {tuple(row[1:]) for row in copy.customdata} == {
        ("", " nats per token", "a copy, no data")
    }


def test_many_points_are_named_by_corpus_once():
    from lib.figures import marks
    from lib.figures.axis import Axis

    none = dict.fromkeys(("x_low", "x_high", "y_low", "y_high"), None)
    few = pl.DataFrame(
        [{"name": f"a {i}", "corpus": "a", "x": x, "y": 0.5, **none} for i, x in enumerate((0, 1))]
        + [{"name": "b", "corpus": "b", "x": 0.1, "y": 0.5, **none}]
    )
    axis = Axis("", False, -1.0, 2.0)
    drawn = few, ("x", "y"), (axis, axis), (300, 200)
    assert marks.named(*drawn).words == ["a 0", "a 1", "b"]
    once = marks.named(*drawn, most=1).words
    assert (sorted(once[:2]), once[2]) == (["", "a"], "b")
