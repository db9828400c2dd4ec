"""Inner change beside its nulls, and the page that shows it: by hand, and on small real stores."""

import math

import duckdb
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from lib import paths
from lib.figures.layers import METRICS, by_depth
from lib.figures.nulls import null_band
from lib.store.nulls import NULL_LAYERS
from lib.ui import internal, internal_table, internal_view
from tests.test_figures import layer_rows
from tests.test_read import ONE, TWO, experiment, make


def draws(*ratios: float, control="seed", layer=1, model="m", name=ONE) -> pl.DataFrame:
    rows = [
        {"experiment_id": name, "base_model": model, "n_layers": 4, "control": control, "draw": i,
         "layer": layer, "ratio": r, "ratio_centred": r, "excess_fvu": r - 1, "displacement": 0.01,
         "relative_displacement": 0.1}
        for i, r in enumerate(ratios)
    ]  # fmt: skip
    return pl.DataFrame(rows, NULL_LAYERS)


def layers(**changes) -> pl.DataFrame:
    row = {
        "experiment_id": ONE, "layer": 1, "depth": 0.25, "n_tokens": 900, "ratio": 1.2,
        "ratio_low": 1.1, "ratio_high": 1.3, "ratio_centred": 1.15, "ratio_in_sample": 1.8,
        "excess_fvu": 0.05, "excess_fvu_low": 0.04, "excess_fvu_high": 0.06, "fve_self": 0.75,
        "fve_cross": 0.7, "ratio_bound": 4.0, "peak_share": 0.8, "massive_dropped": 100,
        "massive_energy_base": 0.5, "massive_energy_tuned": 0.4,
    }  # fmt: skip
    return pl.DataFrame([row | changes])


def test_over_and_z_by_hand():
    """Logarithms of the draws: -0.1, 0, 0.1, so their mean is 0 and their sd 0.1."""
    null = internal.against(math.exp(0.25), [math.exp(v) for v in (-0.1, 0.0, 0.1)])
    assert null.z == pytest.approx(2.5)
    assert null.over == pytest.approx(3 * math.exp(0.25) / sum(math.exp(v) for v in (-0.1, 0, 0.1)))
    assert null.why == ""


@pytest.mark.parametrize(
    ("value", "null", "over", "why"),
    [(1.2, [], None, "no null draw was measured"), (1.2, [None], None, "no null draw was measured"),
     (1.2, [1.0], 1.2, "z needs 3 draws"), (1.2, [0.9, 1.1], 1.2, "z needs 3 draws"),
     (1.2, [1.0, 1.0, 1.0], 1.2, "the null draws are all equal"),
     (None, [1.0, 1.1], None, "it was not measured"),
     (0.0, [1.0, 1.1, 1.2], 0.0, "a value without a logarithm is among them")],
)  # fmt: skip
def test_without_three_draws_that_differ_z_is_not_defined(value, null, over, why):
    found = internal.against(value, null)
    assert (found.z, found.why) == (None, why)
    assert found.over == (over if over is None else pytest.approx(over))


def test_draws_are_pooled_over_experiments_of_one_model_and_hook():
    known = pl.DataFrame({
        "experiment_id": ["a", "b", "c", "d"], "base_model": ["m", "m", "m", "other"],
        "hook": ["mlp", "mlp", "residual", "mlp"],
    })  # fmt: skip
    all_draws = pl.concat([draws(1.0, name=name) for name in "abcd"])
    assert internal.pool(all_draws, known, "a")["experiment_id"].to_list() == ["a", "b"]
    assert internal.pool(all_draws, known, "c")["experiment_id"].to_list() == ["c"]


def test_the_controls_are_never_mixed_and_other_layers_stay_out():
    null = pl.concat([
        draws(0.9, 1.1), draws(1.2, 1.3, control="random_lora"), draws(9.0, layer=2)
    ])  # fmt: skip
    (depth,) = internal.depths(layers(), null)
    assert depth.ratio["seed"].draws == (0.9, 1.1)
    assert depth.ratio["random_lora"].over == pytest.approx(1.2 / 1.25)
    assert depth.excess == pytest.approx((-0.1, 0.1, 0.2, 0.3))


