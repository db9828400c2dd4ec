"""The live lens in the dashboard: what it shows, its address, links, and what it cannot run."""

import re
import time

import duckdb
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lib import paths
from lib.ablation.client import AblationClient
from lib.ablation.looking import LensRequest, look
from lib.ablation.results import ResultStore
from lib.store import SCHEMA_VERSION
from lib.ui import lens_live_tokens as found
from tests.ablation.bundles import PROMPT

PATIENCE = 300


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_PRECOMPUTED", str(bundles))
        client = AblationClient(
            devices=("cpu",), results=ResultStore(tmp_path_factory.mktemp("results"))
        )
        yield client
        client.close()


@pytest.fixture
def page(bundles, client, monkeypatch, tmp_path):
    (tmp_path / "live").symlink_to(bundles / "live")
    with duckdb.connect(str(paths.store_file(tmp_path))) as store:
        store.execute((paths.ROOT / "lib" / "store" / "schema.sql").read_text())
        store.execute(
            "INSERT INTO meta VALUES (?, 'tiny', TIMESTAMP '2026-01-01')", [SCHEMA_VERSION]
        )
        for name in ("both", "bare"):
            store.execute(
                """INSERT INTO experiment (experiment_id, base_model, n_layers, d, corpus, hook,
                rank, steps, seed, provenance)
                VALUES (?, 'tiny-llama', 2, 32, 'stoic_notes', 'mlp', 4, 50, 0, 'measured')""",
                [name],
            )
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setattr("lib.ui.ablation_clients.client", lambda device: client)
    return open_page


def open_page(experiment="both", **parameters):
    def section(experiment_id):
        from lib.ui import lens_live

        lens_live.show(experiment_id)

    page = AppTest.from_function(section, args=(experiment,), default_timeout=PATIENCE)
    for key, value in parameters.items():
        page.query_params[key] = value
    return page.run()


def settled(page, client, view="lens"):
    """The page after the request of this slot has been answered."""
    ticket = page.session_state[f"ablation:slot:{view}"].ticket
    end = time.monotonic() + PATIENCE
    while ticket and not client.progress(ticket).finished:
        assert time.monotonic() < end, client.progress(ticket)
        time.sleep(0.02)
    page.run()
    assert not page.exception
    return page


def press(page, label):
    next(button for button in page.button if button.label == label).click().run()
    assert not page.exception


def everything(page):
    parts = [page.markdown, page.caption, page.info, page.error, page.warning]
    return " ".join(one.value for part in parts for one in part)


def html(page):
    return " ".join(one.proto.body for one in page.get("html"))


def test_a_prompt_is_run_coloured_and_read(page, client, sessions):
    shown = page(prompt=PROMPT, live_scale="0.5", live_k="4")
    assert not shown.exception
    assert "Press Run" in everything(shown)
    press(shown, "Run")
    settled(shown, client)
    request = LensRequest(experiment_id="both", prompt=PROMPT, layer=1, scale_lora=0.5, k=4)
    result = look(request, sessions["both"])
    assert shown.query_params["run"] == request.id
    assert found.verdict(result) in everything(shown)
    most = max(range(len(result.tokens)), key=lambda at: result.tokens[at].relative)
    token = result.tokens[most]
    strip = html(shown)
    assert strip.count("<span") > len(result.tokens)
    assert f"token {most}: |tuned - base| is {token.relative:.0%} of base" in strip
    read = shown.dataframe[0].value
    assert read.columns.tolist() == ["rank", *found.TITLES.values()]
    for name, title in found.TITLES.items():
        wanted = [f"{t.probability:.1%}" for t in getattr(token, name)]
        assert [cell.split()[-1] for cell in read[title]] == wanted
    rows = shown.dataframe[1].value
    assert rows["relative"].tolist() == pytest.approx([100 * t.relative for t in result.tokens])
    assert rows["cosine"].tolist() == pytest.approx([t.cosine for t in result.tokens])


def test_another_token_is_read_at_once_and_patchscope_only_when_asked(page, client, sessions):
    shown = page(prompt=PROMPT, live_token="3")
    press(shown, "Run")
    settled(shown, client)
    result = shown.session_state["ablation:slot:lens"].result
    assert "ablation:slot:lens_scope" in shown.session_state
    assert not shown.session_state["ablation:slot:lens_scope"].asked
    press(shown, "Patchscope of this token")
    settled(shown, client, "lens_scope")
    assert shown.query_params["live_scope"] == "3"
    assert shown.query_params["run"] == result.request.id  # the link still names the prompt's run
    request = LensRequest(experiment_id="both", prompt=PROMPT, layer=1, position=3, patchscope=True)
    scope = look(request, sessions["both"]).scope
    said = shown.dataframe[1].value
    assert said["Patchscope"].tolist() == found.scope(scope.tokens)["Patchscope"].to_list()
    shown.selectbox(key="url:live_token").set_value(5).run()
    assert shown.query_params["live_token"] == "5"
    wanted = found.readings(result.tokens[5])
    assert shown.dataframe[0].value["tuned - base"].tolist() == wanted["tuned - base"].to_list()
    assert "Patchscope" not in shown.dataframe[1].value.columns  # that was another token's


