"""Paths in the plane: queries, points, courses, words, and the view on Regimes."""

import json
import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from lib.figures import paths as figure
from lib.figures.axis import Axis
from lib.figures.ground import Cuts
from lib.metrics.paths import Departure, Slope
from lib.store import read, sweep
from lib.ui import paths_caption, paths_claims, paths_points, paths_slopes, paths_timing
from lib.ui.paths_points import MEAN, PEAK, Asked
from tests.test_points_pages import figures, insert, opened, text
from tests.test_read import make
from tests.test_sweep import tables  # noqa: F401

ONE, TWO = "m-1b.dtc_ads.r16.t50.s0", "m-1b.stoic_notes.r16.t50.s0"
STEPS = (0, 5, 10, 50)
INNER = {0: 0.0, 5: 0.02, 10: 0.04, 50: 0.08}
OUTER = {ONE: {0: 0.0, 5: 0.002, 10: 0.2, 50: 0.4}, TWO: {0: 0.0, 5: 0.1, 10: 0.2, 50: 0.4}}


def point(
    name: str,
    path: str,
    value: float,
    inner: float,
    kl: float,
    adapter: str = "other",
    **more: float,
) -> list[str]:
    """One adapter: 2 layers, the inner change of the second twice that of the first."""
    key = {"experiment_id": name, "path": path, "value": value}
    found = [insert("sweep_point", **key, part="p", rank=16, scale=more.get("scale", 1),
                    loss=3.0, adapter_hash=adapter)]  # fmt: skip
    for read_text, part in (("corpus", 1.0), ("neutral", more.get("neutral", 0.5))):
        found.append(insert(
            "sweep_output", **key, text=read_text, documents=16, tokens=1450, kl=kl * part,
            kl_low=0.9 * kl * part, kl_high=1.1 * kl * part, agreement=0.8, agreement_low=0.7,
            agreement_high=0.9, nll=more.get("nll", 3.0), nll_base=3.5,
        ))  # fmt: skip
    for layer, d in enumerate((inner / 2, inner)):
        found += [insert(
            "sweep_layer", **key, text=read_text, layer=layer, tokens=2900, displacement=d,
            displacement_low=0.9 * d, displacement_high=1.1 * d, relative=2 * d,
            relative_low=1.9 * d, relative_high=2.1 * d, offset_share=more.get("offset", 0.2),
        ) for read_text in ("both", "neutral")]  # fmt: skip
    return found


def rows(name: str) -> list[str]:
    corpus = name.split(".")[1]
    found = [
        insert("experiment", experiment_id=name, base_model="m-1b", corpus=corpus, hook="mlp",
               n_parameters=int(1e9), n_layers=2, rank=16, steps=50, seed=0, provenance="measured",
               adapter_hash=f"own-{corpus}"),
        insert("output_metric", experiment_id=name, text="corpus", part="all", n_documents=12,
               n_tokens=3456, kl=0.4, kl_low=0.35, kl_high=0.45),
        insert("null_output", experiment_id=name, control="random_lora", draw=0, text="corpus",
               kl=0.01),
    ]  # fmt: skip
    for layer, cka in enumerate((0.92, 0.9)):
        found += [
            insert("layer_metric", experiment_id=name, layer=layer, depth=layer / 2, hook="mlp",
                   n_tokens=900, cka=cka, cka_low=cka - 0.01, cka_high=cka + 0.01,
                   relative_displacement=0.3),
            insert("null_layer", experiment_id=name, control="random_lora", draw=0, layer=layer,
                   cka=1 - 0.01 * (layer + 1) / 2, relative_displacement=0.02),
        ]  # fmt: skip
    own = f"own-{corpus}"
    for step in STEPS:
        found += point(name, "checkpoint", step, INNER[step], OUTER[name][step])
    if name == ONE:
        for s in (0, 0.25, 0.5, 1, 2):
            found += point(
                name, "scale", s, 0.08 * s**2, 0.4 * s**2, own, scale=s, nll=3.5 - 0.4 * s
            )
        found += point(name, "mixing", 0, 0.08, 0.4, own, nll=3.1)
        found += point(name, "mixing", 1, 0.06, 0.3, neutral=0.1, nll=3.2, offset=0.05)
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("paths")
    make(folder / "store.duckdb", *rows(ONE), *rows(TWO))
    return folder


@pytest.fixture(scope="module")
def frames(store) -> tuple[pl.DataFrame, pl.DataFrame]:
    with read.open_store(store / "store.duckdb") as handle:
        return sweep.outputs(handle), sweep.layers(handle)