def test_a_peak_is_compared_with_each_draws_own_peak():
    null = pl.concat([draws(0.9, 1.1), draws(1.05, 1.0, layer=2)])
    assert internal.peak(1.21, null)["seed"].draws == (1.05, 1.1)
    assert internal.peak(1.21, null)["random_lora"].why == "no null draw was measured"


@pytest.mark.parametrize(
    ("ratio", "bound", "own", "said"),
    [(3.6, 4.0, 0.75, "it reaches 90 % of the bound"), (3.59, 4.0, 0.75, ""),
     (1.2, 200.0, 0.995, "FVE self is above 0.99"), (1.0, 0.9, -0.1, ""), (None, None, None, "")],
)  # fmt: skip
def test_a_ratio_near_its_bound_or_with_a_tiny_denominator_is_flagged(ratio, bound, own, said):
    assert internal.limited(ratio, bound, own) == said


def test_the_in_sample_ratio_is_withheld_above_twice_the_held_out():
    (kept,) = internal.depths(layers(ratio_in_sample=2.4), draws())
    (withheld,) = internal.depths(layers(ratio_in_sample=2.41), draws())
    assert internal_table.in_sample(kept) == "2.400 (2.00\u00d7 the held-out)"
    assert internal_table.in_sample(withheld) == "withheld: 2.0\u00d7 the held-out"
    text = internal_view.said([withheld], {}, internal.peak(None, draws()))
    assert "**The in-sample ratio is withheld at layer 1**" in text
    assert "2.41" not in text


def test_the_table_gives_every_number_with_n_interval_and_null():
    null = pl.concat([draws(0.9, 1.1), draws(1.0, control="random_lora")])
    profile = {"peak_ratio": 1.2, "peak_ratio_low": 1.05, "peak_ratio_high": 1.35}
    found, peak = internal.depths(layers(), null), internal.peak(1.2, null)
    table = internal_table.words(found, profile, peak)
    cells = dict(table.select("measure", "layer 1 (depth 0.25)").iter_rows())
    assert cells["ratio, held-out"] == "1.200 (1.100 to 1.300)"
    assert cells["null: other seed"] == "1.000 (n = 2: 0.900 to 1.100)"
    assert cells["null: random LoRA"] == "1.000 (n = 1)"
    assert cells["massive tokens dropped"] == "100 of 1,000 (50 % of energy)"
    assert cells["is the peak in"] == "80 % of resamples"
    assert cells["in-sample ratio"] == "1.800 (1.50\u00d7 the held-out)"
    assert table["peak over depths"][0] == "1.200 (1.050 to 1.350)"
    assert table["layer 1 (depth 0.25)"].to_list()[4] == "1.200\u00d7; z needs 3 draws"
    saved = internal_table.numbers(found).row(0, named=True)
    assert (saved["null_seed_draws"], saved["ratio_over_seed"], saved["z_random_lora"]) == (
        2, pytest.approx(1.2), None
    )  # fmt: skip


def test_the_sentence_says_what_is_not_defined_and_why():
    null = draws(1.0, control="random_lora")
    found = internal.depths(layers(ratio_bound=1.3, fve_self=0.23), null)
    text = internal_view.said(found, {}, internal.peak(1.2, null))
    assert "**The largest ratio over depths is not defined because" in text
    assert "Null, other seed: **not measured** for this model." in text
    assert "1.20 times the null; z needs 3 draws." in text
    equal = internal.peak(1.2, draws(1.0, 1.0, 1.0))
    assert "z is **not defined because** the null draws are all equal." in internal_view.said(
        found, {}, equal
    )
    assert "**Denominator-limited at layer 1 (it reaches 92 % of the bound)**" in text


