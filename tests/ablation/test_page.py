"""The page of live ablations on a small real store, with a real worker, and its figure."""

import subprocess
import sys
import time
from dataclasses import replace

import duckdb
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lib import ablation, paths
from lib.ablation import AblationRequest
from lib.ablation.client import AblationClient
from lib.figures.ablation import divergence_from_base, percent
from lib.store import SCHEMA_VERSION
from lib.ui import ablation_result
from tests.ablation.bundles import PROMPT, SKIP

PATIENCE = 300
"""Seconds; a worker starts in about 5, but on a crowded machine it may take a minute."""


def wait(client, ticket, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not client.progress(ticket).finished:
        assert time.monotonic() < end, client.progress(ticket)
        time.sleep(0.01)
    return client.progress(ticket)


@pytest.fixture(scope="module")
def client(bundles):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_PRECOMPUTED", str(bundles))
        client = AblationClient()
        yield client
        client.close()


@pytest.fixture
def page(bundles, client, monkeypatch):
    """The page on a small real store, with the real worker of this module."""
    store = paths.store_file(bundles)
    if not store.exists():
        fill_store(store)
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(bundles))
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setattr("lib.ui.ablation.client", lambda: client)
    page = AppTest.from_file(str(paths.ROOT / "pages" / "ablation.py"), default_timeout=PATIENCE)
    page.query_params["experiment"] = "both"
    return page


def fill_store(file):
    with duckdb.connect(str(file)) as store:
        store.execute((paths.ROOT / "lib" / "store" / "schema.sql").read_text())
        store.execute(
            "INSERT INTO meta VALUES (?, 'tiny', TIMESTAMP '2026-01-01')", [SCHEMA_VERSION]
        )
        for name in ("both", "planted", "bare"):
            store.execute(
                """INSERT INTO experiment (experiment_id, base_model, n_layers, d, corpus, hook,
                rank, steps, seed, provenance)
                VALUES (?, 'tiny-llama', 2, 32, 'stoic_notes', 'mlp', 4, 50, 0, 'measured')""",
                [name],
            )
        store.execute(
            """INSERT INTO dictionary (experiment_id, layer, kind, latents, latents_asked, k,
            train_tokens, heldout_tokens, steps, stopped, fve_difference)
            VALUES ('both', 1, 'crosscoder', 512, 512, 8, 5000, 1000, 10, 'flat', 0.41)"""
        )


def settled(page, client):
    """The page after its request has been answered."""
    if "ablation:ticket" in page.session_state:  # else the answer was quicker than the page
        wait(client, page.session_state["ablation:ticket"])
    return page.run()


def run_button(page):
    return next(button for button in page.button if button.label == "Run")


def everything(page):
    return " ".join(m.value for m in [*page.markdown, *page.caption, *page.info, *page.error])


def test_page_runs_a_clamp_and_tells_what_it_undoes(page, client, run_live):
    page.query_params["prompt"] = PROMPT
    page.run()
    assert not page.exception
    assert "Press Run" in everything(page)
    run_button(page).click().run()
    settled(page, client)
    assert not page.exception
    result = run_live("both", layers=(0, 1), top=8)
    told = everything(page)
    assert ablation_result.verdict(result) in told
    assert "41% at layer 1" in told
    assert "n = " in told
    assert page.query_params["run"] == result.request.id
    table = page.dataframe[0].value
    assert table["rank"].tolist() == list(range(1, 11))
    assert len(page.dataframe[1].value) == 4  # two clamps at two depths


def test_page_address_repeats_the_run(page, client, sessions):
    request = AblationRequest(
        experiment_id="both", prompt="Ask little.", layers=(1,), top=3, picked=((1, 111),),
        strength=0.5, seed=7,
    )  # fmt: skip
    for key, value in {
        "prompt": request.prompt, "depth": "1", "top": "3", "pick": "1.111",
        "strength": "0.5", "seed": "7", "run": request.id,
    }.items():  # fmt: skip
        page.query_params[key] = value
    settled(page.run(), client)
    assert not page.exception
    expected = ablation_result.verdict(ablation.run(request, sessions["both"]))
    assert expected in everything(page)
    page.slider(key="url:top").set_value(
        5
    ).run()  # the address follows, the old result is marked as such
    assert page.query_params["top"] == "5"
    assert "other settings" in everything(page)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"experiment": "bare"}, "no live bundle for 'bare'"),
        ({"prompt": "   "}, "prompt is empty"),
        ({"depth": "none"}, "at least one depth"),
        ({"strength": "much"}, "strength `much`"),
        ({"top": "-3"}, "`-3`"),
        ({"pick": "1.999999"}, "1.999999"),
    ],
)
def test_page_explains_bad_addresses(page, parameters, told):
    for key, value in parameters.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    assert told in everything(page) + " ".join(w.value for w in page.warning)


def test_page_shows_the_worker_s_refusal_and_markup_as_text(page, client):
    page.query_params["prompt"] = "<script>alert(1)</script> " * 30
    page.run()
    run_button(page).click().run()
    settled(page, client)
    assert not page.exception
    assert "780 tokens, the limit is 256: shorten it" in everything(page)
    page.text_area[0].set_value("<script>alert(1)</script>").run()
    run_button(page).click().run()
    settled(page, client)
    strip = " ".join(html.proto.body for html in page.get("html"))
    assert "&lt;" in strip
    assert "<script" not in strip


def test_verdict_says_it_when_nothing_differs(run_live):
    same = run_live("both")
    same = replace(
        same,
        clamped=replace(same.clamped, share_reversed=None),
        control=replace(same.control, share_reversed=None),
    )
    assert "nothing to undo" in ablation_result.verdict(same)


def test_verdict_names_harm_and_percentages_read_well(run_live):
    worse = run_live("both", top=8)
    worse = replace(worse, clamped=replace(worse.clamped, share_reversed=-2.61))
    told = ablation_result.verdict(worse)
    assert "undoes nothing of the output change; it adds to it" in told
    assert "of that ceiling" not in told
    shown = [percent(share) for share in (0.123, 0.0449, -2.61, -0.0001, 1.0)]
    assert shown == ["12 %", "4.5 %", "\u2212261 %", "0 %", "100 %"]


def test_figure_shows_the_four_conditions_with_their_numbers(run_live):
    result = run_live("both", top=8)
    figure = divergence_from_base(result)
    bars = {bar.y[0]: bar.x[0] for bar in figure.data if bar.type == "bar"}
    assert bars == {
        "tuned": result.tuned.kl,
        "clamped": result.clamped.kl,
        "control (1 draw)": result.control.kl,
        "full patch": result.ceiling.kl,
    }
    line = next(d for d in figure.data if d.type == "scatter" and d.name == "clamped")
    assert list(line.y) == list(result.clamped.kl_per_token[SKIP:])
    assert line.x[0] == SKIP  # made at position 4 (BOS = 0), it is of the prompt's token 4
    assert line.customdata[-1] == " (next token)"


def test_dashboard_side_imports_no_torch():
    code = (
        "import sys, lib.ablation.client, lib.figures.ablation, lib.ui.ablation;"
        "print([m for m in ('torch', 'transformers', 'peft', 'nnsight') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
