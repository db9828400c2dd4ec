"""The ablation page on a small real store, with a real worker: every view, addresses, hostile input."""

import re
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
from lib.ablation.client import AblationClient, Progress
from lib.ablation.results import ResultStore
from lib.evidence import causal, sentence
from lib.pipeline.causal_rows import Asked, tables
from lib.pipeline.excerpts import Excerpt
from lib.store import SCHEMA_VERSION
from lib.ui import (
    ablation_address,
    ablation_clients,
    ablation_lists,
    ablation_run,
    ablation_words,
)
from tests.ablation.bundles import PROMPT

PATIENCE = 300
"""Seconds; a worker starts in about 5, but on a crowded machine it may take a minute."""
LINES = (
    "The quiet mind asks for little, and finds it near at hand.",
    "A cart blocks the road; the road was never yours to begin with.",
    "Praise at noon is gone by evening, and so is blame, if you let it.",
)


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_PRECOMPUTED", str(bundles))
        results = ResultStore(tmp_path_factory.mktemp("results"))
        client = AblationClient(devices=("cpu",), results=results)
        yield client
        client.close()


@pytest.fixture
def page(bundles, client, monkeypatch):
    store = paths.store_file(bundles)
    if not store.exists():
        fill_store(store)
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(bundles))
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setattr("lib.ui.ablation_clients.client", lambda device: client)
    return open_page(experiment="both")


def open_page(**parameters):
    page = AppTest.from_file(str(paths.ROOT / "pages" / "ablation.py"), default_timeout=PATIENCE)
    for key, value in parameters.items():
        page.query_params[key] = value
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


def settled(page, client, view):
    """The page after the request of this view has been answered."""
    ticket = page.session_state[f"ablation:slot:{view}"].ticket
    end = time.monotonic() + PATIENCE
    while ticket and not client.progress(ticket).finished:
        assert time.monotonic() < end, client.progress(ticket)
        time.sleep(0.02)
    page.run()
    assert not page.exception
    return page


def press_run(page):
    next(button for button in page.button if button.label == "Run").click().run()
    assert not page.exception


def everything(page):
    parts = [page.markdown, page.caption, page.info, page.error, page.warning]
    return " ".join(one.value for part in parts for one in part)


def pasted(**more):
    return {"experiment": "both", "texts": "pasted", "lines": "\n".join(LINES), "top": "6",
            "draws": "3", "neutral": "1", "tokens": "40", **more}  # fmt: skip


def test_documents_view_runs_the_request_and_tells_the_verdict(page, client, sessions):
    page = open_page(**pasted(dose="strength")).run()
    assert not page.exception
    assert "Press Run" in everything(page)
    press_run(page)
    settled(page, client, "documents")
    asked = page.session_state["ablation:slot:documents"].result.request
    assert asked.documents == LINES
    assert (asked.top, asked.draws, asked.prompt_limit, len(asked.neutral)) == (6, 3, 40, 1)
    assert page.query_params["run"] == asked.id
    result = ablation.run(asked, sessions["both"])
    told = everything(page)
    assert sentence(causal.judge(result)) in told
    assert ablation_words.harm(result) in told
    assert "41% at layer 1" in told
    outcomes, edits = page.dataframe[0].value, page.dataframe[1].value
    treated = outcomes.set_index("run").loc["treated"]
    assert treated["share"] == pytest.approx(100 * result.treated.share_reversed, abs=0.01)
    assert len(edits) == 7 * 2  # treated, ceiling and five controls at two depths
    assert "Dose and response" in told


