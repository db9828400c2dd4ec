"""Weights in the store, as figures and as the view of the geometry page."""

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from lib.figures.weights import Quantity, by_module
from lib.figures.weights_between import between
from lib.store import read, weights
from lib.ui import geometry_weights_means as means
from lib.ui import geometry_weights_pairs as pairs_words
from lib.ui import geometry_weights_update as update
from lib.ui.geometry_weights_overlap import SPACES
from lib.ui.geometry_weights_pairs import Asked
from tests.test_read import make

A, A1, B, OTHER = "m.alpha.s0", "m.alpha.s1", "m.beta.s0", "n.alpha.s0"
CORPUS = {A: "alpha", A1: "alpha", B: "beta", OTHER: "alpha"}
KINDS = ("q", "o")
SCRIPT = """
import streamlit as st
from lib.ui import geometry, geometry_weights
geometry_weights.show({name!r}, st.columns({columns}))
st.markdown(geometry.about("weights"))
"""


def modules(name: str) -> list[dict[str, Any]]:
    """Three layers of q and o; the last one holds 2 of 4 parts, o three times as much as q."""
    found = []
    for layer, part in enumerate((1, 1, 2)):
        for kind, times in zip(KINDS, (1, 3), strict=True):
            share = part * times / 16
            found.append({
                "experiment_id": name, "part": "p", "module": f"layers.{layer}.{kind}_proj",
                "layer": layer, "kind": kind, "outputs": 8, "inputs": 8, "lora_rank": 4,
                "spectral": share, "frobenius": share, "entropy_rank": 2.0, "stable_rank": 1.5,
                "share": share, "chance_share": 1 / 6, "chance_entropy_rank": 3.5,
                "chance_stable_rank": 2.5,
            })  # fmt: skip
    return found


def overlaps(one: str, other: str, value: float, adapter: str = "") -> list[dict[str, Any]]:
    seeds = {"seed": int(one[-1]), "other_seed": int(other[-1])}
    angles = {"angle": 90 * (1 - value), "angle_chance": 80.0, "angle_distance": -2.0}
    return [
        {"experiment_id": one, "other_id": other, "other_adapter": adapter or f"hash of {other}",
         **seeds, "module": f"layers.0.{kind}_proj", "layer": 0, "kind": kind, "rank": 4,
         "other_rank": 2, "space": space, "value": value + at / 50, "chance": 0.25,
         "chance_sd": 0.05, "distance": 20 * (value - 0.25),
         **({} if space == "update" else angles)}
        for space in SPACES for at, kind in enumerate(KINDS)
    ]  # fmt: skip


VERDICTS = {
    "share": "lies in the last third",
    "spectral": "The spectral norm of a matrix's update is 0.167 on average",
    "entropy": "On average 2 directions carry a matrix's update of alpha \u00b7 seed 0, by entropy",
    "stable": "The stable rank of a matrix's update is 1.5 on average",
}
PAIRS = [*overlaps(A1, A, 0.75), *overlaps(B, A, 0.5), *overlaps(B, A1, 0.125),
         *overlaps(OTHER, B, 0.9, "made anew since")]  # fmt: skip


def fill(folder: Path, rows: list[dict[str, Any]], *measured: str) -> Path:
    make(folder / "store.duckdb", *(
        f"""INSERT INTO experiment (experiment_id, base_model, n_layers, d, corpus, seed, rank, steps,
            adapter_hash, provenance) VALUES ('{name}', '{name[0]}', 3, 8, '{corpus}', {name[-1]}, 4,
            50, 'hash of {name}', 'measured')"""
        for name, corpus in CORPUS.items()
    ))  # fmt: skip
    tables = {"weight_module": [row for name in measured for row in modules(name)]}
    with duckdb.connect(str(folder / "store.duckdb")) as store:
        for table, found in (tables | {"weight_overlap": rows}).items():
            for row in found:
                store.execute(
                    f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                    list(row.values()),
                )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("weights_page"), PAIRS, A, A1, B)


@pytest.fixture(scope="module")
def store(folder: Path):
    return read.open_store(folder / "store.duckdb")


def test_pairs_are_means_over_matrices_and_know_their_start(store):
    found = weights.pairs(store, "m").filter(space="outputs")
    assert found.schema == weights.PAIRS
    assert found.select("one", "other", "same_start", "same_corpus", "modules").rows() == [
        (A1, A, False, True, 2), (B, A, True, False, 2), (B, A1, False, False, 2)
    ]  # fmt: skip
    assert found["value"].to_list() == pytest.approx([0.76, 0.51, 0.135])


def test_rows_about_an_adapter_made_anew_are_not_shown(store):
    assert weights.pairs(store, "n").is_empty()
    assert weights.pair(store, OTHER, B, "outputs").is_empty()


