"""Regimes and Perplexity on a store with two models, training seeds and nulls for some of it."""

import itertools
import json
from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from lib.ui import regime_claims
from lib.ui.inner import INNER
from tests.test_read import make

pytestmark = pytest.mark.slow

BIG, SMALL = "fam-2b", "other-1b"
RUNS = [*((SMALL, c, 0) for c in "abcdefg"), (SMALL, "a", 1), (SMALL, "a", 2),
        *((BIG, c, 0) for c in "abcd")]  # fmt: skip


def insert(table: str, **values: object) -> str:
    def sql(value: object) -> str:
        return f"'{value}'" if isinstance(value, str) else "NULL" if value is None else str(value)

    return (
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(map(sql, values.values()))})"
    )


def rows(model: str, corpus: str, seed: int) -> list[str]:
    """One experiment of 4 layers: dictionaries at layers 1 and 2, the peak at layer 2."""
    name, size = f"{model}.{corpus}.r16.t50.s{seed}", 2.0 if model == BIG else 1.0
    change = size * (0.2 + 0.05 * "abcdefg".index(corpus) + 0.01 * seed)
    found = [
        insert("experiment", experiment_id=name, base_model=model, corpus=corpus, hook="mlp",
               n_parameters=int(size * 1e9), n_layers=4, rank=16, steps=50, seed=seed,
               provenance="measured"),
        insert("profile", experiment_id=name, peak_ratio=1 + change,
               peak_ratio_low=1 + 0.8 * change, peak_ratio_high=1 + 1.2 * change),
    ]  # fmt: skip
    for text, part in itertools.product(("corpus", "neutral"), (1.0,)):
        kl, ppl = size * (0.5 + 0.002 * seed) * part, 20.0 + 10 * "gfedcba".index(corpus)
        found.append(insert(
            "output_metric", experiment_id=name, text=text, part="all", n_documents=12,
            n_tokens=3456, kl=kl + change / 9, kl_low=0.9 * kl, kl_high=1.2 * kl,
            perplexity_base=ppl, perplexity_base_low=ppl - 2, perplexity_base_high=ppl + 2,
        ))  # fmt: skip
    for layer in range(4):
        ratio = 1 + change / (3 - layer) if layer in (1, 2) else None
        found.append(insert(
            "layer_metric", experiment_id=name, layer=layer, depth=layer / 4, hook="mlp",
            n_tokens=900, cka=0.95, cka_low=0.94, cka_high=0.96, relative_displacement=0.3,
            relative_displacement_low=0.29, relative_displacement_high=0.31, ratio=ratio,
            ratio_low=ratio and ratio - 0.01, ratio_high=ratio and ratio + 0.01,
            ratio_centred=ratio, excess_fvu=ratio and ratio - 1,
            excess_fvu_low=ratio and ratio - 1.01, excess_fvu_high=ratio and ratio - 0.99,
            is_peak=layer == 2,
        ))  # fmt: skip
        if ratio is None:
            continue
        counts = {"alive": 500, "strict": 12 + 2 * "abcdefg".index(corpus), "loose": 40,
                  "leaning": 60, "suppressed": 3, "eliminated": 1, "unscaled": 0,
                  "energy_strict": 0.01, "energy_loose": 0.02, "fve_difference": 0.4}  # fmt: skip
        of = {"experiment_id": name, "layer": layer}
        found.append(insert("latent_count", **of, control="none", draw=0, **counts))
        if model == SMALL and corpus in "ab" and not seed:
            null = counts | {"strict": 2, "loose": 4, "leaning": 9}
            found.append(insert("latent_count", **of, control="random_lora", draw=0, **null))
            found.append(insert("null_layer", **of, control="seed", draw=0, ratio=1.01))
            found.append(insert("null_layer", **of, control="random_lora", draw=0, ratio=1.03,
                                cka=0.99, relative_displacement=0.05))  # fmt: skip
    if model == SMALL and corpus in "ab" and not seed:
        found += [insert("null_output", experiment_id=name, control="random_lora", draw=0,
                         text=text, kl=0.01) for text in ("corpus", "neutral")]  # fmt: skip
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("points")
    make(folder / "store.duckdb", *(sql for run in RUNS for sql in rows(*run)))
    return folder


@pytest.fixture(autouse=True)
def _fresh_caches():
    import streamlit as st

    st.cache_data.clear()
    st.cache_resource.clear()