def test_documents_view_opens_with_the_standard_result(
    page, bundles, run_live, monkeypatch, tmp_path
):
    results = []
    for layers in ((1,), (0, 1)):
        result = run_live(
            "both", documents=LINES, neutral=LINES[:1], layers=layers, top=6, draws=20
        )
        documents, neutral = (
            tuple(Excerpt(f"d{i}", 0, text) for i, text in enumerate(texts))
            for texts in (LINES, LINES[:1])
        )
        results.append((Asked(result.request, documents, neutral), result))
    (tmp_path / "live").symlink_to(bundles / "live")
    fill_store(paths.store_file(tmp_path))
    with duckdb.connect(str(paths.store_file(tmp_path))) as store:
        for name, rows in tables("both", "part", results).items():
            store.register("rows", rows.to_arrow())
            store.execute(f"INSERT INTO {name} BY NAME FROM rows")
            store.unregister("rows")
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    page.run()
    assert not page.exception
    told = everything(page)
    assert (
        "The standard ablation, as the pipeline ran it on 3 held-out documents, 256 tokens of each"
        in told
    )
    assert "Run starts one of your own with the settings above" in told
    assert "the store does not keep these of a draw" in told
    together = sentence(causal.judge(result)).partition("**Clamp")[2][:80]
    assert together in told
    assert len(page.dataframe[1].value) == 7 * 2
    alone = open_page(experiment="both", standard="1").run()
    assert not alone.exception
    assert len(alone.dataframe[1].value) == 7
    (tmp_path / "live").unlink()
    bare = open_page(experiment="both", run="deadbeef").run()
    assert not bare.exception
    told = everything(bare)
    assert together in told
    assert "A run of your own needs a live bundle: no live bundle for 'both'" in told
    assert "keep: full" in told
    assert "Run starts one of your own" not in told
    assert "run `deadbeef`, which is not stored on this machine" in told
    assert not any(button.label == "Run" for button in bare.button)
    none = open_page(experiment="bare").run()
    assert not none.exception
    assert "holds no standard ablation of this experiment either" in everything(none)


@pytest.mark.parametrize("view", ["documents", "prompt", "generate", "shared", "stored"])
def test_an_unknown_run_of_the_address_is_told_for_as_long_as_it_stands_there(page, view):
    page = open_page(view=view, experiment="both", run="deadbeef")
    for _ in range(2):
        page.run()
        assert not page.exception
        assert any("`deadbeef`, which is not stored" in one.value for one in page.warning)
    del page.query_params["run"]
    page.run()
    assert "deadbeef" not in everything(page)


def test_an_opened_link_gives_the_result_without_a_second_run(page, client):
    page = open_page(**pasted()).run()
    press_run(page)
    settled(page, client, "documents")
    run = page.query_params["run"]
    again = open_page(**pasted(run=run)).run()
    settled(again, client, "documents")
    found = [one.session_state["ablation:slot:documents"].result for one in (page, again)]
    assert found[0].seconds == found[1].seconds  # wall times: it did not run twice
    assert "belongs to other settings" not in everything(again)
    other = open_page(experiment="both", run=run).run()  # other settings, the same run
    assert "belongs to other settings" in everything(other)
    assert f"Run `{run}`" in everything(other)


def test_prompt_view_repeats_an_address_and_marks_what_is_old(page, client, sessions):
    request = AblationRequest(
        experiment_id="both", prompt="Ask little.", layers=(1,), top=3, picked=((1, 111),),
        strength=0.5, seed=7, draws=2, controls=("gaussian",),
    )  # fmt: skip
    page = open_page(
        view="prompt", experiment="both", prompt=request.prompt, depth="1", top="3",
        latents="1.111", strength="0.5", seed="7", draws="2", control="gaussian", run=request.id,
    ).run()  # fmt: skip
    settled(page, client, "prompt")
    result = ablation.run(request, sessions["both"])
    assert sentence(causal.judge(result)) in everything(page)
    shown = page.dataframe[0].value
    assert shown["rank"].tolist() == list(range(1, 11))
    assert shown.columns.tolist()[1:5] == ["base", "tuned", "treated", "full patch"]
    page.slider(key="url:top").set_value(5).run()
    assert page.query_params["top"] == "5"
    assert "belongs to other settings" in everything(page)


