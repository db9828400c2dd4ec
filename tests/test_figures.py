"""Figures: what is drawn where, from small frames."""

import math

import polars as pl
import pytest

from lib.figures import scatter, theme
from lib.figures.axis import Axis
from lib.figures.curves import adapter_loss, dictionary_quality
from lib.figures.labels import Box, Mark, place, text_box
from lib.figures.layers import METRICS, by_depth, late_start
from lib.figures.scatter import Cuts


def points(**changes) -> pl.DataFrame:
    row = {
        "name": "a", "experiment_id": "m.a", "corpus": "dtc_ads", "model": "m",
        "n_parameters": 100, "published": False, "regime": "latent divergence", "n": 12,
        "x": 2.0, "x_low": 1.5, "x_high": 3.0, "y": 0.5, "y_low": 0.4, "y_high": 0.7,
        "says": "outer undecided",
    }  # fmt: skip
    rows = pl.DataFrame([row | changes])
    return rows.with_columns(pl.col("^[xy]_(low|high)$").cast(pl.Float64))


def drawn(frame: pl.DataFrame, cuts=(), **more):
    x, y = Axis.over("inner", [1.5, 3.0]), Axis.over("outer", [0.4, 0.7])
    return scatter.regimes(frame, x, y, cuts, **more)


def test_an_axis_is_logarithmic_from_a_span_of_five_on():
    assert not Axis.over("", [1.0, 4.9]).log
    axis = Axis.over("", [10.0, 1000.0])
    assert axis.log
    assert axis.share(100.0) == pytest.approx(0.5)
    assert axis.ticks == [10, 20, 50, 100, 200, 500, 1000]
    assert not Axis.over("", [-1.0, 100.0]).log  # nothing to take a logarithm of


def test_a_linear_axis_starts_at_no_change_unless_a_value_lies_below():
    assert Axis.over("", [1.1, 1.4], start=1.0).low == 1.0
    assert Axis.over("", [0.9, 1.4], start=1.0).low < 0.9
    flat = Axis.over("", [2.0])
    assert flat.low < 2.0 < flat.high


def test_a_point_carries_its_interval_its_experiment_and_its_regime():
    trace = drawn(points()).data[0]
    assert (trace.error_x.array[0], trace.error_x.arrayminus[0]) == (1.0, 0.5)
    assert (trace.error_y.array[0], trace.error_y.arrayminus[0]) == pytest.approx((0.2, 0.1))
    assert trace.customdata[0][0] == "m.a"
    assert trace.marker.color == theme.REGIME_COLOURS["latent divergence"]
    assert trace.marker.symbol == "diamond"
    assert "12 documents" in trace.hovertemplate
    assert trace.customdata[0][4] == "<br>outer undecided"
    assert drawn(points(says=None)).data[0].customdata[0][4] == ""


def test_published_and_indeterminate_points_are_hollow_and_without_invented_bars():
    hollow = points(published=True, experiment_id=None, n=None,
                    x_low=None, x_high=None, y_low=None, y_high=None)  # fmt: skip
    trace = drawn(hollow).data[0]
    assert trace.marker.symbol == "diamond-open"
    assert trace.error_x.visible is False
    assert trace.error_y.visible is False
    assert trace.customdata[0][0] == ""
    assert drawn(points(regime="indeterminate")).data[0].marker.symbol == "diamond-open"


def test_cuts_are_lines_at_their_values_named_only_when_there_are_several():
    one = drawn(points(), [Cuts(2.0, 0.5, "m")])
    assert {(s.x0, s.y0) for s in one.layout.shapes} == {(2.0, 0), (0, 0.5)}
    assert "m" not in [note.text for note in one.layout.annotations]
    two = drawn(points(), [Cuts(2.0, 0.5, "m"), Cuts(2.5, None, "other")])
    assert len(two.layout.shapes) == 3
    named = [note for note in two.layout.annotations if note.text == "other"]
    assert [note.x for note in named] == [Axis.over("inner", [1.5, 3.0]).share(2.5)]