def test_a_pair_is_the_same_both_ways_round_but_for_the_ranks(store):
    one, other = (weights.pair(store, *ends, "inputs") for ends in ((B, A), (A, B)))
    assert one.schema == weights.PAIR and len(one) == 2
    assert one.drop("rank", "other_rank").equals(other.drop("rank", "other_rank"))
    assert (one["rank"].to_list(), other["rank"].to_list()) == ([4, 4], [2, 2])


def test_modules_of_one_base_and_empty_frames_of_another(store):
    assert weights.modules(store, "m")["experiment_id"].unique(maintain_order=True).to_list() == [
        A, A1, B
    ]  # fmt: skip
    assert weights.modules(store, "n").is_empty()
    assert weights.modules(store, "n").schema == weights.MODULES


def heat(figure) -> Any:
    return next(trace for trace in figure.data if trace.type == "heatmap")


def test_layers_and_kinds_in_order_with_gaps_sums_and_chance():
    rows = pl.DataFrame({
        "layer": [2, 0, 0, None], "kind": ["o", "q", "q", "head"], "value": [0.5, 0.25, 0.125, 0.125],
        "chance": [0.25] * 4, "hover": list("abcd"),
    })  # fmt: skip
    figure = by_module(rows, Quantity("t", "size", over="sum", percent=True))
    cells = heat(figure)
    assert (list(cells.x), list(cells.y)) == (["0", "1", "2", "outside"], ["q", "o", "head"])
    assert [list(row) for row in cells.z] == [
        [37.5, None, None, None], [None, None, 50, None], [None, None, None, 12.5]
    ]  # fmt: skip
    assert cells.customdata[0][0] == "b<br>c" and (cells.zmin, cells.zmax) == (0, 50)
    by_layer, layer_chance, by_kind, kind_chance = figure.data[1:]
    assert (list(by_layer.x), list(by_layer.y)) == (["0", "2", "outside"], [37.5, 50, 12.5])
    assert list(layer_chance.y) == [50, 25, 25]
    assert (list(by_kind.y), list(by_kind.x)) == (["q", "o", "head"], [37.5, 50, 12.5])
    assert list(kind_chance.x) == [50, 25, 25]


def test_means_leave_out_what_is_not_defined():
    rows = pl.DataFrame(
        {"layer": [0, 0, 1], "kind": ["q", "k", "q"], "value": [1.0, None, None],
         "chance": [None] * 3, "hover": ["a"] * 3},
        schema_overrides={"value": pl.Float64, "chance": pl.Float64},
    )  # fmt: skip
    for over, expected in (("mean", [1, None]), ("sum", [1, None])):
        figure = by_module(rows, Quantity("t", "", over=over))
        assert list(figure.data[1].y) == expected
        assert len(figure.data) == 3  # no marks of chance


def test_the_matrix_of_pairs_is_symmetric_and_its_cells_name_their_pair(store):
    labels = {A: "a", A1: "a1", B: "b"}
    found = weights.pairs(store, "m").filter(space="outputs")
    asked = Asked("outputs", "value")
    figure = between(pairs_words.table(found, asked, labels), asked.quantity, (B, A))
    z = [list(row) for row in heat(figure).z]
    assert all(z[i][j] == z[j][i] for i in range(3) for j in range(3))
    assert z[0][0] is None and z[2][0] == pytest.approx(0.51)
    clicks = figure.data[1]
    ends = [list(pair) for pair in clicks.customdata]
    assert len(ends) == 6 and ends[0] == [A, A1]
    assert [(x, y) for x, y, pair in zip(clicks.x, clicks.y, ends, strict=True) if pair == [B, A]] == [
        (0, 2)
    ]  # fmt: skip
    (outline,) = figure.layout.shapes
    assert (outline.x0 + 0.49, outline.y0 + 0.47) == pytest.approx((0, 2))
    assert heat(figure).showscale is not False and heat(figure).zmin == 0
    assert (heat(figure).text[2][0], heat(figure).text[1][0]) == ("0.51 =", "0.76")


def test_the_verdict_keeps_a_common_start_apart(store):
    said = pairs_words.verdict(weights.pairs(store, "m").filter(space="outputs"), "outputs")
    assert (
        "different training seeds overlap in what they write by 0.760 if of one corpus (chance 0.25, "
        "so 3 times that; n = 1 pair) and by 0.135 if of different corpora (chance 0.25, so 0.54 times "
        "that; n = 1 pair)."
    ) in said
    one = weights.pairs(store, "m").filter(space="outputs", same_corpus=False)
    assert "in what they write by 0.135 if of different" in pairs_words.verdict(one, "outputs")
    assert "1 pair of different corpora and of one training seed, so of one start of A: 0.5" in said
    assert "1 pair of one corpus and of other training seeds: 0.7" in said
    alone = weights.pairs(store, "m").filter(space="outputs", same_start=True)
    assert "cannot be told from what text does" in pairs_words.verdict(alone, "outputs")
    unknown = alone.with_columns(same_start=pl.lit(None, pl.Boolean))
    assert "training seeds are not known" in pairs_words.verdict(unknown, "outputs")