@pytest.fixture(autouse=True)
def _fresh_caches():
    import streamlit as st

    st.cache_data.clear()
    st.cache_resource.clear()


def asked(path: str = "checkpoint", layer: str | int = PEAK, key: str = "displacement") -> Asked:
    return Asked(path, key, layer, "corpus")


def traced(frames, cuts: Cuts | None, ask: Asked) -> dict[str, paths_points.Traced]:
    placed = paths_points.placed(*frames, ask)
    found = paths_points.paths(placed, ask.path, {"m-1b": cuts})
    return {one.id: one for one in found}


CUTS = Cuts(0.01, 0.02, "m-1b")


def test_the_frames_have_their_schema_also_where_there_is_no_sweep(frames, tmp_path):
    assert frames[0].schema == sweep.OUTPUTS
    assert frames[1].schema == sweep.LAYERS
    with read.open_store(make(tmp_path / "store.duckdb")) as empty:
        assert sweep.outputs(empty).schema == sweep.OUTPUTS
        assert sweep.layers(empty).schema == sweep.LAYERS
        assert sweep.outputs(empty).is_empty()


def test_own_is_the_own_adapter_at_full_strength(frames):
    own = frames[0].filter("own").select("experiment_id", "path", "value").unique().sort("path")
    assert own.rows() == [(ONE, "mixing", 0.0), (ONE, "scale", 1.0)]
    placed = paths_points.placed(*frames, asked())
    found = paths_points.own_point(placed, ONE)
    assert found is not None and (found["x"], found["y"]) == (0.08, 0.4)
    assert paths_points.own_point(placed, TWO) is None


def test_layers_are_reduced_for_points_and_cuts_alike(frames):
    for layer, x in ((PEAK, 0.08), (MEAN, 0.06), (0, 0.04), (1, 0.08)):
        placed = paths_points.placed(*frames, asked(layer=layer))
        row = placed.filter(experiment_id=ONE, path="checkpoint", value=50).row(0, named=True)
        assert row["x"] == pytest.approx(x)
        assert (row["x_low"], row["x_high"]) == pytest.approx((0.9 * x, 1.1 * x))
        assert row["layer"] == {PEAK: 1, MEAN: None}.get(layer, layer)
    from lib.ui.nulls import Nulls

    drawn = pl.DataFrame({
        "experiment_id": "e", "base_model": "m-1b", "n_layers": 2, "control": "random_lora",
        "draw": 0, "layer": [0, 1], "ratio": None, "ratio_centred": None, "excess_fvu": None,
        "displacement": [0.02, 0.04], "relative_displacement": [0.1, 0.3],
    })  # fmt: skip
    outputs = pl.DataFrame({"base_model": ["m-1b"], "kl": [0.05]})
    axes = pl.DataFrame({"base_model": ["m-1b"], "kl_floor": [0.0]})
    for layer, cut in ((PEAK, 0.04), (MEAN, 0.03), (0, 0.02)):
        found = paths_points.cuts(Nulls(drawn, outputs), "m-1b", axes, asked(layer=layer))
        assert found == Cuts(pytest.approx(cut), 0.05, "m-1b")
        relative = asked(layer=layer, key="moved")
        found = paths_points.cuts(Nulls(drawn, outputs), "m-1b", axes, relative)
        assert found is not None and found.internal == pytest.approx(
            {PEAK: 0.3, MEAN: 0.2, 0: 0.1}[layer]
        )
    assert paths_points.cuts(Nulls(drawn, outputs), "other", axes, asked()) is None


def test_a_delayed_path_and_one_that_rises_together(frames):
    found = traced(frames, CUTS, asked())
    assert found[ONE].course is not None and found[ONE].course == ("inner first", 5, 10)
    assert found[TWO].course == ("together", 5, 5)
    said = paths_claims.course(found[ONE], asked(), "corpus text")
    assert "**delayed**" in said
    assert "high from 5 steps: 0.02 (95\u00a0% 0.018 to 0.022)" in said
    assert "KL on corpus text is high from 10 steps: 0.2" in said
    assert "just before 0.002 (95\u00a0% 0.0018 to 0.0022)" in said
    assert "n = 16 documents, 4 points" in said
    assert "no order" in paths_claims.course(found[TWO], asked(), "corpus text")
    summary = paths_claims.summary(list(found.values()))
    assert summary == "Of two paths: delayed output in 1, no order seen in 1."