def test_cuts_of_two_models_at_one_place_are_one_line_with_both_names():
    both = drawn(points(), [Cuts(2.0, 0.5, "m"), Cuts(2.0005, 0.6, "other")])
    assert len(both.layout.shapes) == 3
    texts = [note.text for note in both.layout.annotations]
    assert texts.count("m, other") == 1
    assert {"m", "other"} <= set(texts)


def test_the_null_band_is_drawn_where_it_was_measured_and_nowhere_else():
    assert not drawn(points()).layout.shapes
    band = drawn(points(), null=(1.6, 1.8)).layout.shapes[0]
    assert (band.x0, band.x1, band.fillcolor) == (1.6, 1.8, theme.NULL_BAND)


def test_larger_models_have_larger_markers():
    two = pl.concat([points(), points(name="b", n_parameters=10**9)])
    small, large = (trace.marker.size for trace in drawn(two).data)
    assert small < large


def _area(box: Box) -> float:
    return (box.right - box.left) * (box.top - box.bottom)


def test_labels_of_close_points_do_not_cover_each_other_or_leave_the_frame():
    frame = Box(0, 0, 400, 200)
    marks = [Mark(370.0, 100.0), Mark(362.0, 104.0), Mark(30.0, 190.0)]
    texts = ["stoic_notes", "moral_letters", "dtc_ads"]
    chosen = place([(text, [at]) for at, text in enumerate(texts)], marks, frame)
    assert [spot.mark for spot in chosen] == [0, 1, 2]
    boxes = [text_box(marks[s.mark], t, s.position) for t, s in zip(texts, chosen, strict=True)]
    assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])
    assert [b.overlap(frame) for b in boxes] == pytest.approx([_area(b) for b in boxes])


def test_a_name_stands_at_the_marker_where_it_touches_no_other():
    """Of two markers of one corpus the left one is walled in by large ones of another."""
    frame = Box(0, 0, 400, 200)
    wall = [Mark(90.0 + dx, 100.0 + dy, 24) for dx in (-30, 0, 30) for dy in (-24, 24)]
    marks = [Mark(90.0, 100.0), Mark(300.0, 60.0), *wall, Mark(60.0, 100, 24), Mark(120.0, 100, 24)]
    (spot,) = place([("notes", [0, 1])], marks, frame)
    assert (spot.mark, spot.hidden) == (1, 0)
    (walled,) = place([("notes", [0])], marks, frame)
    assert walled.hidden > 0
    wide, narrow = (text_box(Mark(0, 0, size), "notes", "middle right").left for size in (24, 15))
    assert wide > narrow > 7.5  # beyond the rim of the marker


@pytest.mark.parametrize(("layers", "first"), [(28, 20), (30, 21), (32, 23), (80, 56), (10, 7)])
def test_the_last_thirty_percent_start_at_the_ceiling(layers, first):
    assert late_start(layers) == first  # 10: ceil(0.7 * 10) is 8 in floating point


def layer_rows(model="m", n_layers=4, corpus="dtc_ads") -> pl.DataFrame:
    column = [0.1, 0.2, 0.3, 0.4][:n_layers]
    frame = {
        "experiment_id": f"{model}.{corpus}", "base_model": model, "corpus": corpus,
        "n_layers": n_layers, "layer": list(range(n_layers)),
        "depth": [i / n_layers for i in range(n_layers)], "n_tokens": [900] * n_layers,
    }  # fmt: skip
    for metric in METRICS:
        values = [None, 1.2, None, 1.1][:n_layers] if metric.column == "ratio" else column
        frame |= {
            metric.column: values,
            f"{metric.column}_low": [None if v is None else v - 0.05 for v in values],
            f"{metric.column}_high": [None if v is None else v + 0.05 for v in values],
        }
    return pl.DataFrame(frame)


