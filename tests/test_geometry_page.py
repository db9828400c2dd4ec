"""The Geometry page: its views on small stores, what they say, and the pictures and tests behind it."""

import math
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from lib.figures.geometry import FLOOR, explained
from lib.figures.geometry_ranks import by_rank
from lib.store import geometry as stored
from lib.store import read
from lib.ui import (
    geometry,
    geometry_claims,
    geometry_directions,
    geometry_explained,
    geometry_ranks,
    geometry_words,
)
from lib.ui.geometry_contributions import written_sentence
from tests.test_points_pages import opened
from tests.test_read import make

A, B, C = "m.alpha.s0", "m.beta.s0", "m.gamma.s0"
CORPUS = {A: "alpha", B: "beta", C: "gamma"}
RANKS, LAYERS, HOOKS = (4, 8, 16, 32), (7, 15, 22, 27), ("residual", "mlp")
FITS = {
    "adapter": 0.5, "pca": 0.4, "adapter_pursuit": 0.7, "pretrained_pursuit": 0.5,
    "random_pursuit": 0.3, "subtracted": -4.0, "native": -9.0, "span": 1.0, "mean": -0.01,
}  # fmt: skip
"""Explained at rank 4; two hundredths more at each next rank, but for the last four."""
UNEVEN = (0.30, 0.36, 0.33, 0.31)
"""Density of beta by rank: rho +0.2 within every depth."""


def _place(name: str, hook: str, i: int, j: int) -> dict[str, Any]:
    often = 0.2 + 0.05 * i + 0.02 * j if name == A else UNEVEN[i]
    row = {
        "part": "p" * 16, "tokens": 4000, "train_tokens": 12000, "latents": 256, "k": 8,
        "steps": 60, "stopped": "flat", "delta_norm": 2.0 + i, "base_norm": 10.0,
    }  # fmt: skip
    for measure, value in (("often", often), ("effective", 0.1), ("per_token", 8 / 256)):
        row |= {f"density_{measure}": value, f"density_{measure}_low": value - 0.01,
                f"density_{measure}_high": value + 0.01,
                f"base_density_{measure}": 0.9 - 0.1 * j}  # fmt: skip
    return row


def _fits(i: int) -> list[dict[str, Any]]:
    found = []
    for fit, start in FITS.items():
        value = start + (0.02 * i if fit in geometry_words.FAIR else 0.0)
        found.append({
            "fit": fit, "fve": value, "fve_low": value - 0.03, "fve_high": value + 0.03,
            "energy": value / 2, "energy_low": value / 2 - 0.03, "energy_high": value / 2 + 0.03,
            "active": 8.0, "dimensions": 8 if fit == "pca" else None,
        })  # fmt: skip
    return found


def score(name: str, against: str, value: float, chance: float, sd: float, n: int, **more: Any):
    """A row as ``lib.geometry.distance.from_chance`` makes it with 100 draws."""
    size = (value - chance) / sd
    row = {"score": name, "against": against, "value": value, "chance": chance, "chance_sd": sd,
           "distance": size, "errors": size / math.sqrt(1 / n + 1 / 100), "n": n, "seed": 0,
           "expected": None, "k": None}  # fmt: skip
    return row | more


def _added(rank: int, i: int) -> list[dict[str, Any]]:
    """q and o of two blocks: o adds more than a random update does, q less."""
    return [
        {"rank": rank, "module": f"model.layers.{layer}.self_attn.{kind}_proj", "module_layer": layer,
         "kind": f"{kind}_proj", "tokens": 4000, "relative": value, "relative_low": value - 0.01,
         "relative_high": value + 0.01, "chance": 0.05}
        for layer in (0, 1)
        for kind, value in (("q", 0.04), ("o", 0.1 + 0.02 * layer + 0.01 * i))
    ]  # fmt: skip


def _written(rank: int, i: int) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "layer": layer, "tokens": 4000, "direct": value, "direct_low": value - 0.05,
         "direct_high": value + 0.05, "size": 0.5, "size_low": 0.4, "size_high": 0.6, "moved": -0.125}
        for layer, value in ((0, 0.8), (1, 0.25 + 0.01 * i))
    ]  # fmt: skip


