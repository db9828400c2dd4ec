"""Null controls, profiles and novel features of a store: real DuckDB files from schema.sql."""

import pytest

from lib.store import novelty, nulls, read
from tests.test_read import ONE, TWO, experiment, make


def null_layer(layer: int, ratio: str, cka: float, draw: int = 0, control: str = "seed") -> str:
    return f"""INSERT INTO null_layer (experiment_id, control, draw, layer, ratio, cka)
               VALUES ('{ONE}', '{control}', {draw}, {layer}, {ratio}, {cka})"""


COUNTED = """alive, strict, loose, leaning, suppressed, eliminated, unscaled, energy_strict,
             energy_loose, fve_difference"""


def counts(control: str, draw: int, loose: int, energy: float, of: str = ONE) -> str:
    return f"""INSERT INTO latent_count (experiment_id, control, draw, layer, {COUNTED})
               VALUES ('{of}', '{control}', {draw}, 1, 60, 1, {loose}, 8, 2, 1, 1, 0.1, {energy},
                       0.4)"""


def test_null_draws_come_with_their_model_and_as_displacement(tmp_path):
    store = read.open_store(make(
        tmp_path / "store.duckdb", experiment(ONE, "dtc_ads"),
        null_layer(1, "NULL", 0.9), null_layer(0, "1.01", 0.95),
        f"INSERT INTO null_output VALUES ('{ONE}', 'random_lora', 0, 'corpus', 0.03)",
        f"INSERT INTO null_output VALUES ('{ONE}', 'random_lora', 0, 'neutral', 0.04)",
        f"INSERT INTO profile (experiment_id, late_share) VALUES ('{ONE}', 0.4)",
    ))  # fmt: skip
    rows = nulls.null_layers(store)
    assert rows.schema == nulls.NULL_LAYERS
    assert rows["layer"].to_list() == [0, 1]
    assert rows["displacement"].to_list() == pytest.approx([0.05, 0.1])
    assert rows["base_model"].to_list() == ["m", "m"]
    outputs = nulls.null_outputs(store, "corpus")
    assert outputs.schema == nulls.NULL_OUTPUTS
    assert outputs["kl"].to_list() == [0.03]
    assert nulls.profiles(store).select("experiment_id", "late_share").rows() == [(ONE, 0.4)]


def test_a_store_without_controls_has_empty_frames(tmp_path):
    store = read.open_store(make(tmp_path / "store.duckdb", experiment(ONE, "dtc_ads")))
    assert nulls.null_layers(store).schema == nulls.NULL_LAYERS
    assert nulls.null_outputs(store, "corpus").schema == nulls.NULL_OUTPUTS
    assert nulls.profiles(store).is_empty()
    assert novelty.novelty(store).is_empty()


def test_counts_come_with_the_mean_of_their_controls(tmp_path):
    store = read.open_store(make(
        tmp_path / "store.duckdb", experiment(ONE, "dtc_ads"), experiment(TWO, "stoic_notes"),
        counts("none", 0, 5, 0.3), counts("random_lora", 0, 1, 0.02),
        counts("random_lora", 1, 2, 0.04), counts("none", 0, 3, 0.2, of=TWO),
    ))  # fmt: skip
    rows = novelty.novelty(store)
    columns = ("experiment_id", "loose", "energy_loose", "null_draws", "null_loose",
               "null_energy_loose")  # fmt: skip
    assert rows.select(columns).rows() == [
        (ONE, 5, 0.3, 2, 1.5, pytest.approx(0.03)), (TWO, 3, 0.2, 0, None, None)
    ]  # fmt: skip