def test_by_depth_skips_layers_without_a_value_and_shades_the_late_ones():
    figure = by_depth(layer_rows())
    ratio = figure.data[-1]
    assert list(ratio.x) == [1, 3]
    assert list(ratio.error_y.array) == pytest.approx([0.05, 0.05])
    shades = [s for s in figure.layout.shapes if s.type == "rect"]
    assert {(s.x0, s.x1) for s in shades} == {(2.5, 3.5)}
    assert len(shades) == 3


def test_models_with_different_numbers_of_layers_share_relative_depth():
    figure = by_depth(pl.concat([layer_rows(), layer_rows("n", 2)]), METRICS[:1])
    assert {max(trace.x) for trace in figure.data} == {0.75, 0.5}
    assert figure.layout.xaxis.title.text.startswith("relative depth")
    assert {s.x0 for s in figure.layout.shapes if s.type == "rect"} == {0.7}


def test_the_chosen_experiment_is_drawn_last_and_thicker():
    rows = pl.concat([layer_rows(), layer_rows(corpus="instructions")])
    lines = [t for t in by_depth(rows, METRICS[:1], focus="m.dtc_ads").data if t.mode]
    assert [t.legendgroup for t in lines] == ["m.instructions", "m.dtc_ads"]
    assert lines[0].line.width < lines[1].line.width


def test_a_long_curve_has_its_interval_as_a_band():
    rows = layer_rows().with_columns(n_layers=12)
    many = pl.concat([rows.with_columns(layer=pl.col("layer") + 4 * i) for i in range(3)])
    band, line = by_depth(many, METRICS[:1]).data
    assert band.fill == "toself"
    assert len(band.x) == 2 * len(line.x)
    assert (min(band.y), max(band.y)) == pytest.approx((0.05, 0.45))


CURVES = pl.DataFrame(
    {
        "run": ["adapter"] * 3 + ["crosscoder"] * 2 + ["sae_base"] * 2,
        "layer": [None, None, None, 7, 7, 7, 7],
        "step": [1, 2, 3, 0, 100, 0, 100],
        "loss": [3.0, 2.0, 1.0, 1.0, 0.5, 1.0, 0.5],
        "fve_base": [None, None, None, 0.0, 0.6, -0.2, 0.5],
        "fve_tuned": [None, None, None, 0.0, 0.7, None, None],
        "fve_difference": [None, None, None, 0.0, 0.3, None, None],
    }
)


def test_the_loss_curve_shows_each_batch_and_their_mean():
    batches, mean = adapter_loss(CURVES).data
    assert list(batches.y) == [3.0, 2.0, 1.0]
    assert list(mean.y) == [2.0, 2.0, 2.0]  # five steps hold all three


def test_dictionary_quality_draws_only_the_sides_that_a_dictionary_sees():
    figure = dictionary_quality(CURVES, [7])
    assert [t.name for t in figure.data] == [
        "crosscoder, base side", "crosscoder, tuned side", "crosscoder, difference", "SAE of base",
    ]  # fmt: skip
    assert tuple(figure.layout.yaxis.range) == (-0.2, 1)
    assert figure.data[0].line.color == figure.data[3].line.color == theme.BASE


def test_every_regime_has_a_colour_of_its_own():
    colours = [c for name, c in theme.REGIME_COLOURS.items() if name != "indeterminate"]
    assert len(set(colours)) == 4
    assert not set(colours) & {theme.BASE, theme.TUNED, theme.DIFFERENCE}


def test_an_unknown_corpus_has_one_symbol_and_one_colour():
    assert theme.corpus_symbol("new") == theme.corpus_symbol("new")
    assert theme.corpus_line("new").startswith("#")
    assert theme.fill("#0072B2", 0.5) == "rgba(0,114,178,0.5)"


def test_axis_puts_values_without_a_logarithm_at_its_low_end():
    assert Axis("", True, 1.0, 100.0).share(0.0) == 0.0
    assert math.isclose(Axis("", False, 0.0, 4.0).share(1.0), 0.25)
