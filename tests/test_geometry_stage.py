"""The geometry stage on the tiny model: scores beside their chance, and what must hold of fits."""

import math
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lib import config
from lib.config import ConfigError, Geometry
from lib.geometry.directions import expected_cosine
from lib.pipeline.geometry import geometry_stage
from lib.pipeline.prepare import prepare
from lib.pipeline.progress import Progress
from tests.tiny import borrow

GEOMETRY = Geometry(ranks=(2, 4), hooks=("residual",), max_steps=40, subspace=3)


@pytest.fixture(scope="module")
def tables(tiny_config: Path, tiny_work: Path, tmp_path_factory) -> dict[str, pl.DataFrame]:
    work = borrow(tiny_work, tmp_path_factory.mktemp("geometry"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_WORK", str(work))
        experiment = config.load(tiny_config)[0]
        asked = replace(experiment, recipe=replace(experiment.recipe, geometry=GEOMETRY))
        prepared = prepare(asked, Progress(asked.id, quiet=True))
        stage = geometry_stage(prepared, Progress(asked.id, quiet=True))
        assert stage is not None and stage.done
        made = sorted(path.name for path in (stage.directory / "base").iterdir())
        assert made == ["residual.0.0", "residual.0.1", "residual.1.0", "residual.1.1"]
        without = replace(asked, recipe=replace(asked.recipe, geometry=Geometry()))
        assert geometry_stage(replace(prepared, experiment=without), Progress("x", True)) is None
        return {f.stem: pl.read_parquet(f) for f in stage.directory.glob("*.parquet")}


def test_every_rank_and_place_is_there(tables):
    places = tables["geometry_place"].select("rank", "hook", "layer").rows()
    assert places == [(r, "residual", layer) for r in (2, 4) for layer in (0, 1)]
    assert tables["geometry_place"]["pretrained"].null_count() == 4  # trained here
    assert (tables["geometry_place"]["delta_norm"] > 0).all()
    assert tables["geometry_place"]["base_norm"].n_unique() == 2  # the base does not know the rank


def test_fits_are_between_nothing_and_everything(tables):
    fits = tables["geometry_fit"]
    span = fits.filter(pl.col("fit") == "span")["fve"]
    assert span.to_list() == pytest.approx([1.0] * 4)  # 128 latents span 32 dimensions
    mean = fits.filter(pl.col("fit") == "mean")["fve"]
    assert (mean.abs() < 0.1).all()
    for (rank, layer), part in fits.group_by("rank", "layer"):
        value = dict(part.select("fit", "fve").rows())
        assert value["adapter_pursuit"] >= value["adapter"], (rank, layer)
        assert value["pca"] > value["mean"]


def test_no_score_stands_without_its_chance(tables):
    scores = tables["geometry_score"]
    assert scores["chance"].null_count() == scores["chance_sd"].null_count() == 0
    assert set(scores["against"]) == {
        "pretrained", "adapter_seeds", "pretrained_seeds", "base_activations",
    }  # fmt: skip
    for row in scores.iter_rows(named=True):
        gap = (row["value"] - row["chance"]) / row["chance_sd"]
        assert row["distance"] == pytest.approx(gap, rel=1e-6)
    cosine = scores.filter(
        (pl.col("score") == "signed_max_cosine") & (pl.col("against") == "pretrained")
    )
    assert cosine["expected"].to_list() == pytest.approx([expected_cosine(128, 32).mean] * 4)


def test_matrices_add_and_write_at_every_rank(tables):
    added, written = tables["geometry_added"], tables["geometry_written"]
    assert added.group_by("rank").len().sort("rank").rows() == [(2, 8), (4, 8)]
    assert (added["relative"] > 0).all() and (added["tokens"] == written["tokens"][0]).all()
    assert written.select("rank", "layer").rows() == [
        (r, layer) for r in (2, 4) for layer in (0, 1)
    ]
    assert (written["direct"] <= 1).all() and (written["size"] > 0).all()


def test_shares_of_the_update_add_up_for_every_rank(tables):
    modules = tables["geometry_module"]
    total = modules.group_by("rank").agg(pl.col("share").sum(), pl.len(), pl.col("lora_rank").max())
    assert sorted(total.rows()) == [(2, pytest.approx(1), 8, 2), (4, pytest.approx(1), 8, 4)]
    assert (modules["entropy_rank"] <= modules["lora_rank"] + 1e-9).all()
    assert (modules["stable_rank"] <= modules["entropy_rank"] + 1e-9).all()
    assert all(math.isfinite(x) for x in modules["chance_entropy_rank"])


@pytest.mark.parametrize(
    ("wrong", "said"), [({"ranks": (4, 4)}, "distinct"), ({"hooks": ()}, "at least one"),
                        ({"subspace": 0}, "subspace")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Geometry(**wrong)