def outside_popovers(block, inside=False):
    """Warnings that a reader sees without opening anything."""
    found = []
    for child in getattr(block, "children", {}).values():
        if child.type == "warning" and not inside:
            found.append(child.value)
        found += outside_popovers(child, inside or child.type == "popover")
    return found


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"draws": "many"}, "draws of each `many`, which is not in 0 to 1000; showing 20"),
        ({"seed": "-1"}, "seed of the draws `-1`"),
        ({"control": "luck"}, "matched controls `luck`"),
        ({"documents": "0"}, "how many `0`, which is not in 1 to 256; showing 8"),
        ({"tokens": "1e9"}, "tokens read of each `1e9`"),
        ({"neutral": "99"}, "neutral texts for the damage `99`"),
        ({"view": "prompt", "neutral": "99"}, "`99`, which is not in 0 to 6; showing 0"),
        ({"texts": "stored"}, "documents `stored`"),
        ({"timeout": "7"}, "stop it after `7`"),
        ({"view": "generate", "new": "0"}, "new tokens `0`"),
        ({"view": "shared", "tokens": "x"}, "tokens read of each `x`"),
    ],
)
def test_a_wrong_value_of_a_control_in_a_closed_popover_is_told_on_the_page(page, parameters, told):
    page = open_page(**{"experiment": "both", **parameters}).run()
    assert not page.exception
    assert page.get("popover"), "the walk below knows popovers by this name"
    assert any(told in warning for warning in outside_popovers(page.main))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"experiment": "bare"}, "no live bundle for 'bare'"),
        ({"view": "prompt", "prompt": "   "}, "prompt is empty"),
        ({"depth": "none"}, "at least one depth"),
        ({"strength": "much"}, "strength `much`"),
        ({"top": "-3"}, "`-3`"),
        ({"latents": "1.999999"}, "1.999999"),
        ({"latents": "<script>alert(1)</script>"}, "`<script>alert(1)</script"),
        ({"kind": "magic"}, "`magic`"),
        ({"run": "`no](such)"}, "which is not stored on this machine"),
        ({"texts": "pasted"}, "Paste at least one line"),
        ({"view": "generate", "temperature": "nan"}, "`nan`"),
        ({"view": "shared", "layer": "77"}, "`77`"),
        ({}, "no held-out document"),
    ],
)
def test_bad_addresses_are_explained(page, parameters, told):
    page = open_page(**{"experiment": "both", **parameters}).run()
    assert not page.exception
    assert told in everything(page)


def test_a_refused_prompt_is_kept_and_markup_stays_text(page, client):
    long = "<script>alert(1)</script> " * 150
    page = open_page(view="prompt", experiment="both", draws="1").run()
    page.text_area[0].set_value(long).run()
    press_run(page)
    settled(page, client, "prompt")
    assert "3900 tokens, the limit is 256: shorten it" in everything(page)
    assert page.text_area[0].value == long
    assert "prompt" not in page.query_params  # too long for a link, and the page says so
    assert "a copied link does not carry it" in everything(page)
    page.text_area[0].set_value("<script>alert(1)</script>").run()
    press_run(page)
    settled(page, client, "prompt")
    strips = " ".join(html.proto.body for html in page.get("html"))
    assert "&lt;" in strips
    assert "<script" not in strips


def test_after_a_failed_prompt_the_notice_stands_between_the_error_and_the_older_result(
    page, client
):
    page = open_page(view="prompt", experiment="both", prompt=PROMPT, draws="1").run()
    press_run(page)
    settled(page, client, "prompt")
    page.text_area[0].set_value("x" * 300).run()
    press_run(page)
    settled(page, client, "prompt")
    (error,) = page.error
    assert "300 tokens, the limit is 256" in error.value
    order = [
        one.value for one in in_order(page.main) if one.type in ("error", "caption", "markdown")
    ]
    notice = next(i for i, text in enumerate(order) if "belongs to other settings" in text)
    assert "the error is of the settings above" in order[notice]
    assert (
        order.index(error.value)
        < notice
        < order.index("**Where the prediction differs from base**")
    )
    page.text_area[0].set_value(PROMPT + " More.").run()
    assert not page.error  # it is of settings that nobody asks for any more
    assert "Press Run for these" in everything(page)


def in_order(block):
    """Every element, as it stands on the page."""
    for child in getattr(block, "children", {}).values():
        if getattr(child, "children", None):
            yield from in_order(child)
        elif hasattr(child, "value"):
            yield child