def test_null_draws_are_a_band_behind_every_curve_and_in_its_hover():
    null = pl.concat([draws(0.98, 1.02), draws(1.01, 1.03, layer=3)])
    figure = by_depth(layer_rows(), METRICS, nulls=null, focus="m.dtc_ads")
    bands = [t for t in figure.data if t.name == "null draws"]
    assert [list(t.x) for t in bands] == [[1, 3, 3, 1]] * 3
    assert list(bands[2].y) == [1.02, 1.03, 1.01, 0.98]
    assert [t.showlegend for t in bands] == [True, False, False]
    curve = figure.data[-1]
    assert [c[3] for c in curve.customdata] == [
        "0.98 to 1.02 (n = 2 draws)", "1.01 to 1.03 (n = 2 draws)"
    ]  # fmt: skip
    assert [c[2] for c in curve.customdata] == [900, 900]
    bare = by_depth(layer_rows(), METRICS)
    assert {c[3] for t in bare.data for c in t.customdata} == {"not measured"}
    assert null_band(null.with_columns(ratio=None), "ratio").is_empty()


STORED = f"""
INSERT INTO layer_metric (experiment_id, layer, depth, hook, n_tokens, cka, cka_low, cka_high,
    relative_displacement, ratio, ratio_low, ratio_high, ratio_in_sample, ratio_bound, is_peak,
    peak_share, massive_dropped, massive_energy_base)
SELECT '{{0}}', i, i / 4.0, 'mlp', 100 - i, 0.9, 0.88, 0.92, 0.3,
    CASE WHEN i > 1 THEN 1.1 + i / 10.0 END, 1.1, 1.5, 1.3, 4.0, i = 3, i / 5.0, i, 0.25
FROM range(4) t(i);
INSERT INTO profile VALUES ('{{0}}', 1.4, 1.22, 1.53, 0.25, 0.2, 0.3, 0.01, -0.01, 0.02);
INSERT INTO null_layer SELECT '{ONE}', 'random_lora', d, i, 1.0 + d / 50.0, 1, 0, 0.99, 0.1
    FROM range(4) t(i), range(2) u(d);
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """ONE with layers, profile and two null draws; TWO, of the same model, with nothing."""
    make(paths.store_file(tmp_path), experiment(ONE, "dtc_ads"), experiment(TWO, "stoic_notes"),
         STORED.format(ONE))  # fmt: skip
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    return tmp_path


def _open(experiment_id: str) -> AppTest:
    page = AppTest.from_file("../pages/layers.py", default_timeout=30)
    page.query_params["experiment"] = experiment_id
    page.run()
    assert not page.exception
    return page


def test_the_layers_page_puts_nulls_beside_the_peak(folder):
    page = _open(ONE)
    text = "\n".join(e.value for e in [*page.markdown, *page.caption])
    assert (
        "**The largest ratio of two depths is 1.400 (1.220 to 1.530)**, at layer 3 in 60 %" in text
    )
    assert (
        "Null, random LoRA: 1.010 (n = 2: 1.000 to 1.020), so 1.39 times the null; z needs 3 draws."
        in text
    )
    assert "Null, other seed: **not measured**" in text
    assert (
        "n = 97 to 100 held-out tokens per layer. Massive-activation tokens are left out at "
        in text
    )
    assert "random adapters on m: 25 % (n = 2), so it is not apart from them" in text
    table = next(d.value for d in page.dataframe if "measure" in d.value.columns)
    assert list(table["measure"])[:4] == [
        "ratio, held-out", "null: other seed", "\u2003over it; z", "null: random LoRA"
    ]  # fmt: skip
    every = page.dataframe[-1].value
    assert list(every["null"]) == ["0.01 to 0.01 (n = 2 draws)"] * 4


def test_an_experiment_without_layers_says_so(folder):
    page = _open(TWO)
    assert [f"`{TWO}` has no layer metrics" in e.value for e in page.info] == [True]


def test_layers_without_a_dictionary_depth_say_so(folder):
    with duckdb.connect(str(paths.store_file(folder))) as store:
        store.execute("UPDATE layer_metric SET ratio = NULL; UPDATE meta SET store_id = 'bare'")
    assert "no reconstruction ratio at any depth" in _open(ONE).info[0].value
