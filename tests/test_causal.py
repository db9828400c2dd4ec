"""The standard ablation: what the store holds against the engine, how it resumes, what pages say."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from streamlit.testing.v1 import AppTest

from lib import ablation, config, evidence, paths
from lib.ablation.catalogue import POOL, TOP, offered, slice_file
from lib.ablation.limits import CONTROLS
from lib.ablation.session import open_session
from lib.config import Causal, Recipe, content_id
from lib.corpora import Document
from lib.models import load
from lib.pipeline import causal as stage_code
from lib.pipeline.bundles import bundle_is_current, write_live_bundle
from lib.pipeline.dictionaries import sparse_stage, trained
from lib.pipeline.excerpts import excerpts
from lib.pipeline.prepare import prepare
from lib.pipeline.progress import Progress
from lib.store import causal, handle, newer_tables
from lib.ui import causal as words
from tests.tiny import borrow

BEFORE = "8189edcff9653c76"
"""content_id of the default recipe when there was no standard ablation: hours of committed stages."""


@pytest.fixture
def measured(tiny_work: Path, tiny_config: Path, tmp_path: Path, monkeypatch):
    """The first tiny experiment with its finished stages, on a copy of its causal stage."""
    work = borrow(tiny_work, tmp_path / "copied", without="causal")
    shutil.copytree(tiny_work / "causal", work / "causal")
    monkeypatch.setenv("INSIDEOUT_WORK", str(work))
    experiment = config.load(tiny_config)[0]
    quiet = Progress(experiment.id, quiet=True)
    prepared = prepare(experiment, quiet)
    return prepared, sparse_stage(prepared, quiet), quiet


def folder_of(prepared, sparse, quiet) -> Path:
    stage = stage_code.causal_stage(prepared, sparse, quiet)
    assert stage is not None
    return stage.directory


def test_the_standard_ablation_leaves_every_other_stage_as_it_was():
    assert content_id(Recipe().identity) == BEFORE
    other = Recipe(causal=Causal(documents=3, tokens=9, top=1, draws=2, seed=5))
    assert content_id(other.identity) == BEFORE


def test_the_store_holds_what_the_engine_and_the_evidence_say(measured, tiny_store: Path):
    prepared, sparse, quiet = measured
    directory = folder_of(prepared, sparse, quiet)
    session = open_session(prepared.experiment.id, directory=directory)
    store = handle.open_store(paths.store_file(tiny_store))
    rows = causal.runs(store).filter(experiment_id=prepared.experiment.id)
    asked = stage_code.requests(prepared, session)
    assert rows["layers"].to_list() == [one.layers for one in asked] == ["0", "1", "0,1"]
    for one, row in zip(asked, rows.iter_rows(named=True), strict=True):
        fresh = ablation.run(one.request, session)
        verdict = evidence.judge(fresh)
        assert verdict.share is not None and verdict.ceiling is not None
        assert tuple(row[f"share{end}"] for end in ("", "_low", "_high")) == pytest.approx(
            verdict.share, rel=1e-4
        )
        assert row["ceiling"] == pytest.approx(verdict.ceiling.value, rel=1e-4)
        assert (row["claim"], row["p"]) == (verdict.claim, pytest.approx(verdict.p))
        best = max(verdict.controls, key=lambda c: c.percentile)
        assert row["strongest"] == best.control
        assert row["strongest_share"] == pytest.approx(best.percentile, rel=1e-4, abs=1e-6)
        kept = causal.result(store, prepared.experiment.id, row["layers"])
        assert kept is not None
        same(kept, fresh)
        again = evidence.judge(kept)
        assert again.share == pytest.approx(verdict.share, rel=1e-4)
        assert [c.mean.value for c in again.controls] == pytest.approx(
            [c.mean.value for c in verdict.controls], rel=1e-3, abs=1e-5
        )
        assert again.against == verdict.against
    whole = causal.result(store, prepared.experiment.id)
    assert whole is not None and whole.request.layers == (0, 1)


def same(kept, fresh) -> None:
    """All but texts, random latents and times."""
    texts = {"documents": (), "neutral": (), "prompt": "none"}
    assert replace(kept.request, **texts) == replace(fresh.request, **texts)
    assert kept.selected == fresh.selected
    for name in ("base", "tuned", "treated", "ceiling"):
        close(getattr(kept, name), getattr(fresh, name))
        assert getattr(kept, name).neutral_nll == pytest.approx(getattr(fresh, name).neutral_nll)
    assert [d.control for d in kept.controls] == [name for name in CONTROLS for _ in range(20)]
    for left, right in zip(kept.controls, fresh.controls, strict=True):
        assert (left.control, left.draw) == (right.control, right.draw)
        close(left.condition, right.condition, rounded=6e-4)  # three decimals or more are kept


def close(left, right, rounded: float = 1e-6) -> None:
    sums = [[d.kl_sum for d in one.documents] for one in (left, right)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-4, abs=rounded)
    assert [d.tokens for d in left.documents] == [d.tokens for d in right.documents]
    assert left.agreement == pytest.approx(right.agreement)
    for name in ("norm", "difference_norm", "removed"):
        for kept, made in zip(left.edits, right.edits, strict=True):
            held, value = getattr(kept, name), getattr(made, name)
            assert held == (None if value is None else pytest.approx(value, rel=1e-4, abs=rounded))


def test_texts_are_held_out_and_the_store_knows_only_their_ids(measured, tiny_store: Path):
    prepared, _, _ = measured
    with duckdb.connect(str(paths.store_file(tiny_store)), read_only=True) as db:
        rows = db.execute(
            "SELECT unnest(documents), unnest(neutral) FROM causal_run WHERE experiment_id = ?",
            [prepared.experiment.id],
        ).fetchall()
        splits = dict(db.execute("SELECT document_id, split FROM document").fetchall())
        chat = db.execute(
            "SELECT list_min(starts) FROM causal_run WHERE experiment_id LIKE '%instructions%'"
        ).fetchall()
    used = {name for row in rows for name in row if name is not None}
    assert len(used) == 12
    assert {splits[name] for name in used} == {"heldout"}
    assert all(start > 0 for (start,) in chat), "the template before a response is not read"


def test_the_set_is_chosen_on_training_text_alone(measured):
    """Energies once more, from the training shards: the bundle offers the largest."""
    prepared, sparse, quiet = measured
    directory = folder_of(prepared, sparse, quiet)
    bundle = paths.live_bundle(prepared.experiment.id, directory)
    for layer in prepared.train.manifest.layers:
        crosscoder, _ = trained(sparse, layer, "crosscoder")
        codes = crosscoder.encode(prepared.train.whole(layer).float()).double().numpy()
        change = crosscoder.decoder.double().numpy()
        size = np.square(change[:, 1] - change[:, 0]).sum(1)
        energy = np.square(codes).sum(0) * size
        fires = (codes > 0).sum(0)
        energy[fires < 10] = -1  # dead
        best = np.argsort(-energy, kind="stable")[:24].tolist()
        held = offered(bundle, layer)
        assert held.top == best
        share = dict(zip(held.latents.tolist(), held.frequency.tolist(), strict=True))
        assert [share[j] for j in best] == pytest.approx(fires[best] / len(codes), rel=1e-5)
        assert set(held.role.tolist()) == {TOP, POOL}


def test_a_bundle_is_current_only_with_the_hashes_of_its_own_slices(measured, tmp_path: Path):
    prepared, sparse, quiet = measured
    stage = folder_of(prepared, sparse, quiet)
    key = stage.name
    out = tmp_path / "out"
    shutil.copytree(stage / "live", out / "live")
    bundle = paths.live_bundle(prepared.experiment.id, out)
    assert bundle_is_current(prepared, sparse, out)
    file = bundle / "bundle.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in data.items() if k != "slices"}))
    assert not bundle_is_current(prepared, sparse, out)  # of before there were hashes: made anew
    file.write_text(json.dumps(data))
    first, last = (slice_file(bundle, layer) for layer in (data["layers"][0], data["layers"][-1]))
    shutil.copy(last, first)
    assert not bundle_is_current(prepared, sparse, out)
    latents = stage_code.on_training_text(prepared, sparse)
    write_live_bundle(prepared, sparse, latents, out)
    assert json.loads(file.read_text()) == data  # the same content gives the same hashes
    assert folder_of(prepared, sparse, quiet).name == key


def test_a_killed_stage_runs_only_what_is_missing(measured, monkeypatch):
    prepared, sparse, quiet = measured
    directory = folder_of(prepared, sparse, quiet)
    before = {f.stem: pl.read_parquet(f) for f in directory.glob("*.parquet")}
    assert set(before) == {"causal_run", "causal", "causal_draw"}
    lost = before["causal_run"]["request_id"][1]
    (directory / "manifest.json").unlink()
    (directory / f"{lost}.json").unlink()
    for file in directory.glob("*.parquet"):
        file.unlink()
    ran = []

    def counted(request, session, **more):
        ran.append(request.id)
        return run(request, session, **more)

    run = ablation.run
    monkeypatch.setattr(ablation, "run", counted)
    assert folder_of(prepared, sparse, quiet) == directory
    assert ran == [lost]
    for name, frame in before.items():
        again = pl.read_parquet(directory / f"{name}.parquet")
        if name == "causal_run":
            again, frame = again.drop("seconds"), frame.drop("seconds")
        assert_frame_equal(again, frame, rel_tol=1e-4, abs_tol=1e-6)
        kept_draws = pl.col("layers") != "1"
        assert again.filter(kept_draws).equals(frame.filter(kept_draws))
    assert folder_of(prepared, sparse, quiet) == directory
    assert ran == [lost], "a finished stage runs nothing"


def test_no_documents_means_no_ablation(measured):
    prepared, sparse, quiet = measured
    recipe = replace(prepared.experiment.recipe, causal=Causal(documents=0))
    none = replace(prepared, experiment=replace(prepared.experiment, recipe=recipe))
    assert stage_code.causal_stage(none, sparse, quiet) is None


@pytest.mark.parametrize("field", ["documents", "neutral", "tokens", "top", "draws", "seed"])
def test_impossible_settings_are_refused(field):
    with pytest.raises(config.ConfigError, match=f"`{field}`"):
        Causal(**{field: -1})


def test_excerpts_begin_at_the_start_or_around_a_response():
    tokenizer = load("tiny-llama").tokenizer

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    prompt, answer = "the same words in front of every question " * 4, "and then an answer " * 9
    documents = [Document("short", "a"), Document("plain", "a plain text of some length " * 9)]
    documents += [
        Document("alpaca", prompt + answer, response_start=len(prompt)),
        Document("chat", prompt + answer, responses=((len(prompt), len(prompt + answer)),)),
        Document("early", "Q: " + answer, response_start=3),
    ]
    how = {"count": 9, "tokens": 20, "drop": 4, "seed": 1}
    found = {e.document: e for e in excerpts(documents, tokenizer, **how)}
    assert set(found) == {"plain", "alpaca", "chat", "early"}
    assert (found["plain"].start, found["plain"].text) == (0, documents[1].text)
    assert found["early"].start == 0
    assert found["alpaca"].text == found["chat"].text
    assert (prompt + answer).endswith(found["alpaca"].text)
    before = count(found["alpaca"].text) - count(answer)
    assert before == pytest.approx(10, abs=1)
    assert found["alpaca"].start + count(found["alpaca"].text) == pytest.approx(
        count(prompt + answer), abs=1
    )
    assert excerpts(documents, tokenizer, **how) == excerpts(documents, tokenizer, **how)
    orders = {tuple(e.document for e in excerpts(documents, tokenizer, **{**how, "seed": s}))
              for s in range(9)}  # fmt: skip
    assert len(orders) > 1
    assert len(excerpts(documents, tokenizer, **{**how, "count": 2})) == 2


def page(folder: Path, monkeypatch) -> AppTest:
    import streamlit as st

    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(folder))
    at = AppTest.from_file("../pages/regimes.py", default_timeout=60).run()
    assert not at.exception
    return at


def told(at: AppTest) -> str:
    return "\n".join(str(m.value) for m in at.markdown)


def test_regimes_say_which_points_have_a_causal_link(tiny_store: Path, monkeypatch):
    at = page(tiny_store, monkeypatch)
    rows = words.together(causal.runs(handle.open_store(paths.store_file(tiny_store))))
    supported = rows.filter("claim").height
    assert f"supported in {supported} of 2 measured points" in told(at)
    table = at.dataframe[0].value.set_index("experiment_id")
    for row in rows.iter_rows(named=True):
        state = "supported" if row["claim"] else "not supported"
        assert table.loc[row["experiment_id"], "causal"] == state
        assert table.loc[row["experiment_id"], "causal_share"] == pytest.approx(row["share"])
    spec = json.dumps([json.loads(chart.proto.spec) for chart in at.get("plotly_chart")])
    assert spec.count("causal link supported: clamp undoes") == supported
    assert spec.count(json.dumps(words.MARK)[1:-1]) == supported


def test_regimes_of_a_store_without_the_tables_say_not_measured(
    tiny_store: Path, tmp_path: Path, monkeypatch
):
    file = paths.store_file(tmp_path)
    shutil.copy(paths.store_file(tiny_store), file)
    with duckdb.connect(str(file)) as db:
        for name in newer_tables(3):
            db.execute(f"DROP TABLE {name}")
        db.execute("UPDATE meta SET schema_version = 3")
    at = page(tmp_path, monkeypatch)
    assert "Causal links are not measured yet" in told(at)
    assert set(at.dataframe[0].value["causal"]) == {"not measured"}


def frame(**changes: object) -> pl.DataFrame:
    """One run of table ``runs`` at all depths."""
    row = {
        "experiment_id": "a", "layers": "1,2", "depths": 2, "documents": 10, "tokens": 290,
        "top": 32, "draws": 20, "claim": True, "against": [], "share": 0.2, "share_low": 0.1,
        "share_high": 0.3, "ceiling": 0.5, "over_ceiling": 0.4, "p": 1 / 21,
        "strongest": "gaussian", "strongest_share": 0.03, "agreement_tuned": 0.5,
        "agreement": 0.6, "damage_tuned": 0.1, "damage": 0.2,
    }  # fmt: skip
    return pl.DataFrame([row | changes], schema=causal.RUNS)


def test_a_link_counts_every_training_and_names_single_depths():
    alone = [frame(layers="1", depths=1), frame(layers="2", depths=1, claim=False)]
    runs = pl.concat([frame(), *alone, frame(experiment_id="b", claim=False)])
    found = words.links(runs, {"a": ["a"], "both": ["a", "b"], "b": ["b"], "c": ["c"]})
    assert {point: link.state for point, link in found.items()} == {
        "a": "supported", "both": "not supported", "b": "not supported", "c": "not measured",
    }  # fmt: skip
    assert found["a"].says == (
        "causal link supported: clamp undoes 20 % (95 % 10 % to 30 %), strongest control 3.0 % "
        "(Gaussian noise), p 0.048, 10 documents; alone at layer 1"
    )
    assert found["both"].says == "causal link supported in 1 of 2 trainings"
    points = pl.DataFrame({"experiment_id": ["a", "b", "c"], "name": ["A", "B", "C"],
                           "says": ["x"] * 3})  # fmt: skip
    assert words.marked(points, found)["mark"].to_list() == [f" {words.MARK}", "", ""]
    text = words.said(points, found, runs, [32])
    assert "on 10 held-out documents (32 tokens of each)" in text
    assert "supported in 1 of 2 measured points**, not supported in B, not measured in C" in text
    table = words.columns(runs)
    assert set(words.TABLE) < set(table.columns)
    assert table.filter(experiment_id="a")["causal_alone"].to_list() == ["1"]
    assert table.filter(experiment_id="b")["causal_alone"].to_list() == [None]


def test_a_run_without_any_change_says_so():
    row = frame(share=None, share_low=None, share_high=None, claim=False).row(0, named=True)
    assert words.outcome(row) == "base and tuned predict the same, nothing to undo"


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        (
            {0: (64, 0), 15: (64, 9)},
            "takes every latent at depth 0 .all 64 that fire.*lower `live_l",
        ),
        ({0: (64, 0), 15: (60, 0)}, "at depth 0 .all 64 that fire., 15 .all 60 that fire"),
        ({0: (0, 0), 15: (64, 9)}, "no latent fires at depth 0, so there is nothing to clamp"),
    ],
)
def test_latents_that_leave_no_control_are_told_with_the_remedy(sizes, says):
    assert re.search(says, stage_code._nothing_left(sizes, 64))