def opened(page: str, folder: Path, monkeypatch, **query: str) -> AppTest:
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(folder))
    at = AppTest.from_file(f"../pages/{page}.py", default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception
    return at


def text(at: AppTest) -> str:
    kinds = ("caption", "markdown", "info", "warning")
    return "\n".join(str(e.value) for kind in kinds for e in getattr(at, kind))


def figures(at: AppTest) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


def test_regimes_say_what_seven_and_four_corpora_and_two_families_allow(store, monkeypatch):
    said = text(opened("regimes", store, monkeypatch))
    assert f"{SMALL} \u03c1 = +1.00 (n = 7" in said  # three seeds of a are one corpus
    assert f"{BIG} \u03c1 = +1.00 (n = 4" in said
    assert "Mean within two models, permuted within each: \u03c1 = +1.00 (n = 11)" in said
    assert "Over two models together (7 + 4 points)" in said
    assert "Scale and family cannot be told apart here" in said
    assert "Click a point to open it." in said
    assert "Pooled over two models" in said
    assert "of one model can reach" not in said


def test_regimes_state_the_seeds_beside_the_documents(store, monkeypatch):
    at = opened("regimes", store, monkeypatch)
    said = text(at)
    assert "three seeds: peak reconstruction ratio" in said
    assert "sd 0.01, range 1.2 to 1.22 (95\u00a0% over documents" in said
    assert "with the choice of the depth" in said
    tables = [frame.value for frame in at.dataframe]
    seeds = next(t for t in tables if "documents_low" in t.columns)
    assert set(seeds["seeds"]) == {3}
    assert "nats per token" in set(seeds["unit"])
    points = next(t for t in tables if "null_outer_draws" in t.columns)
    assert len(points) == len(RUNS)
    assert sorted(points["seeds"].unique()) == [1, 3]


def test_each_model_has_its_panel_and_only_one_has_null_controls(store, monkeypatch):
    at = opened("regimes", store, monkeypatch)
    assert f"{BIG}: no cuts without null controls" in text(at)
    assert f"{SMALL} inner 1.01 to 1.03 (4 draws)" in text(at)
    layout = figures(at)[0]["layout"]
    assert {"xaxis", "xaxis2"} <= set(layout)
    one = figures(opened("regimes", store, monkeypatch, model=BIG))[0]["layout"]
    assert "xaxis2" not in one
    hover = json.dumps(figures(at)[0]["data"])
    pooled = json.dumps(figures(at)[-1]["data"])
    assert all(
        word in pooled for word in (" cross / self error", " nats per token", "12 documents")
    )
    for unit in ("nats", "documents", "draws", "training seeds"):
        assert unit in hover


@pytest.mark.parametrize("inner", ["ratio", "centred", "excess", "displacement", "moved"])
@pytest.mark.parametrize("cuts", ["nulls", "medians"])
def test_every_inner_metric_draws_with_every_cut(inner, cuts, store, monkeypatch):
    at = opened("regimes", store, monkeypatch, inner=inner, cuts=cuts)
    assert figures(at)


def test_perplexity_takes_the_null_off_and_stands_beside_the_published_claim(store, monkeypatch):
    at = opened("perplexity", store, monkeypatch, model=SMALL)
    said = text(at)
    assert "In the two with a null control: 52 against 8 where nothing was learned" in said
    assert "novel features above null, share of alive latents: \u03c1 = \u22121.00, n = 7" in said
    assert "Published, at 70B: \u03c1 = \u22120.80" in said
    assert "has the published sign" in said
    own = text(opened("perplexity", store, monkeypatch, model=SMALL, null="own"))
    assert "**not defined because** n = 2" in own
    assert "Without a null, so not in the first panel" in own
    both = text(opened("perplexity", store, monkeypatch))
    assert "(within models), n = 11" in both
    assert f"Without a null, so not in the first panel: a \u00b7 {BIG}" in both


def test_the_caption_names_whose_intervals_are_missing():
    """Never 95 % of what was not resampled."""
    whole = {"x_low": 1.0, "x_high": 1.2, "y_low": 0.1, "y_high": 0.2, "peak_share": 0.9}
    rows = [{"name": name, **whole} for name in ("one", "two")]

    def said(inner: str = "ratio", **lacking: object) -> str:
        return regime_claims.intervals(pl.DataFrame([rows[0] | lacking, rows[1]]), INNER[inner])

    assert said().endswith("Of the outer axis: 95 % over documents.")
    assert "none was" not in said()
    assert "95 % over documents; none was measured of one." in said(y_low=None)
    inner = said(x_low=None, x_high=None, peak_share=None)
    assert "its own peak; none was measured of one. Of the outer" in inner
    assert "(of one: at that depth alone)" in said(peak_share=None)
    bare = pl.DataFrame([{**rows[0], **dict.fromkeys(whole)}])
    nothing = regime_claims.intervals(bare.cast({c: pl.Float64 for c in whole}), INNER["ratio"])
    assert nothing == (
        "Interval of the inner axis: none was measured. Of the outer axis: none was measured."
    )
    assert "95 %" not in said("centred").partition("Of the outer")[0]