class Stopped(AblationClient):
    """A client of one run that was cancelled after it had told some events."""

    def __init__(self, told):
        self.told = told

    def progress(self, ticket):
        return Progress("cancelled", 0, "gaussian", "", 5.0, None)

    def events(self, ticket, after=-1):
        return self.told


def test_a_cancelled_run_leaves_what_it_had_told_marked_as_partial(page, client, sessions):
    request = AblationRequest(
        experiment_id="both", prompt=PROMPT, draws=3, controls=("gaussian",), layers=(1,)
    )
    told = []
    result = ablation.run(request, sessions["both"], tell=lambda **m: told.append(m))
    slot = ablation_run.Slot(experiment_id="both", request=request, asked=request.id, ticket="gone")
    events = [{**one, "number": number} for number, one in enumerate(told[:6])]
    ablation_run._collect(slot, Stopped(events))
    assert (slot.ticket, slot.result) == ("", None)
    assert ablation_run.partial(slot, "both")
    assert not ablation_run.partial(slot, "planted")
    page = open_page(view="prompt", experiment="both")
    page.session_state["ablation:slot:prompt"] = slot
    page.run()
    assert not page.exception
    shown = everything(page)
    assert (
        "cancelled. Below is what it had finished: a partial result, which is not stored" in shown
    )
    assert "Finished: 2 of 3 control draws" in shown
    edits = page.dataframe[0].value
    assert set(edits["run"]) == {"treated", "full patch", "Gaussian noise"}
    assert edits["norm"][0] == pytest.approx(result.treated.edits[0].norm)
    early = replace(slot, ticket="gone")
    ablation_run._collect(early, Stopped(events[:2]))
    assert not ablation_run.partial(early, "both")  # base and tuned alone are nothing to show
    assert early.note == "The run was cancelled."


def test_generate_view_shows_four_lanes(page, client):
    page = open_page(view="generate", experiment="both", prompt=PROMPT, top="4", new="5").run()
    press_run(page)
    settled(page, client, "generate")
    result = page.session_state["ablation:slot:generate"].result
    assert [lane.name for lane in result.lanes] == ["base", "tuned", "clamped", "control"]
    told = everything(page)
    assert "control: random features" in told
    assert f"tuned {result.lanes[1].kl:.3f} nats" in told
    table = page.dataframe[0].value
    first = result.lanes[1].steps[0].next_tokens[0]
    assert table["tuned"][0].endswith(f"{first.probability:.1%}")
    sizes = page.dataframe[1].value
    treated = sizes[sizes["run"] == "treated"]
    assert treated["norm"].tolist() == pytest.approx([e.norm for e in result.lanes[2].edits])
    assert treated["removed"].tolist() == pytest.approx(
        [100 * e.removed for e in result.lanes[2].edits], abs=0.01
    )
    assert set(sizes["run"]) == {"treated", "control: random features"}
    page.slider(key="url:step").set_value(3).run()
    third = result.lanes[1].steps[2].next_tokens[0]
    assert page.dataframe[0].value["tuned"][0].endswith(f"{third.probability:.1%}")


def test_shared_view_gives_the_correlation(page, client):
    page = open_page(**pasted(view="shared", layer="1", count="12")).run()
    press_run(page)
    settled(page, client, "shared")
    result = page.session_state["ablation:slot:shared"].result
    assert len(result.shifts) == 12
    assert f"n = {result.spearman.n} features" in everything(page)
    table = page.dataframe[0].value
    shift = next(s for s in result.shifts if s.latent == table["feature"][0])
    assert (table["base"][0], table["tuned"][0]) == pytest.approx(result.mean_kl(shift))


def test_stored_runs_are_listed_opened_and_replayed(page, client):
    page = open_page(view="prompt", experiment="both", prompt="Ask for less.", draws="1").run()
    press_run(page)
    settled(page, client, "prompt")
    run = page.query_params["run"]
    stored = open_page(view="stored", experiment="both", run=run).run()
    assert not stored.exception
    assert run in stored.dataframe[0].value["id"].tolist()
    next(b for b in stored.button if b.label == "Run it anew").click().run()
    settled(stored, client, "stored")
    assert "agrees with the stored result bit for bit" in everything(stored)
    next(b for b in stored.button if b.label == "Open").click().run()
    assert not stored.exception
    assert stored.query_params["view"] == "prompt"
    assert stored.text_area[0].value == "Ask for less."
    assert f"Run `{run}`" in everything(stored)