def test_the_caption_gives_the_cuts_that_high_is_measured_by(frames):
    some = list(traced(frames, Cuts(0.0125, 0.03, "one"), asked()).values())
    said = paths_caption.caption(some, asked(), [], [], 4)
    assert "here inner 0.0125 and outer 0.03 nats." in said
    two = [some[0], some[1]._replace(cuts=Cuts(None, 0.5, "two"))]
    said = paths_caption.caption(two, asked(), [], [], 4)
    assert "here one inner 0.0125 and outer 0.03 nats, two outer 0.5 nats." in said
    none = list(traced(frames, None, asked()).values())
    assert "Dotted" not in paths_caption.caption(none, asked(), [], [], 4)


def test_an_adapter_that_does_nothing_is_no_earlier_point(frames):
    """At step 0 the output is low whatever follows, so it can delay nothing."""
    courses = {k: t.points["course"].to_list() for k, t in traced(frames, CUTS, asked()).items()}
    assert courses[ONE][-1] == "coupled adaptation, internal first"
    assert courses[TWO][1] == "coupled adaptation"  # only step 0 before
    assert courses[TWO][-1] == "coupled adaptation, early"
    late = {10: (None, True), 50: (False, True)}
    assert paths_points.started([0.0, 10.0, 50.0], [(False, False), *late.values()]) == list(
        late.values()
    )


def test_without_cuts_there_is_no_course_but_the_numbers(frames):
    found = traced(frames, None, asked())[ONE]
    assert found.course is None and found.points["label"].is_null().all()
    said = paths_claims.course(found, asked(), "corpus text")
    assert "no null controls" in said and "0.4" in said
    assert paths_claims.summary([found]) == ""


def test_slopes_of_a_path_that_keeps_the_law(frames):
    for key, law in (("displacement", 2), ("moved", 2)):  # both grow with s^2 in this store
        ask = asked("scale", key=key)
        (found,) = traced(frames, CUTS, ask).values()
        made = paths_slopes.slopes(found.points, ask.column)
        assert [made[name].near.value for name in ("kl", ask.column)] == pytest.approx([2, law])
        assert made["kl"].whole.n == 3 and made["kl"].bend == Departure(None, None, 3)
    relative = made["relative"].bend  # the law of relative displacement is s, so it leaves at once
    assert relative.at == 0.5 and relative.factor == pytest.approx(2)
    table = paths_slopes.table([found], ask)
    assert table["law"].to_list() == [2, 2, 1, 1]
    assert table["over"].to_list()[:2] == ["two smallest", "up to 1"]
    words = paths_slopes.against_law(found, ask, made)
    assert "law 1, left at 0.5 (2 times what the law gives)" in words
    assert "law 2, never left within its intervals" in words
    gone = paths_slopes.slope_words(Slope(None, None, None, 1, "n = 1: a slope needs two"))
    assert gone == "**not defined because** n = 1: a slope needs two"


@pytest.mark.slow
def test_the_remedy_is_held_against_an_adapter_that_learned_as_much(store, monkeypatch):
    said = text(opened("regimes", store, monkeypatch, provenance="paths", path="mixing"))
    assert "KL on neutral text **falls: 0.2 (95\u00a0% 0.18 to 0.22) to 0.03" in said
    assert "offset share 20 to 5\u00a0%" in said
    assert "75\u00a0% of the fall in loss" in said  # 0.4 to 0.3 nats
    # the same loss at scale 0.75: KL halfway between 0.05 and 0.2
    assert "at scale 0.75: KL on neutral text 0.03 mixed against 0.125" in said
    assert "largest CKA displacement 0.06 against 0.05" in said
    assert "Without this path: stoic_notes" in said


def test_paths_time_the_labels_of_the_points(frames):
    """Only checkpoints and ranks below the experiment's own, and not step 0."""
    found = paths_timing.earlier(frames, [CUTS], "displacement", "corpus")
    assert found == {ONE: [(True, False), (True, True)], TWO: [(True, True), (True, True)]}
    outer = paths_timing.earlier(frames, [CUTS], "ratio", "corpus")
    assert outer == {ONE: [(None, False), (None, True)], TWO: [(None, True), (None, True)]}
    assert paths_timing.earlier(frames, [], "ratio", "corpus") == {}
    assert paths_timing.earlier(frames, [CUTS], "ratio", "responses") == {}


@pytest.mark.slow
def test_the_table_of_the_points_says_so(store, monkeypatch):
    at = opened("regimes", store, monkeypatch, inner="displacement", cuts="nulls")
    table = next(f.value for f in at.dataframe if "course" in f.value.columns)
    found = dict(zip(table["corpus"], table["course"], strict=True))
    assert found["dtc_ads"] == "coupled adaptation, internal first"
    assert found["stoic_notes"] == "coupled adaptation, early"


