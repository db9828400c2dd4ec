"""Null controls of the real pipeline on tiny-llama: what they are, and what they leave behind."""

import json
from pathlib import Path

import duckdb
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from tests.test_pipeline import _run

pytestmark = pytest.mark.slow


def adapters(work: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Of the experiments, and of their controls, both by the experiment's adapter hash."""
    from lib.models import adapter_hash

    real, control = {}, {}
    for file in (work / "finetune").glob("*/manifest.json"):
        inputs = json.loads(file.read_text())["inputs"]
        adapter = file.parent / "adapter"
        if "control" in inputs:
            control[inputs["control"]] = adapter
        else:
            real[adapter_hash(adapter)] = adapter
    return real, control


def products(adapter: Path) -> dict[str, torch.Tensor]:
    """B A of every adapted matrix."""
    weights = load_file(adapter / "adapter_model.safetensors")
    return {
        name: weights[name.replace("lora_A", "lora_B")].double() @ value.double()
        for name, value in weights.items()
        if "lora_A" in name
    }


def test_a_random_adapter_is_as_large_in_every_matrix_and_points_elsewhere(tiny_work: Path):
    real, control = adapters(tiny_work)
    assert len(real) == 2 and real.keys() == control.keys()
    for key, adapter in real.items():
        trained, drawn = products(adapter), products(control[key])
        assert trained.keys() == drawn.keys() and len(trained) > 4
        for name, matrix in trained.items():
            assert float(drawn[name].norm()) == pytest.approx(float(matrix.norm()), rel=2e-3)
            cosine = float((drawn[name] * matrix).sum() / (drawn[name].norm() * matrix.norm()))
            assert abs(cosine) < 0.3


def test_controls_of_two_experiments_share_no_directions(tiny_work: Path):
    _, control = adapters(tiny_work)
    one, two = (products(adapter) for adapter in control.values())
    assert one.keys() == two.keys()
    for name in one:
        cosine = float((one[name] * two[name]).sum() / (one[name].norm() * two[name].norm()))
        assert abs(cosine) < 0.2, name


def test_the_seed_control_finds_no_change_and_the_random_adapter_does(tiny_store: Path):
    with duckdb.connect(str(tiny_store / "store.duckdb"), read_only=True) as db:
        rows = db.execute("SELECT control, ratio, excess_fvu, cka FROM null_layer").fetchall()
        kl = db.execute("SELECT min(kl) FROM null_output").fetchone()[0]
    seeds = [row for row in rows if row[0] == "seed"]
    drawn = [row for row in rows if row[0] == "random_lora"]
    assert len(seeds) == len(drawn) == 4
    assert all(0.9 < ratio < 1.1 and abs(excess) < 0.02 for _, ratio, excess, _ in seeds)
    assert all(cka is None for *_, cka in seeds), "base against base is the same by construction"
    assert all(ratio > 1.1 and 0 < cka < 1 for _, ratio, _, cka in drawn), "its update is not small"
    assert kl > 0


def test_counts_of_controls_are_made_as_those_of_experiments(tiny_store: Path):
    with duckdb.connect(str(tiny_store / "store.duckdb"), read_only=True) as db:
        rows = db.execute(
            "SELECT control, count(*), bool_and(alive > 0), bool_and(strict <= loose), "
            "bool_and(loose <= leaning), bool_and(energy_strict <= energy_loose), "
            "bool_and(fve_difference > 0) FROM latent_count GROUP BY control ORDER BY control"
        ).fetchall()
        counted = db.execute(
            "SELECT count(*) FILTER (class <> 'dead'), "
            "count(*) FILTER (class IN ('new', 'amplified')), "
            "sum(energy) FILTER (class = 'new') FROM latent GROUP BY experiment_id, layer "
            "ORDER BY ALL"
        ).fetchall()
        stored = db.execute(
            "SELECT alive, leaning, energy_loose FROM latent_count WHERE control = 'none' "
            "ORDER BY ALL"
        ).fetchall()
    assert rows == [("none", 4, *[True] * 5), ("random_lora", 4, *[True] * 5)]
    assert [(a, b, pytest.approx(c or 0.0, abs=1e-6)) for a, b, c in counted] == stored


def test_a_base_sae_is_trained_once_per_text(tiny_work: Path):
    """Two experiments: at each of two layers one base SAE, and one of another seed as control."""
    shared = [d for d in (tiny_work / "base_sae").iterdir() if not d.name.startswith(".")]
    assert len(shared) == 8
    for layer in ("000", "001"):
        found = [
            load_file(file)
            for file in (tiny_work / "sparse").glob(f"*/{layer}.sae_base/dictionary.safetensors")
        ]
        assert len(found) == 4, "two experiments and their controls"
        distinct = {one["decoder"].numpy().tobytes() for one in found}
        assert len(distinct) == 2


def test_activations_of_controls_are_gone(tiny_work: Path):
    assert len(list((tiny_work / "activations").iterdir())) == 2


def test_what_a_killed_measurement_left_is_not_counted_twice(
    tiny_store: Path, tiny_work: Path, tiny_config: Path
):
    stage = next((tiny_work / "metrics").iterdir())
    before = {file.name: pl.read_parquet(file) for file in stage.glob("*.parquet")}
    (stage / "manifest.json").unlink()
    done = _run(tiny_config, tiny_store, tiny_work)
    assert done.returncode == 0, done.stderr
    for name, rows in before.items():
        assert len(pl.read_parquet(stage / name)) == len(rows), name