def _scores(name: str, i: int) -> list[dict[str, Any]]:
    cosine = {"pretrained": 0.25 if name == A else 0.201, "adapter_seeds": 0.3 + 0.001 * i,
              "pretrained_seeds": 0.4}  # fmt: skip
    angle = {"pretrained": 70.0, "adapter_seeds": 40.0, "pretrained_seeds": 20.0}
    found = []
    for against in cosine:
        for kind in ("signed_max_cosine", "absolute_max_cosine"):
            found.append(score(kind, against, cosine[against], 0.2, 0.05, 100, expected=0.2))
        found.append(score("angle", against, angle[against] - i, 75.0, 2.0, 1, k=16))
        found.append(score("cosine_squared", against, 0.1, 0.03, 0.01, 1, k=16, seed=None))
    return [*found, score("cka", "base_activations", 0.2, 0.01, 0.01, 1)]


def fill(path: Path, *names: str, spoiled: str = "") -> Path:
    """A store of three experiments of one model; those named have geometry.

    Args:
        spoiled: an experiment whose simulated chance of cosines is related to the rows.
    """
    make(path / "store.duckdb", *(
        f"""INSERT INTO experiment (experiment_id, base_model, n_layers, d, corpus, seed, rank, steps,
            provenance) VALUES ('{name}', 'm', 30, 8, '{corpus}', 0, 16, 50, 'measured')"""
        for name, corpus in CORPUS.items()
    ))  # fmt: skip
    tables = ("place", "fit", "score", "added", "written")
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in tables}
    for name in names:
        for i, rank in enumerate(RANKS):
            rows["added"] += [{"experiment_id": name} | row for row in _added(rank, i)]
            if name == A:
                rows["written"] += [{"experiment_id": name} | row for row in _written(rank, i)]
        for hook in HOOKS:
            for i, rank in enumerate(RANKS):
                for j, layer in enumerate(LAYERS):
                    at = {"experiment_id": name, "rank": rank, "hook": hook, "layer": layer}
                    rows["place"].append(at | _place(name, hook, i, j))
                    rows["fit"] += [at | row for row in _fits(i)]
                    found = _scores(name, i)
                    if name == spoiled:
                        found = [
                            row | {"expected": 0.1} if row["expected"] else row for row in found
                        ]
                    rows["score"] += [at | row for row in found]
    with duckdb.connect(str(path / "store.duckdb")) as store:
        for table, some in rows.items():
            if some:
                frame = pl.DataFrame(some, infer_schema_length=None)
                store.register("rows", frame)
                store.execute(f"INSERT INTO geometry_{table} BY NAME SELECT * FROM rows")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("geometry_page"), A, B)


def page(folder: Path, monkeypatch, **query: str) -> AppTest:
    return opened("geometry", folder, monkeypatch, **query)


def text(at: AppTest) -> str:
    kinds = ("caption", "markdown", "info", "warning", "error", "code")
    return "\n".join(str(e.value) for kind in kinds for e in getattr(at, kind))


SAID = {
    "explained": "At layer 22, residual stream, the adapter SAE explains 50 to 56 % of the variance "
    "of held-out deltas, PCA with as many directions 40 to 46 %",
    "directions": "the adapter's directions are partly new at 4 of 4 ranks",
    "ranks": "rises with rank over these 4 adapters and depth over these 4 depths "
    "(rank: \u03c1 = +1.00, n = 16, exact p = 6e-06",
    "contributions": "Of what the adapter of rank 16 changes in the stream by the end (layer 1), "
    "27 % (95 % 22 to 32 %) was written there by adapted matrices themselves",
    "weights": "The store has no weights of",
}


@pytest.mark.parametrize("view", geometry.VIEWS)
def test_every_view_says_what_was_found(view: str, store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=A, view=view)
    assert not at.error and not at.warning
    assert SAID[view] in text(at)
    assert "How these numbers are defined" in [e.label for e in at.expander]


def test_explained_pairs_what_is_fair(store: Path, monkeypatch):
    said = text(page(store, monkeypatch, experiment=A))
    assert "at rank 32 the SAE 56 %, 95 % 53 to 59 %; n = 4,000 tokens" in said
    assert "The SAE is above PCA at 4 of 4 ranks, intervals apart at 4" in said
    assert "over all places, at 32 of 32 places and ranks, intervals apart at 32" in said
    assert "pretrained above random at 4 of 4 ranks, intervals apart at 4" in said
    assert "subtract" not in said.split("**At layer")[0]
    assert "explains \u2212400 % (below 0: worse" in said
    energy = text(page(store, monkeypatch, experiment=A, measure="energy"))
    assert "25 to 28 % of the sum of squares" in energy