def test_the_update_sits_where_it_was_put(store):
    rows = update.with_chance(weights.modules(store, "m"))
    found = update.place(rows.filter(experiment_id=A))
    assert (found.late, found.late_size) == pytest.approx((0.5, 1 / 3))
    assert found.kinds == {"o": pytest.approx((0.75, 0.5)), "q": pytest.approx((0.25, 0.5))}
    said = update.verdict(rows, A, "alpha")
    assert (
        "50 % of the update of alpha lies in the last third of the layers, from layer 2 on" in said
    )
    assert "by size alone 33 %; the other 2 adapters of this model: 50 to 50 %" in said
    assert "2.0 of 4 directions" in said and "random factors: 3.5" in said
    zero = rows.with_columns(share=pl.lit(None, pl.Float64))
    assert "update of alpha is zero" in update.verdict(zero, A, "alpha")


def test_every_other_number_has_a_sentence_with_its_chance(store):
    rows = update.with_chance(weights.modules(store, "m"))
    assert {*means.MEANS, "share"} == set(update.QUANTITIES)
    for name, told in means.MEANS.items():
        choice = update.QUANTITIES[name]
        assert (told.column, told.chance) == (choice.column, choice.chance)
    said = means.sentence(rows, A, "alpha", "spectral")
    assert said.startswith(
        "**The spectral norm of a matrix's update is 0.167 on average over those of alpha** (random "
        "factors of equal Frobenius norm: 0.105, so 1.6 times that; the other 2 adapters of this "
        "model: 0.167 to 0.167). Least in `layers.0.q_proj` with 0.0625 (random 0.0395), most in "
        "`layers.2.o_proj` with 0.375 (random 0.237); n = 6 matrices."
    )
    assert "(random factors: 3.5, so 0.57 times that" in means.sentence(rows, A, "a", "entropy")
    alone = rows.filter(experiment_id=A).with_columns(chance_stable_rank=pl.lit(None, pl.Float64))
    assert "alpha**. Least in `layers" in means.sentence(alone, A, "alpha", "stable")
    zero = rows.with_columns(stable_rank=pl.lit(None, pl.Float64))
    assert "update of alpha is zero" in means.sentence(zero, A, "alpha", "stable")


def page(folder: Path, monkeypatch, name: str, columns: int = 3, **query: str) -> AppTest:
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(folder))
    at = AppTest.from_string(SCRIPT.format(name=name, columns=columns), default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception and not at.error
    return at


def text(at: AppTest) -> str:
    kinds = ("caption", "markdown", "info", "warning", "code")
    return "\n".join(str(e.value) for kind in kinds for e in getattr(at, kind))


@pytest.mark.slow
@pytest.mark.parametrize("shown", list(update.QUANTITIES))
def test_every_number_of_one_adapter_has_figure_verdict_and_table(shown, folder, monkeypatch):
    at = page(folder, monkeypatch, A, weights=shown)
    assert len(at.get("plotly_chart")) == 1 and not at.warning
    assert VERDICTS[shown] in text(at) and "Frobenius share" in text(at)
    assert ("lies in the last third" in text(at)) is (shown == "share")
    assert len(at.dataframe[0].value) == 6


@pytest.mark.slow
@pytest.mark.parametrize("space", list(SPACES))
def test_every_overlap_has_matrix_pair_and_verdict(space, folder, monkeypatch):
    score = {"update_score": "distance"} if space == "update" else {"overlap_score": "angle"}
    at = page(folder, monkeypatch, A, columns=2, weights=space, beside=B, **score)
    assert len(at.get("plotly_chart")) == 2 and not at.warning
    assert "different training seeds overlap in" in text(at) and "start of A" in text(at)
    assert [e.value for e in at.subheader] == [
        "Matrix by matrix: alpha \u00b7 seed 0 and beta \u00b7 seed 0"
    ]
    assert sorted(len(table.value) for table in at.dataframe) == [2, 3]


@pytest.mark.slow
def test_what_was_beside_another_experiment_gives_no_warning_but_nonsense_does(folder, monkeypatch):
    own = page(folder, monkeypatch, A, weights="outputs", beside=A)
    assert not own.warning and "beside" not in own.query_params
    odd = page(folder, monkeypatch, A, weights="outputs", beside="no such thing")
    assert "no such thing" in odd.warning[0].value


@pytest.mark.slow
def test_without_rows_or_pairs_it_says_what_to_do(folder, tmp_path, monkeypatch):
    at = page(folder, monkeypatch, OTHER)
    assert f"no weights of `{OTHER}`" in text(at) and "python -m lib run" in text(at)
    assert not at.get("plotly_chart")
    alone = page(fill(tmp_path, [], A), monkeypatch, A, weights="outputs")
    assert "No pair of this adapter was compared" in text(alone)
    assert not alone.get("plotly_chart")
