"""Paths in the plane on the tiny model: what must hold whatever it learned."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from lib import config, models
from lib.config import ConfigError, Sweep
from lib.corpora import Document
from lib.finetune import Mixed, checkpoint, train_adapter
from lib.pipeline.prepare import prepare
from lib.pipeline.progress import Progress
from lib.pipeline.sweep import sweep_stage
from tests.tiny import borrow

SWEEP = Sweep(
    ranks=(2, 4), checkpoints=(0, 3, 12), scales=(0.0, 0.01, 0.02, 1.0), mixing=(0.0, 1.0), documents=8,
    tokens=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def tables(tiny_config: Path, tiny_work: Path, tmp_path_factory) -> dict[str, pl.DataFrame]:
    work = borrow(tiny_work, tmp_path_factory.mktemp("sweep"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_WORK", str(work))
        experiment = config.load(tiny_config)[0]
        swept = replace(experiment, recipe=replace(experiment.recipe, sweep=SWEEP))
        prepared = prepare(swept, Progress(swept.id, quiet=True))
        stage = sweep_stage(prepared, Progress(swept.id, quiet=True))
        assert stage is not None
        before = stage.manifest()
        again = sweep_stage(prepared, Progress(swept.id, quiet=True))
        assert again is not None and again.manifest() == before
        return {f.stem: pl.read_parquet(f) for f in stage.directory.glob("*.parquet")}


def point(frame: pl.DataFrame, path: str, value: float) -> dict[str, object]:
    found = frame.filter((pl.col("path") == path) & (pl.col("value") == value))
    return found.drop("path", "value").row(0, named=True)


def test_an_adapter_scaled_to_nothing_and_an_untrained_one_move_nothing(tables):
    for path in ("scale", "checkpoint"):
        out = point(tables["sweep_output"], path, 0)
        assert (out["kl"], out["agreement"]) == (0, 1) and out["nll"] == out["nll_base"]
        moved = tables["sweep_layer"].filter((pl.col("path") == path) & (pl.col("value") == 0))
        assert moved["text"].to_list() == ["both", "neutral"] * 2
        assert moved["relative"].to_list() == [0] * 4
        assert moved["displacement"].to_list() == pytest.approx([0] * 4, abs=1e-9)


def test_the_same_adapter_on_three_paths_is_the_same_point(tables):
    """Scale 1, the experiment's own rank and no mixing are one adapter, trained once."""
    points = [("scale", 1.0), ("rank", 4.0), ("mixing", 0.0)]
    for table in ("sweep_output", "sweep_layer"):
        first, *others = (point(tables[table], *at) for at in points)
        assert all(other == first for other in others)
    assert len({point(tables["sweep_point"], *at)["adapter_hash"] for at in points}) == 1
    assert tables["sweep_point"]["adapter_hash"].n_unique() == 5  # own, rank 2, steps 0, 3, mixed


def test_small_scales_follow_the_small_change_law(tables):
    """Oracle 4: KL ~ s^2, relative displacement ~ s."""
    out = [point(tables["sweep_output"], "scale", s)["kl"] for s in (0.01, 0.02)]
    assert out[1] / out[0] == pytest.approx(4, rel=0.1)
    moved = (
        tables["sweep_layer"]
        .filter(pl.col("path") == "scale")
        .pivot("value", index=["text", "layer"], values="relative")
    )
    assert (moved["0.02"] / moved["0.01"]).to_list() == pytest.approx([2] * 4, rel=0.05)


def test_neutral_text_alone_is_a_part_of_all_that_is_read(tables):
    sizes = dict(tables["sweep_layer"].group_by("text").agg(pl.col("tokens").max()).iter_rows())
    read = dict(tables["sweep_output"].group_by("text").agg(pl.col("documents").max()).iter_rows())
    assert 0 < sizes["neutral"] < sizes["both"] and read["neutral"] > 1


def test_a_longer_training_ends_in_the_last_checkpoint(tables):
    """The run of 12 steps is the experiment's own training, so its end is the same point."""
    end = point(tables["sweep_output"], "checkpoint", 12)
    assert end == point(tables["sweep_output"], "scale", 1)


def test_mixing_leaves_the_corpus_order_and_adds_to_every_step(tmp_path: Path):
    """With the same batches of the corpus, a mixture of the corpus with itself has the same gradient
    as the corpus alone; another text has another."""
    documents = [Document(str(i), f"the {i} wise man says {i * i} " * 9) for i in range(6)]
    recipe = config.Finetune(rank=2, steps=2, batch=2, seq=32, dtype="float32")
    records = {}
    for name, mixed in {
        "plain": None,
        "none": Mixed(documents, 0.2),  # rounds to no block
        "same": Mixed(documents, 1.0),
        "other": Mixed([Document("x", "9" * 400)], 1.0),
    }.items():
        loaded = models.load("tiny-llama", device="cpu")
        records[name] = train_adapter(
            loaded, documents, recipe, tmp_path / name / "adapter", seed=3, mixed=mixed,
            checkpoints=(0, 1),
        )  # fmt: skip
    assert records["plain"].losses == records["none"].losses
    assert records["same"].losses == pytest.approx(records["plain"].losses)
    assert records["other"].losses[0] != pytest.approx(records["plain"].losses[0])
    assert records["same"].tokens == 2 * records["plain"].tokens
    first = checkpoint(tmp_path / "plain" / "adapter", 0)
    weights = models.with_adapter(models.load("tiny-llama", device="cpu"), first).model.state_dict()
    assert all(not v.any() for k, v in weights.items() if "lora_B" in k)
    assert (checkpoint(tmp_path / "plain" / "adapter", 1) / "adapter_model.safetensors").exists()
    assert torch.is_tensor(next(iter(weights.values())))


def test_no_path_no_stage_and_only_the_corpora_that_are_named():
    assert not Sweep().asked("stoic_notes")
    assert Sweep(scales=(0.0, 1.0)).asked("stoic_notes")
    assert not Sweep(scales=(0.0, 1.0), corpora=("dtc_ads",)).asked("stoic_notes")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ranks": (0,)}, "ranks"),
        ({"scales": (1.0, 1.0)}, "distinct"),
        ({"mixing": (-1.0,)}, "at least 0"),
        ({"documents": 1}, "at least 2"),
    ],
)
def test_a_path_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Sweep(**wrong)