def test_layers_and_hooks_are_in_the_address(store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=A, hook="mlp", layer="7")
    assert "At layer 7, MLP output" in text(at)
    assert not at.warning


def test_beta_adds_new_directions_and_shows_no_trend(store: Path, monkeypatch):
    said = text(page(store, monkeypatch, experiment=B, view="directions"))
    assert (
        "Max cosine, signed, layer 22, residual stream: the adapter's directions are new at 4 of 4"
        in said
    )
    ranks = text(page(store, monkeypatch, experiment=B, view="ranks"))
    assert "beta, **density (firing on > 0.1 % of tokens) shows no trend with rank" in ranks
    assert "(it is the same at every depth)" in ranks
    assert "alpha, **density" in ranks, "corpora stand side by side"


def test_density_per_token_is_said_to_test_nothing(store: Path, monkeypatch):
    said = text(page(store, monkeypatch, experiment=A, view="ranks", density="per_token"))
    assert "can test no claim: by construction it is about k / latents = 3.1 %" in said
    assert "(it is the same at every rank)" in said


def test_an_experiment_without_geometry_says_which_lines_make_it(store: Path, monkeypatch):
    said = text(page(store, monkeypatch, experiment=C))
    assert f"The store has no geometry of `{C}`" in said
    assert f"It has that of `{A}`, `{B}`." in said
    assert "geometry: {ranks: [4, 8, 16, 32]}" in said
    assert "python -m lib plan" in said and "python -m lib run" in said


def test_only_experiments_with_geometry_are_offered(store: Path, monkeypatch):
    at = page(store, monkeypatch)
    (choice,) = [box for box in at.selectbox if box.label == "Experiment"]
    assert choice.options == ["alpha", "beta"]


@pytest.mark.parametrize("names", [(), (C,)])
def test_a_store_without_geometry_has_an_empty_state(names, tmp_path, monkeypatch):
    if names:
        fill(tmp_path)
        said = text(page(tmp_path, monkeypatch, view="explained"))
        assert "The store has no geometry of" in said
        first = page(tmp_path, monkeypatch)
        assert first.get("button_group")[0].value == "weights"
        return
    make(tmp_path / "store.duckdb")
    assert "The store has no experiment yet" in text(page(tmp_path, monkeypatch))


def test_bad_addresses_are_named(store: Path, monkeypatch):
    at = page(store, monkeypatch, view="x", hook="y", layer="99", measure="<b>", experiment="no")
    said = [e.value for e in at.warning]
    assert len(said) == 5
    assert any("asks for layer `99`" in one for one in said)
    assert "At layer 22, residual stream" in text(at)


def test_contributions_stand_beside_what_chance_adds(store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=A, view="contributions", rank="4")
    said = text(at)
    assert "At rank 4 an adapted matrix adds 4 to 12 % of what it gives" in said
    assert "most in o of layer 1 (12 %, 95 % 11 to 13 %)" in said
    assert "q 4 % (5 %), o 11 % (5 %). 2 of 4 matrices add more" in said
    assert "given to other tokens they account for \u221212.5 %" in said
    assert "25 % at rank 4" not in said and "26 % at rank 8" in said


def test_writes_that_do_as_well_at_other_tokens_are_called_constant():
    row = {"rank": 4, "layer": 1, "tokens": 900, "direct": 0.02, "direct_low": 0.01,
           "direct_high": 0.03, "size": 0.06, "size_low": 0.05, "size_high": 0.07}  # fmt: skip
    said = {
        moved: written_sentence(pl.DataFrame([row | {"moved": moved}]), 4)
        for moved in (0.019, 0.005, -0.3)
    }
    assert ["same at every token" in one for one in said.values()] == [True, False, False]
    assert "2 % (95 % 1 to 3 %) was written there" in said[0.019]
    assert "Other ranks" not in said[0.019]


def test_a_model_that_norms_what_it_writes_has_no_direct_share(store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=B, view="contributions")
    assert "through a norm before they add it" in text(at)
    assert len(at.get("plotly_chart")) == 1


def test_a_dictionary_from_a_path_is_named(tmp_path, monkeypatch):
    fill(tmp_path, A)
    with duckdb.connect(str(tmp_path / "store.duckdb")) as changed:
        changed.execute("DELETE FROM geometry_score WHERE against = 'pretrained_seeds'")
        changed.execute("UPDATE geometry_place SET pretrained = 'release/layer_7 `ab12'")
    said = text(page(tmp_path, monkeypatch, experiment=A, view="directions"))
    assert "pretrained dictionary `release/layer_7 \ufffdab12`, read from a path" in said