def test_a_link_repeats_run_token_and_patchscope(page, client):
    request = LensRequest(experiment_id="both", prompt="Ask little.", layer=0)
    shown = page(
        prompt="Ask little.", live_layer="0", live_token="2", live_scope="2", run=request.id
    )
    settled(shown, client)
    settled(shown, client, "lens_scope")
    assert shown.session_state["ablation:slot:lens"].result.request == request
    assert shown.session_state["ablation:slot:lens_scope"].result.request.position == 2
    assert len(shown.dataframe) == 3
    shown.slider(key="url:live_layer").set_value(1).run()
    assert "belongs to other settings" in everything(shown)


def test_a_shorter_prompt_drops_the_picked_token_and_a_wrong_link_is_told(page, client):
    shown = page(prompt="A long enough prompt.", live_token="19")
    press(shown, "Run")
    settled(shown, client)
    shown.text_area[0].set_value("short").run()
    press(shown, "Run")
    settled(shown, client)
    assert "live_token" not in shown.query_params
    assert "token to read" not in everything(shown)
    wrong = page(prompt="short", live_token="19")
    press(wrong, "Run")  # answered at once, from the store
    assert "asks for token to read `19`, which is not here" in everything(wrong)


def test_running_anew_says_whether_every_number_is_the_same(page, client):
    shown = page(prompt="Once more.")
    press(shown, "Run")
    settled(shown, client)
    press(shown, "Run it anew")
    settled(shown, client)
    assert "agrees with the stored result bit for bit" in everything(shown)


def test_strength_zero_says_that_nothing_differs(page, client):
    shown = page(prompt="Nothing.", live_scale="0")
    press(shown, "Run")
    settled(shown, client)
    told = everything(shown)
    assert "Nothing differs after layer 1" in told
    assert "there is nothing to read in it" in told
    read = shown.dataframe[0].value
    assert set(read["tuned - base"]) == {""}
    assert (read["base's own stream"] == read["tuned's own stream"]).all()
    scope = next(b for b in shown.button if b.label.startswith("Patchscope"))
    assert scope.disabled


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"prompt": "   "}, "prompt is empty"),
        ({"live_layer": "7"}, "after layer `7`, which is not in 0 to 1; showing 1"),
        ({"live_scale": "nan"}, "strength of the adapter `nan`"),
        ({"live_k": "0"}, "tokens read `0`"),
        ({"live_chat": "maybe"}, "send the prompt `maybe`"),
        ({"run": "`no](such)"}, "which is not stored on this machine"),
    ],
)
def test_bad_addresses_are_explained(page, parameters, told):
    shown = page(**parameters)
    assert not shown.exception
    assert told in everything(shown)


def test_without_a_live_bundle_the_section_says_so_with_the_command(page):
    shown = page(experiment="bare")
    assert not shown.exception
    assert "cannot be run live: no live bundle for 'bare'" in everything(shown)
    assert "python -m lib run FILE.yaml" in shown.code[0].value
    assert not shown.button


def test_a_refusal_is_told_and_markup_stays_text(page, client):
    shown = page(prompt="x" * 257)
    press(shown, "Run")
    settled(shown, client)
    assert "257 tokens, the limit is 256: shorten it" in everything(shown)
    shown = page(prompt="<script>alert(1)</script>", live_chat="yes")
    press(shown, "Run")
    settled(shown, client)
    assert "has no chat template" in everything(shown)
    shown = page(prompt="<script>alert(1)</script>")
    press(shown, "Run")
    settled(shown, client)
    assert "&lt;" in html(shown)
    assert not re.search("<script", html(shown))


def test_the_ablation_page_does_not_list_lens_runs(page, client, monkeypatch):
    request = LensRequest(experiment_id="both", prompt="Listed?", k=1)
    ticket = client.submit(request)
    while not client.progress(ticket).finished:
        time.sleep(0.02)
    listed = AppTest.from_file(str(paths.ROOT / "pages" / "ablation.py"), default_timeout=PATIENCE)
    listed.query_params["view"] = "stored"
    listed.query_params["experiment"] = "both"
    listed.run()
    assert not listed.exception
    assert {about.key.kind for about in client.results.recent(50)} == {"lens"}
    assert "No run is stored yet" in everything(listed)