def drawn(**more: object) -> dict[str, object]:
    points = pl.DataFrame({
        "word": ["5 steps", "10 steps", "50 steps"], "experiment_id": ["e"] * 3,
        "x": [0.0, 0.01, 0.1], "x_low": [None, 0.009, 0.09], "x_high": [None, 0.011, 0.11],
        "y": [0.0, 0.02, 0.2], "y_low": [None, 0.01, 0.1], "y_high": [None, 0.03, 0.3],
        "says": ["low"] * 3,
    })  # fmt: skip
    line = figure.Line("dtc_ads", "dtc_ads", points, **more)
    x, y = Axis.over("x", [0.009, 0.11]), Axis.over("y", [0.01, 0.3])
    return json.loads(figure.paths([line], x, y, [CUTS]).to_json())


def test_a_line_has_growing_markers_and_words_at_its_ends_only():
    (line,) = drawn()["data"]
    assert line["x"] == [0.01, 0.1]  # 0 is on no logarithmic axis
    assert [word.strip("\u00a0") for word in line["text"]] == ["10 steps", "dtc_ads, 50 steps"]
    assert line["marker"]["size"] == [6, 14]
    assert line["error_y"]["array"] == pytest.approx([0.01, 0.1])
    assert line["customdata"][0][0] == "e"


def test_the_own_point_has_a_ring_and_a_scale_path_its_law():
    law, _, ring = drawn(own=(0.05, 0.1), law=(0.01, 0.02, 1.0))["data"]
    assert ring["x"] == [0.05] and ring["marker"]["symbol"] == "circle-open"
    assert law["line"]["dash"] == "dash"
    assert law["y"][-1] / law["y"][0] == pytest.approx(law["x"][-1] / law["x"][0])
    assert law["x"][-1] == pytest.approx(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["checkpoint", "scale", "mixing"])
@pytest.mark.parametrize(("inner", "layer"), [("displacement", "mean"), ("moved", "1")])
def test_every_path_draws(path, inner, layer, store, monkeypatch):
    query = {"path": path, "path-inner": inner, "path-layer": layer}
    at = opened("regimes", store, monkeypatch, provenance="paths", **query)
    assert figures(at)[0]["data"]
    assert not at.warning
    assert "How these numbers" in str([e.label for e in at.expander])


@pytest.mark.slow
def test_without_a_sweep_the_page_says_which_lines_make_one(tiny_store: Path, monkeypatch):
    at = opened("regimes", tiny_store, monkeypatch, provenance="paths")
    assert not at.get("plotly_chart")
    said = text(at)
    assert "python -m lib plan" in said
    assert "A path is one experiment again with one thing varied" in said
    assert "`corpora: [...]` inside `sweep` limits it to some corpora" in said
    assert "to open it" not in said
    assert any("ranks: [4, 8, 16, 32]" in block.value for block in at.code)


def test_the_lines_that_the_page_gives_are_valid(tmp_path):
    from lib import config
    from lib.ui.paths import _LINES

    file = tmp_path / "x.yaml"
    file.write_text(f"models: [tiny-llama]\ncorpora: [stoic_notes]\n{_LINES}")
    (experiment,) = config.load(file)
    assert experiment.recipe.sweep.ranks == (4, 8, 16, 32)
    assert experiment.recipe.sweep.asked("stoic_notes")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["rank", "checkpoint", "scale", "mixing"])
def test_the_view_on_a_real_sweep(path, tables, tiny_store, tmp_path, monkeypatch):  # noqa: F811
    """What the pipeline's stage wrote for tiny-llama, in its own store."""
    shutil.copy(tiny_store / "store.duckdb", tmp_path / "store.duckdb")
    with duckdb.connect(str(tmp_path / "store.duckdb")) as handle:
        for name in ("sweep_point", "sweep_output", "sweep_layer"):
            frame = tables[name]
            handle.register("frame", frame.to_arrow())
            columns = ", ".join(frame.columns)
            handle.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM frame")
        handle.execute("UPDATE meta SET store_id = 'with-a-sweep'")
    at: AppTest = opened("regimes", tmp_path, monkeypatch, provenance="paths", path=path)
    (drawn_now,) = figures(at)
    rings = [t for t in drawn_now["data"] if t.get("marker", {}).get("symbol") == "circle-open"]
    assert len(rings) == 1  # the experiment's own adapter is found by its hash
    said = text(at)
    documents = tables["sweep_output"].filter(text="corpus")["documents"].max()
    assert f"n = {documents} documents" in said
    if path == "scale":
        assert "law 2" in said
    if path == "mixing":
        assert "0 to 1 parts of neutral text" in said