def test_a_chance_that_is_related_to_the_rows_is_not_read(tmp_path, monkeypatch):
    fill(tmp_path, A, spoiled=A)
    at = page(tmp_path, monkeypatch, experiment=A, view="directions")
    (problem,) = at.warning
    assert "(for example 0.2 against 0.1" in problem.value
    assert "the adapter's directions are unreadable at 4 of 4 ranks" in text(at)


@pytest.mark.slow
def test_the_page_shows_a_real_tiny_run(tiny_config, tiny_work, tmp_path, monkeypatch):
    """Numbers of the pipeline itself, published into a store."""
    from dataclasses import replace

    from lib import config
    from lib.config import Geometry
    from lib.pipeline.geometry import TABLES, geometry_stage
    from lib.pipeline.prepare import prepare
    from lib.pipeline.progress import Progress
    from tests.tiny import borrow

    monkeypatch.setenv("INSIDEOUT_WORK", str(borrow(tiny_work, tmp_path / "work")))
    experiment = config.load(tiny_config)[0]
    asked = Geometry(ranks=(2, 4), hooks=("residual",), max_steps=20, subspace=3)
    named = replace(experiment, recipe=replace(experiment.recipe, geometry=asked))
    stage = geometry_stage(prepare(named, Progress("x", quiet=True)), Progress("x", quiet=True))
    assert stage is not None
    make(tmp_path / "store.duckdb", f"""INSERT INTO experiment (experiment_id, base_model, n_layers,
         corpus, seed, rank, provenance) VALUES ('{named.id}', 't', 2, 'c', 0, 4, 'measured')""", *(
        f"INSERT INTO {table} BY NAME SELECT * FROM '{stage.directory / table}.parquet'"
        for table in TABLES
    ))  # fmt: skip
    fits = pl.read_parquet(stage.directory / "geometry_fit.parquet").filter(layer=1, fit="adapter")
    low, high = (f"{100 * end:.3g}" for end in (fits["fve"].min(), fits["fve"].max()))
    said = text(page(tmp_path, monkeypatch))
    assert f"the adapter SAE explains {low} to {high} % of the variance" in said
    for view in ("directions", "ranks"):
        assert named.id in text(page(tmp_path, monkeypatch, view=view))


# --- what is read ---------------------------------------------------------------------------------


def test_frames_keep_their_columns_where_there_is_nothing(store: Path):
    handle = read.open_store(store / "store.duckdb")
    for query in (stored.places, stored.fits, stored.scores):
        assert query(handle, []).schema == query(handle, [A]).schema
        assert len(query(handle, [])) == 0 < len(query(handle, [A]))
    runs = stored.runs(handle)
    assert runs["experiment_id"].to_list() == [A, B]
    assert runs["ranks"].to_list() == [[4, 8, 16, 32]] * 2
    assert runs["places"].to_list() == [8, 8]


def test_angles_are_turned_round_and_the_band_is_that_of_a_mean(store: Path):
    handle = read.open_store(store / "store.duckdb")
    rows = stored.scores(handle, [A]).filter(rank=4, hook="mlp", layer=7)
    angle = rows.filter(score="angle", against="pretrained").row(0, named=True)
    assert (angle["distance"], angle["nearer"]) == (pytest.approx(-2.5), pytest.approx(2.5))
    cosine = rows.filter(score="signed_max_cosine", against="pretrained").row(0, named=True)
    assert cosine["nearer"] == pytest.approx(1.0)
    assert cosine["null_half"] == pytest.approx(1.96 * math.sqrt(1 / 100 + 1 / 100))
    assert cosine["related"] == pytest.approx(0.0)


def test_what_is_not_defined_is_null(tmp_path):
    fill(tmp_path, A)
    with duckdb.connect(str(tmp_path / "store.duckdb")) as made:
        made.execute(
            "UPDATE geometry_score SET distance = 'nan', errors = 'nan' WHERE score = 'cka'"
        )
    rows = stored.scores(read.open_store(tmp_path / "store.duckdb"), [A]).filter(score="cka")
    assert rows["nearer"].null_count() == rows["null_half"].null_count() == len(rows) > 0
    assert "not defined" in geometry_words.distance_words(rows.row(0, named=True))
    assert geometry_directions.panels(rows) == []


