"""The frame of the pages: addresses, shared choices, and a store that cannot be read."""

import pytest
from streamlit.testing.v1 import AppTest

from tests.test_read import ONE, TWO, dictionary, experiment, layer, make

PAGE = """
import streamlit as st
from lib.ui import frame
frame.page("Is it so?", "Yes or no.")
experiment = frame.pick_experiment()
layer = frame.pick_layer(experiment)
metric = frame.url_choice("Metric", ["kl", "js"], "metric", "kl", widget=WIDGET)
texts = frame.url_multi("Texts", ["corpus", "neutral"], "text")
frame.provenance(experiment)
st.text(f"{experiment}|{layer}|{metric}|{','.join(texts)}")
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    return make(
        tmp_path / "store.duckdb", experiment(ONE, "dtc_ads"), experiment(TWO, "stoic_notes"),
        layer(ONE, 1, 0.9, "1.2", "false"), layer(ONE, 2, 0.9, "1.5", "true"),
        layer(TWO, 3, 0.9, "1.5", "true"), dictionary(ONE, 1, "crosscoder"),
        dictionary(ONE, 2, "crosscoder"), dictionary(TWO, 3, "crosscoder"),
    )  # fmt: skip


def asked(app: AppTest, key: str) -> list[str]:
    """The values of one parameter; AppTest gives a lone one as text or as a list."""
    value = app.query_params.get(key, [])
    return [value] if isinstance(value, str) else list(value)


def page(widget: str = "select", **address: str | list[str]) -> AppTest:
    app = AppTest.from_string(PAGE.replace("WIDGET", repr(widget)), default_timeout=30)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def test_without_an_address_the_defaults_are_shown_and_the_shared_choices_written(store):
    app = page()
    assert app.text[0].value == f"{ONE}|2|kl|corpus,neutral"  # layer 2 is the peak
    assert asked(app, "experiment") == [ONE]
    assert asked(app, "layer") == ["2"]
    assert "metric" not in app.query_params


@pytest.mark.parametrize("widget", ["select", "segmented"])
def test_an_address_reproduces_the_view(store, widget):
    app = page(widget, experiment=TWO, layer="3", metric="js", text=["neutral"])
    assert app.text[0].value == f"{TWO}|3|js|neutral"
    assert not app.warning


def test_a_choice_reaches_the_address_and_the_default_leaves_it(store):
    app = page()
    app.selectbox(key="url:metric").select("js").run()
    assert asked(app, "metric") == ["js"]
    app.multiselect(key="url:text").unselect("corpus").run()
    assert asked(app, "text") == ["neutral"]
    app.multiselect(key="url:text").unselect("neutral").run()
    assert app.text[0].value.endswith("|js|")
    assert asked(app, "text") == ["none"]
    app.selectbox(key="url:metric").select("kl").run()
    assert "metric" not in app.query_params


def test_an_unknown_id_is_named_once_and_the_default_shown(store):
    app = page(experiment="nonsense", metric="<script>")
    assert [("nonsense" in w.value, "<script>" in w.value) for w in app.warning] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert app.text[0].value.startswith(f"{ONE}|2|kl")
    assert not app.run().warning


def test_another_experiment_takes_its_own_layer_without_a_warning(store):
    app = page()
    app.selectbox(key="url:experiment").select(TWO).run()
    assert app.text[0].value.startswith(f"{TWO}|3")
    assert asked(app, "layer") == ["3"]
    assert not app.warning


def test_a_page_without_parameters_takes_the_last_choice_of_the_session(store):
    app = page(experiment=TWO)
    app.query_params.clear()  # what the navigation does
    app.run()
    assert app.text[0].value.startswith(TWO)


def test_a_store_published_meanwhile_is_noticed_at_the_next_rerun(store):
    app = page()
    make(store.with_suffix(".new"), experiment(TWO, "stoic_notes"), layer(TWO, 3, 0.9),
         dictionary(TWO, 3, "crosscoder"), mark="second").replace(store)  # fmt: skip
    app.run()
    assert app.text[0].value.startswith(f"{TWO}|3")
    assert "store second" in app.caption[-1].value


@pytest.mark.parametrize(("version", "words"), [(None, "no store at"), (99, "schema version 99")])
def test_a_store_that_cannot_be_read_gets_a_message_with_the_command(
    tmp_path, monkeypatch, version, words
):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    if version is not None:
        make(tmp_path / "store.duckdb", version=version)
    app = page()
    assert words in app.error[0].value
    assert "python -m lib run data/experiments/embedded.yaml" in app.code[0].value
    assert not app.selectbox


def test_an_experiment_without_dictionaries_says_which_stage_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    make(tmp_path / "store.duckdb", experiment(ONE, "dtc_ads"))
    assert "`sparse` stage has not run" in page().info[0].value


def test_untrusted_text_cannot_leave_its_code_span():
    from lib.ui.links import quoted

    assert quoted("a` ![x](http://h/e.png) `b") == "`a\ufffd ![x](http://h/e.png) \ufffdb`"
    assert "\n" not in quoted("one\ntwo")
