"""Every page on a real tiny store made by the real pipeline, and on stores that are not usable."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from lib import paths

PAGES = sorted(p.stem for p in Path("pages").glob("*.py"))
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh_caches():
    import streamlit as st

    st.cache_data.clear()
    st.cache_resource.clear()


def _open(page: str, folder: Path, monkeypatch, **query: str) -> AppTest:
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(folder))
    at = AppTest.from_file(f"../pages/{page}.py", default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    return at.run()


def _text(at: AppTest) -> str:
    kinds = ("title", "caption", "markdown", "info", "warning", "error", "code")
    return "\n".join(str(e.value) for kind in kinds for e in getattr(at, kind))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_draws_on_a_real_store(page: str, tiny_store: Path, monkeypatch):
    at = _open(page, tiny_store, monkeypatch)
    assert not at.exception
    assert not at.error
    assert at.title[0].value.endswith("?")
    assert at.caption[0].value


@pytest.mark.parametrize("page", [p for p in PAGES if p != "method"])
def test_a_missing_store_names_the_command(page: str, tmp_path: Path, monkeypatch):
    at = _open(page, tmp_path, monkeypatch)
    assert not at.exception
    assert "python -m lib run data/experiments/embedded.yaml" in _text(at)


@pytest.mark.parametrize("page", ["regimes", "features", "ablation"])
def test_an_older_store_names_its_version_and_the_command(
    page: str, tiny_store: Path, tmp_path: Path, monkeypatch
):
    shutil.copy(tiny_store / "store.duckdb", tmp_path / "store.duckdb")
    with duckdb.connect(str(tmp_path / "store.duckdb")) as store:
        store.execute("UPDATE meta SET schema_version = 0")
    at = _open(page, tmp_path, monkeypatch)
    assert not at.exception
    assert "python -m lib run" in _text(at)


@pytest.mark.parametrize("page", ["layers", "features", "ablation", "tokens"])
def test_an_unknown_experiment_in_the_address_is_named(page: str, tiny_store: Path, monkeypatch):
    at = _open(page, tiny_store, monkeypatch, experiment="no-such-experiment")
    assert not at.exception
    assert "no-such-experiment" in _text(at)


COMMITTED = paths.ROOT / "precomputed"


@pytest.mark.parametrize("source", ["measured", "published"])
@pytest.mark.parametrize("page", ["regimes", "perplexity"])
def test_both_views_draw_on_the_committed_store(page: str, source: str, monkeypatch):
    at = _open(page, COMMITTED, monkeypatch, provenance=source)
    assert not at.exception
    assert not at.error
    assert at.get("plotly_chart")


def test_the_regimes_page_says_what_its_number_of_points_cannot_support(
    tiny_store: Path, monkeypatch
):
    at = _open("regimes", tiny_store, monkeypatch, provenance="published")
    text = _text(at)
    assert "0.80" in text
    assert "0.33" in text
    assert "happens by chance one time in three" in text
    assert "No result on four corpora can reach p < 0.05" in text
    assert "Marcus 70B on the outer axis and DTC 70B on the outer axis" in text
    assert "'Delayed' behavioural capture is not shown" in text


def test_the_scale_confound_follows_its_controls(tiny_store: Path, monkeypatch):
    near = _text(_open("regimes", tiny_store, monkeypatch, provenance="published", apart="1.0"))
    far = _text(_open("regimes", tiny_store, monkeypatch, provenance="published", apart="10.0"))
    assert "Pooled over three scales \u03c1 = \u22120.80" in near
    assert "Pooled over three scales \u03c1 = +0.81" in far
    for text in (near, far):
        assert "within scales, on the same points, mean \u03c1 = \u22120.80" in text
    axes = {}
    for means in ("kept", "taken off"):
        at = _open("regimes", tiny_store, monkeypatch, provenance="published", means=means)
        spec = json.loads(at.get("plotly_chart")[-1].proto.spec)
        axes[means] = spec["layout"]["xaxis"]["title"]["text"]
    assert axes == {
        "kept": "inner change (log)", "taken off": "inner change over the scale's mean (log)"
    }  # fmt: skip


def test_null_controls_are_used_and_said_to_be_missing_where_there_are_none(
    tiny_store: Path, tmp_path: Path, monkeypatch
):
    with_nulls = _text(_open("regimes", tiny_store, monkeypatch))
    assert "Null controls (all draws of a model, grey in the figure)" in with_nulls
    shutil.copy(tiny_store / "store.duckdb", tmp_path / "store.duckdb")
    with duckdb.connect(str(tmp_path / "store.duckdb")) as store:
        store.execute("DELETE FROM null_layer")
        store.execute("UPDATE meta SET store_id = 'without-nulls'")
    without = _text(_open("regimes", tmp_path, monkeypatch))
    assert "Null controls are not measured yet" in without
    assert "the 95 % points of the null controls" not in without
    assert "the 95 % points of the null controls" in with_nulls


def test_the_confirmation_panel_states_n_and_what_is_missing(tiny_store: Path, monkeypatch):
    text = _text(_open("layers", tiny_store, monkeypatch))
    assert "not defined because" in text  # two corpora have no order
    # two layers have no last 30 %
    assert "late share of this experiment is **not defined because**" in text
    ours = _text(_open("layers", COMMITTED, monkeypatch))
    assert "CKA displacement against reconstruction ratio, \u03c1 = " in ours
    assert "Late share: the last 30 % of layers hold" in ours


def test_the_perplexity_page_puts_the_published_claim_beside_ours(tiny_store: Path, monkeypatch):
    text = _text(_open("perplexity", tiny_store, monkeypatch))
    assert "not defined because** n = 2" in text
    assert "with a null control" in text
    ours = _text(_open("perplexity", COMMITTED, monkeypatch, novel="leaning", null="kept"))
    for said in (text, ours):
        assert "Published, at 70B: \u03c1 = \u22120.80" in said
    line = next(s for s in ours.splitlines() if s.startswith("- novel features, share of alive"))
    assert "n = 7, exact p = " in line
    assert "gemma3-270m" in line  # orders are within a model, so each has its own


def test_a_missing_live_bundle_is_explained(tiny_store: Path, tmp_path: Path, monkeypatch):
    shutil.copy(tiny_store / "store.duckdb", tmp_path / "store.duckdb")
    at = _open("ablation", tmp_path, monkeypatch)
    assert not at.exception
    assert "bundle" in _text(at)
    assert "python -m lib run" in _text(at)


def test_hostile_text_is_shown_as_text(tiny_store: Path, tiny_cache, monkeypatch):
    """The document that holds a script tag appears on the Tokens page, escaped."""
    with duckdb.connect(str(tiny_store / "store.duckdb"), read_only=True) as store:
        row = store.execute(
            "SELECT experiment_id, layer, latent FROM example WHERE document_id = 'script' LIMIT 1"
        ).fetchone()
    assert row is not None, "the hostile document should be an example of some latent"
    experiment, layer, latent = row
    at = _open(
        "features", tiny_store, monkeypatch,
        experiment=experiment, layer=str(layer), latent=str(latent),
    )  # fmt: skip
    assert not at.exception
    html = "\n".join(str(e.value) for e in at.get("html")) + _text(at)
    assert "<script>" not in html
    assert "script" in html