# --- what is said -----------------------------------------------------------------------------------


def grid(values: dict[int, list[float | None]]) -> pl.DataFrame:
    """Layer -> values at ranks 4, 8, 16, 32."""
    return pl.DataFrame(
        [
            {"rank": rank, "layer": layer, "value": value}
            for layer, line in values.items()
            for rank, value in zip(RANKS, line, strict=True)
        ],
        schema_overrides={"value": pl.Float64},
    )


def test_a_trend_by_hand():
    found = geometry_claims.trend(grid({7: [1, 2, 3, 4], 15: [5, 6, 7, 8]}), "rank")
    assert found.within is not None and found.means is not None
    assert (found.within.rho, found.within.n) == (1.0, 8)
    assert found.within.p == pytest.approx(2 / 24**2)  # both lines in order, or both reversed
    assert found.means.p == pytest.approx(2 / 24) == found.means.p_min  # four adapters
    assert found.word == "rises"
    down = geometry_claims.trend(grid({7: [4, 3, 2, 1], 15: [8, 7, 6, 5]}), "rank")
    assert down.word == "falls"


def test_a_trend_of_one_line_up_and_one_down_is_none():
    found = geometry_claims.trend(grid({7: [1, 2, 3, 4], 15: [4, 3, 2, 1]}), "rank")
    assert found.within is not None and found.within.rho == 0.0
    assert (found.word, found.means) == ("shows no trend", None)  # the means are constant


def test_a_trend_is_not_tested_where_it_cannot_be():
    short = geometry_claims.trend(grid({7: [1, 2, 3, 4], 15: [4, 3, 2, 1]}), "layer")
    assert (short.within, short.why) == (None, "a line has 2 values along depth, 3 are needed")
    level = geometry_claims.trend(grid({7: [1, 1, 1, 1]}), "rank")
    assert level.why == "it is the same at every rank"
    nothing = geometry_claims.trend(grid({7: [None, None, None, None]}), "rank")
    assert nothing.word == "is not tested"
    holed = geometry_claims.trend(grid({7: [1, 2, None, 4], 15: [1, 1, 1, 1]}), "rank")
    assert holed.within is not None and holed.within.n == 3, "the constant line is left out"


def test_the_verdict_on_density_by_hand():
    rows = grid({7: [0.1, 0.2, 0.3, 0.4], 15: [0.2, 0.3, 0.4, 0.5]}).with_columns(
        low=pl.col("value") - 0.01, high=pl.col("value") + 0.02, base=pl.lit(0.5)
    )
    said = geometry_claims.density_sentence("density", rows, None)
    assert said.startswith(
        "**density rises with rank over these 4 adapters (within depths \u03c1 = +1.00, n = 8, "
        "exact p = 0.0035) and is "
        "not tested along depth (a line has 2 values along depth, 3 are needed).**"
    )
    assert "over the 4 adapters' means \u03c1 = +1.00, p = 0.083 (at best 0.083)" in said
    assert "At layer 15: 20 % (95 % 19 to 22) at rank 4, 50 % (95 % 49 to 52) at rank 32." in said
    assert "base's own" not in said, "two depths order nothing"


def test_a_density_at_its_ceiling_tests_nothing(tmp_path, monkeypatch):
    full = grid({7: [1.0] * 4, 15: [1.0] * 4}).with_columns(low=1.0, high=1.0, base=0.5)
    assert "it is at its ceiling everywhere" in geometry_claims.density_sentence(
        "density", full, None
    )
    nearly = full.with_columns(value=pl.Series([0.99, *[1.0] * 7]))
    assert "ceiling" not in geometry_claims.density_sentence("density", nearly, None)
    fill(tmp_path, A)
    with duckdb.connect(str(tmp_path / "store.duckdb")) as changed:
        changed.execute("UPDATE geometry_place SET density_often = 1")
    at = page(tmp_path, monkeypatch, experiment=A, view="ranks")
    assert "density (effective, by energy)" in text(at)
    assert "density (firing on > 0.1 % of tokens)" not in text(at)


def test_the_verdict_on_distance_says_what_chance_predicts():
    rows = grid({7: [0.5, 0.1, 0.3, 0.4]}).with_columns(
        null_half=pl.lit(0.2), bare=pl.Series([74.0, 74.5, 73.0, 74.0]), chance=pl.lit(75.0)
    )
    said = geometry_claims.distance_sentence("angle", rows)
    assert said.startswith("**angle: its distance from chance shows no trend with rank")
    assert "Outside the 95 % of chance at 3 of 4 points" in said
    assert "the bare value moves by at most 1.5, its chance level by 0 %." in said


