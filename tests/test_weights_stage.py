"""The weights stage: by hand, and on the real adapters of the tiny run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from lib import config, models, pipeline
from lib.__main__ import main
from lib.geometry.factors import Factors
from lib.pipeline.plan import finished
from lib.pipeline.prepare import Prepared, prepare
from lib.pipeline.progress import Progress
from lib.pipeline.stages import StageDue, only_looking
from lib.pipeline.weights import Met, meet, module_rows, overlap_rows, weights_stage
from tests.geometry.planted import save_lora
from tests.tiny import borrow, write_config


def unit(d: int, *places: int) -> torch.Tensor:
    """Rows of the identity."""
    return torch.eye(d, dtype=torch.float64)[list(places)]


def factors(name: str, b: torch.Tensor, a: torch.Tensor, scale: float = 1.0) -> Factors:
    return Factors(name, 0, name, a, b, scale)


def test_norms_shares_and_their_chance_by_hand():
    """Singular values 2 and 1 of an 8 x 4 matrix, and 5 of a 2 x 4: squares 4 + 1 and 25 of 30."""
    b = unit(8, 0, 1).T * torch.tensor([2.0, 1.0])
    wide, small = module_rows(
        [factors("q", b, unit(4, 0, 2)), factors("k", unit(2, 0).T, unit(4, 1), 5.0)]
    )
    assert (wide["spectral"], small["spectral"]) == (2, 5)
    assert (wide["share"], small["share"]) == pytest.approx((5 / 30, 25 / 30))
    assert (wide["chance_share"], small["chance_share"]) == pytest.approx((32 / 40, 8 / 40))
    assert wide["stable_rank"] == pytest.approx(5 / 4)
    assert (wide["outputs"], wide["inputs"], wide["lora_rank"]) == (8, 4, 2)
    assert 1 < wide["chance_stable_rank"] < wide["chance_entropy_rank"] < 2
    assert small["chance_entropy_rank"] == pytest.approx(1)


def test_a_rank_above_the_matrix_has_no_chance_and_stops_nothing():
    (row,) = module_rows([factors("k", torch.ones(2, 3), torch.ones(3, 4))])
    assert "chance_entropy_rank" not in row
    assert row["entropy_rank"] == pytest.approx(1)


def test_overlap_by_hand_of_what_two_adapters_have_in_common():
    """q writes one common direction of two and reads none; k differs in size; o is in one alone."""
    one = [
        factors("q", unit(8, 0, 1).T, unit(4, 0, 1)),
        factors("k", unit(2, 0).T, unit(4, 0)),
        factors("o", unit(4, 0).T, unit(4, 0)),
    ]
    other = [
        factors("q", unit(8, 1, 2).T, unit(4, 2, 3)),
        factors("k", unit(3, 0).T, unit(4, 0)),
    ]
    rows = {row["space"]: row for row in overlap_rows(one, other)}
    assert {row["module"] for row in rows.values()} == {"q"}
    outputs, inputs, update = (rows[name] for name in ("outputs", "inputs", "update"))
    assert (outputs["value"], outputs["chance"]) == pytest.approx((0.5, 2 / 8))
    assert (inputs["value"], inputs["chance"]) == pytest.approx((0, 2 / 4))
    assert outputs["angle"] == pytest.approx(45) and inputs["angle"] == pytest.approx(90)
    assert outputs["distance"] > 0 > inputs["distance"]
    assert (update["value"], update["chance"]) == pytest.approx((0, 0))
    assert (outputs["rank"], outputs["other_rank"]) == (2, 2)
    assert overlap_rows(one[2:], other) == []


Heard = list[str]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    said: Heard = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text))
    return said


@pytest.fixture
def both(tiny_config: Path, tiny_work: Path, tmp_path: Path, monkeypatch) -> list[Prepared]:
    """The two experiments of the tiny run, all their stages done but for this one."""
    work = borrow(tiny_work, tmp_path / "weights", without="weights")
    monkeypatch.setenv("INSIDEOUT_WORK", str(work))
    return [prepare(e, Progress(e.id, quiet=True)) for e in config.load(tiny_config)]


@pytest.fixture
def given(both: list[Prepared]) -> Callable[[Path], Prepared]:
    """The second experiment with another adapter, as one taken from a folder."""

    def make(folder: Path) -> Prepared:
        asked = replace(both[1].experiment, adapter=str(folder))
        return replace(
            both[1], experiment=asked, adapter=folder, adapter_hash=models.adapter_hash(folder)
        )

    return make


def made(prepared: Prepared, met: list[Met]) -> dict[str, pl.DataFrame]:
    stage = weights_stage(prepared, met, Progress(prepared.experiment.id, quiet=True))
    assert stage is not None and stage.done
    return {file.stem: pl.read_parquet(file) for file in stage.directory.glob("*.parquet")}


def test_every_matrix_and_every_earlier_adapter_of_the_tiny_run(both):
    first, second = both
    alone = made(first, [])
    assert set(alone) == {"weight_module"}
    assert alone["weight_module"]["share"].sum() == pytest.approx(1)
    assert alone["weight_module"]["chance_share"].sum() == pytest.approx(1)
    pair = made(second, [meet(first)])["weight_overlap"]
    assert pair.group_by("space").len().sort("space").rows() == [
        ("inputs", 8), ("outputs", 8), ("update", 8)
    ]  # fmt: skip
    assert pair.select("experiment_id", "other_id", "other_adapter", "seed", "other_seed").unique(
    ).rows() == [(second.experiment.id, first.experiment.id, first.adapter_hash, 0, 0)]  # fmt: skip
    score = dict(pair.group_by("space").agg(pl.col("value").mean()).rows())
    assert score["inputs"] > 0.6 > score["outputs"]  # one training seed: A is shared by its start
    gap = pair.with_columns(gap=(pl.col("value") - pl.col("chance")) / pl.col("chance_sd"))
    assert gap["distance"].to_list() == pytest.approx(gap["gap"].to_list())


def test_the_stage_is_made_again_when_either_adapter_changes_and_not_else(both, given, tmp_path):
    first, second = both
    progress = Progress("x", quiet=True)
    before = weights_stage(second, [meet(first)], progress)
    after = [meet(first), meet(second), meet(first)._replace(experiment_id="later")]
    elsewhere = [meet(first)._replace(experiment_id="other base", base="another"), meet(first)]
    for same in (after, elsewhere):
        with only_looking():
            again = weights_stage(second, same, progress)
        assert again is not None and again.key == before.key
    changed = given(save_lora(tmp_path / "changed"))
    for one, met in (
        (second, [meet(changed)._replace(experiment_id="e")]),
        (changed, [meet(first)]),
    ):
        with only_looking(), pytest.raises(StageDue, match="weights"):
            weights_stage(one, met, progress)


def test_adapters_that_fit_in_part_or_not_at_all(both, given, heard, tmp_path):
    part = given(save_lora(tmp_path / "part", targets=("q_proj", "up_proj"), rank=2))
    tables = made(part, [meet(both[0])])
    assert set(tables["weight_overlap"]["kind"]) == {"q"}
    assert set(tables["weight_overlap"].select("rank", "other_rank").rows()) == {(2, 4)}
    assert tables["weight_overlap"]["seed"].to_list() == [None] * 6  # nobody knows it
    assert heard == []
    none = given(save_lora(tmp_path / "none", targets=("up_proj",)))
    assert set(made(none, [meet(both[0])])) == {"weight_module"}
    assert "change no matrix of one name and size" in heard[0]
    assert both[0].experiment.id in heard[0]


def test_what_is_no_plain_lora_says_so_and_stops_nothing(both, given, heard, tmp_path):
    odd = given(save_lora(tmp_path / "dora", use_dora=True))
    assert weights_stage(odd, [meet(both[0])], Progress("x", quiet=True)) is None
    assert len(heard) == 1 and "not the A or B of a plain LoRA" in heard[0]
    with only_looking() as done:  # a second run and a plan know that there is nothing to do
        assert weights_stage(odd, [meet(both[0])], Progress("x", quiet=True)) is None
    assert done == ["weights"]
    first = meet(odd)._replace(experiment_id="odd")
    assert set(made(both[0], [first])) == {"weight_module"}
    assert "not compared with odd" in heard[-1]


def test_an_update_of_zero_is_null_and_not_a_number(both, given, tmp_path):
    zero = given(save_lora(tmp_path / "zero", zero=True))
    tables = made(zero, [meet(both[0])])
    assert tables["weight_module"]["spectral"].to_list() == [0] * 8
    for table, column in (("weight_module", "share"), ("weight_module", "entropy_rank"),
                          ("weight_overlap", "value"), ("weight_overlap", "distance")):  # fmt: skip
        assert tables[table][column].null_count() == len(tables[table]), column


def test_a_plan_knows_which_adapters_were_compared(both):
    met: list[Met] = []
    first, second = both
    made(first, [])
    made(second, [meet(first)])
    assert "weights" in finished(first.experiment, met)
    assert "weights" in finished(second.experiment, met)
    assert [one.experiment_id for one in met] == [first.experiment.id, second.experiment.id]
    assert "weights" not in finished(second.experiment, [])  # alone it has nothing to compare


def test_one_command_hands_adapters_on_from_file_to_file(tmp_path, monkeypatch, capsys):
    files = [write_config(tmp_path / name) for name in ("a", "b") if not (tmp_path / name).mkdir()]
    seen: list[list[str]] = []

    def run(file: Path, out: Path | None, *, met: list[Met], **how: object) -> Path:
        seen.append([one.experiment_id for one in met])
        met.append(Met(file.parent.name, "", file, "", 0))
        return file

    monkeypatch.setattr(pipeline, "run", run)
    assert main(["run", *map(str, files), "--out", str(tmp_path / "out")]) == 0
    assert seen == [[], ["a"]]