UNEVEN = ("Two lines of text,\nof which the second is short.", *LINES[:2])


@pytest.mark.parametrize("uneven", [False, True])
def test_an_opened_documents_run_brings_its_texts_and_settings_back(page, client, uneven):
    """Lines come back as lines; what lines cannot hold comes back as the texts of that run."""
    settings = pasted(dose="strength", control="gaussian", draws="2", seed="5", strength="0.5")
    if uneven:
        settings = {**settings, "texts": "upload"}
    page = open_page(**settings)
    if uneven:
        page.session_state["ablation:upload"] = list(UNEVEN)
    page.run()
    press_run(page)
    settled(page, client, "documents")
    asked = page.session_state["ablation:slot:documents"].result.request
    assert asked.documents == (UNEVEN if uneven else LINES)
    stored = open_page(view="stored", experiment="both", run=asked.id).run()
    next(b for b in stored.button if b.label == "Open").click().run()
    assert not stored.exception
    assert "view" not in stored.query_params
    assert stored.session_state["ablation:slot:documents"].result.request == asked
    told = everything(stored)
    assert f"Run `{asked.id}`" in told
    assert "belongs to other settings" not in told
    if uneven:
        assert "stored" in stored.query_params["texts"]
    else:
        assert "\n".join(LINES) in [area.value for area in stored.text_area]
    press_run(stored)  # the same request again
    settled(stored, client, "documents")
    assert stored.session_state["ablation:slot:documents"].result.request.id == asked.id


def test_one_prompt_measures_the_damage_when_asked(page, client):
    page = open_page(view="prompt", experiment="both", prompt="Ask little.", draws="1").run()
    assert page.number_input(key="url:neutral").value == 0
    page.number_input(key="url:neutral").set_value(1).run()
    assert "1" in page.query_params["neutral"]
    press_run(page)
    settled(page, client, "prompt")
    assert len(page.session_state["ablation:slot:prompt"].result.request.neutral) == 1
    assert "Damage on neutral text" in everything(page)


def test_the_link_of_a_feature_clamps_it_alone(page):
    link = ablation_address.link_to("both", 1, 105)
    page = open_page(view="prompt", **link).run()
    assert not page.exception
    assert page.slider(key="url:top").value == 0
    assert page.session_state["ablation:picked"] == [(1, 105)]
    assert ablation_clients.carries("both", 1, 105)
    assert not ablation_clients.carries("both", 1, 5)
    assert not ablation_clients.carries("bare", 1, 105)


def test_saved_lists_come_back_and_odd_names_are_refused():
    picks = ((1, 105), (0, 100))
    ablation_lists.save("both", "my list", picks)
    assert ablation_lists.names("both") == ["my list"]
    assert ablation_lists.load("both", "my list") == picks
    assert ablation_lists.names("planted") == []
    for name in ("../../etc", "", "a/b", ".hidden", "x" * 61, "dot."):
        with pytest.raises(ablation_lists.ListError, match="cannot name a list"):
            ablation_lists.save("both", name, picks)
    with pytest.raises(ablation_lists.ListError, match="no feature is picked"):
        ablation_lists.save("both", "empty", ())
    (ablation_lists.folder("both") / "my list.json").write_text("[[1, 2, 3]]")
    with pytest.raises(ablation_lists.ListError, match="no list of features"):
        ablation_lists.load("both", "my list")


def test_the_page_imports_no_torch():
    page = (paths.ROOT / "pages" / "ablation.py").read_text()
    names = re.findall(r"\bablation\w*", page.split("VIEWS")[0])
    code = (
        f"import sys; from lib.ui import {', '.join(sorted(set(names)))}, latent;"
        "print([m for m in ('torch', 'transformers', 'peft', 'nnsight') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