def _three(own: float, seeds: float, **more: float) -> pl.DataFrame:
    both = {"null_half": 0.2, "related": 0.0} | more
    return pl.DataFrame([
        {"against": "pretrained", "nearer": own} | both,
        {"against": "adapter_seeds", "nearer": seeds} | both,
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("own", "seeds", "more", "kind"),
    [
        (0.1, 1.0, {}, "new"), (-0.9, 1.0, {}, "new"), (0.5, 1.0, {}, "partly"),
        (1.0, 1.0, {}, "old"), (0.5, 0.1, {}, "unclear"), (0.5, 1.0, {"related": 9.0}, "related"),
    ],
)  # fmt: skip
def test_three_distances_say_one_thing(own, seeds, more, kind):
    assert geometry_directions.kind(_three(own, seeds, **more)) == kind


def test_without_a_second_seed_nothing_is_called_new():
    rows = _three(0.1, 1.0)
    assert geometry_directions.kind(rows.filter(against="pretrained")) is None
    said = geometry_directions.sentence(
        rows.filter(against="pretrained").with_columns(rank=4), "angle", "here"
    )
    assert "too few directions fire" in said


def test_no_angle_is_said_without_its_chance(store: Path):
    rows = stored.scores(read.open_store(store / "store.duckdb"), [A])
    for row in rows.iter_rows(named=True):
        words = geometry_words.distance_words(row)
        assert words.index("nearer than chance") < words.index("bare") < words.index(", chance ")


# --- what is drawn ----------------------------------------------------------------------------------


def test_far_below_zero_is_an_arrow_with_its_number(store: Path):
    handle = read.open_store(store / "store.duckdb")
    fits = stored.fits(handle, [A]).filter(hook="mlp", layer=7)
    places = stored.places(handle, [A]).filter(hook="mlp", layer=7)
    marks = geometry_explained.marks(fits, "fve", places)
    names = list((geometry_words.FAIR | geometry_words.OTHERS).values())
    figure = explained(marks, names, 5, RANKS, "share")
    arrows = [t for t in figure.data if t.marker.symbol == "triangle-left"]
    assert {x for t in arrows for x in t.x} == {FLOOR}
    notes = {note.text for note in figure.layout.annotations}
    assert notes == {"\u2212400 %", "\u2212900 %"}
    bars = next(t for t in figure.data if t.name == "rank 4")
    assert next(iter(bars.error_x.array)) == pytest.approx(0.03)
    assert len({(t.marker.color, t.marker.symbol) for t in figure.data if t.showlegend}) == 4


def test_directions_have_a_band_of_chance_in_every_panel(store: Path):
    rows = stored.scores(read.open_store(store / "store.duckdb"), [A]).filter(hook="mlp", layer=7)
    panels = geometry_directions.panels(rows)
    assert [p.title for p in panels][3] == "mean principal angle, k = 16"
    from lib.figures.geometry import directions

    figure = directions(panels, RANKS)
    bands = [s for s in figure.layout.shapes if s.type == "rect"]
    assert len(bands) == 5
    assert [s.x1 for s in bands] == [pytest.approx(p.null_half) for p in panels]
    angle = next(m for m in panels[3].marks if (m.rank, m.row) == (4, geometry_directions.ROWS[0]))
    assert angle.value == pytest.approx(2.5)


def test_lines_of_depths_stand_beside_seeds(store: Path):
    handle = read.open_store(store / "store.duckdb")
    places = stored.places(handle, [A]).filter(hook="mlp")
    scores = stored.scores(handle, [A]).filter(hook="mlp", score="angle")
    side = geometry_ranks.side("alpha", places, scores, "often", "angle")
    figure = by_rank([side], ("density", "distance"), bounded=True)
    names = [t.name for t in figure.data]
    bands = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [band.y1 for band in bands] == [pytest.approx(side.null_half)]
    assert names.count("layer 7") == 2 and names[-2:] == list(side.baselines)
    first = figure.data[0]
    assert list(first.y) == [pytest.approx(v) for v in (0.2, 0.25, 0.3, 0.35)]
    assert list(first.error_y.array) == [pytest.approx(0.01)] * 4
    seeds = figure.data[-2]
    assert list(seeds.y) == [pytest.approx((35 + i) / 2) for i in range(4)]
