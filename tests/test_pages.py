"""Every page on a real tiny store made by the real pipeline, and on stores that are not usable."""

import shutil
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

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


def test_the_regimes_page_says_what_its_number_of_points_cannot_support(
    tiny_store: Path, monkeypatch
):
    at = _open("regimes", tiny_store, monkeypatch, provenance="published")
    text = _text(at)
    assert "0.80" in text
    assert "0.33" in text


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
