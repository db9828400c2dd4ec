"""Benchmarks do not rot: every section runs in its smallest form, and what it rests on is right."""

import importlib
import math

import pytest
import torch

from lib.sparse import Dictionary
from tests.benchmarks import engine, exclusive, loader, real, report, run
from tests.benchmarks.world import Planted, World, draw


@pytest.mark.parametrize("name", run.SECTIONS)
def test_every_section_runs_and_fills_its_tables(name):
    section = importlib.import_module(f"tests.benchmarks.{name}").measure(
        report.Options(quick=True, threads=1)
    )
    assert section.title
    assert "nan" not in section.claim
    for lines in section.tables:
        assert len(lines) >= 3, "a head, a rule and at least one row"
        assert len({line.count("|") for line in lines}) == 1
    assert section.title in report.render(section)


def test_measuring_a_section_again_replaces_that_one_only(tmp_path):
    file, order = tmp_path / "RESULTS.md", ("one", "two", "three")
    report.merge(file, "two", "old two\n", order)
    report.merge(file, "one", "the one\n", order)
    report.merge(file, "two", "new two\n", order)
    text = file.read_text(encoding="utf-8")
    assert text.count("# Benchmarks") == 1
    assert "old two" not in text
    assert text.index("the one") < text.index("new two")


def test_a_table_is_markdown():
    lines = report.table(["name", "value"], [["a", "1"]])
    assert lines == ["| name | value |", "| --- | ---: |", "| a | 1 |"]


def test_unknown_sections_and_half_given_harvests_are_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["nothing"])
    assert "no section nothing; there are engine" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.main(["objectives", "--layer", "3"])
    assert "--harvest and --layer go together" in capsys.readouterr().err


def unit(side: int, axis: int) -> Dictionary:
    """One latent on one side and axis, one on both sides of axis 3; codes are the coordinates."""
    made = Dictionary(sides=2, d=4, latents=2, k=1)
    made.encoder[side, axis, 0] = made.decoder[0, side, axis] = 1.0
    made.encoder[:, 3, 1], made.decoder[1, :, 3] = 0.5, 1.0
    return made


@pytest.mark.parametrize("side", [0, 1])
def test_an_exclusive_latent_is_called_for_its_side_and_a_shared_one_is_not(side):
    made = unit(side, axis=1)
    x = torch.zeros(40, 2, 4)
    x[::2, side, 1] = 1.0
    x[1::2, :, 3] = 2.0
    for called in exclusive.call(made, x):
        assert called[side].tolist() == [True, False]
        assert not called[1 - side].any()
    planted = torch.zeros(2, 1, 4)
    planted[side, 0, 1] = 1.0
    found = exclusive.scores(made, x, planted)
    planted_elsewhere = exclusive.scores(made, x, planted.flip(0))
    assert [(int(s.found.sum()), s.right, s.called) for s in found] == [(1, 1, 1)] * 3
    assert [(int(s.found.sum()), s.right, s.called) for s in planted_elsewhere] == [(0, 0, 1)] * 3
    assert exclusive.rates(found) == (0.5, 1.0), "planted on either side, found on one"


def test_scaling_refuses_what_the_base_holds_too():
    """By norms new; but the base's unexplained rest holds the same direction."""
    made = unit(1, axis=1)
    x = torch.zeros(40, 2, 4)
    x[::2, :, 1] = 1.0
    norms, both, scaling = exclusive.call(made, x)
    assert norms[1].tolist() == [True, False]
    assert not both.any()
    assert not scaling.any()


def test_rates_of_nothing_are_unknown():
    nothing = exclusive.Score(torch.zeros(2, 0, dtype=torch.bool), 0, 0)
    assert all(math.isnan(rate) for rate in exclusive.rates([nothing]))
    assert exclusive.shown(math.nan) == "-"


def test_a_world_holds_what_is_planted():
    """The exclusive feature's part of the difference has its frequency and norm, on its side only."""
    kind = Planted(frequency=0.2, size=2.0)
    world = World((kind,), d=32, shared=10, turned=0, train=4096, test=512, dense=0.0, noise=0.0)
    tokens = draw(world, batch=1024)
    assert [b.shape for b in tokens.batches] == [(1024, 2, 32)] * 4
    x = torch.cat(list(tokens.batches))
    change = x[:, 1] - x[:, 0]
    own_base, own_tuned = tokens.exclusive[:, 0]
    away = change @ torch.linalg.pinv(torch.stack([own_base, own_tuned]))
    assert (away[:, 0] < 1e-4).all(), "the base's feature is missing in tuned"
    fires = away[:, 1] > 1e-3
    assert float(fires.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float(away[fires, 1].mean()) == pytest.approx(2.0, abs=0.1)


def test_dense_change_has_the_energy_asked_for():
    world = World(d=32, shared=10, turned=0, train=8192, test=64, dense=0.1, rank=4, noise=0.0)
    (x,) = draw(world, batch=8192).batches
    change = x[:, 1] - x[:, 0]
    assert float(change.square().mean() / x[:, 0].square().mean()) == pytest.approx(0.1, rel=0.1)
    assert int(torch.linalg.matrix_rank(change.double(), rtol=1e-5)) == 8, "linear and free part"


def test_the_real_null_is_a_linear_map_as_large_as_the_change():
    x = torch.randn(400, 2, 48, generator=torch.Generator().manual_seed(0)) + 3.0
    made = real.low_rank(x, seed=0)(x)
    change = made[:, 1] - made[:, 0]
    assert torch.equal(made[:, 0], x[:, 0])
    wanted = float((x[:, 1] - x[:, 0]).square().mean())
    assert float(change.square().mean()) == pytest.approx(wanted, rel=1e-4)
    assert int(torch.linalg.matrix_rank(change.double(), rtol=1e-5)) == real.RANK


def test_a_harvest_is_read_as_it_is_or_as_its_null(tmp_path):
    for part, count in (("train", 2048), ("heldout", 300)):
        (tmp_path / part).mkdir()
        loader.write(tmp_path / part, count)
    as_is, null = (
        real.draw_real(real.Real(tmp_path, loader.LAYER, null=null), 256) for null in (False, True)
    )
    assert len(as_is.heldout) == len(as_is.test) == 150
    assert torch.equal(as_is.test[:, 0], null.test[:, 0])
    assert not torch.equal(as_is.test[:, 1], null.test[:, 1])
    one, other = next(iter(as_is.batches)), next(iter(null.batches))
    assert one.dtype == other.dtype == torch.bfloat16
    assert torch.equal(one[:, 0], other[:, 0])


def test_both_loaders_yield_every_pair(tmp_path):
    harvest = loader.write(tmp_path, 700)
    rows = loader.Rows(harvest)
    assert len(rows) == 700
    assert torch.equal(torch.stack([rows[i] for i in (0, 699)]), harvest.whole(0)[[0, 699]])


def test_exact_selection_keeps_k_codes_per_token_ranked_by_threshold():
    made = Dictionary(sides=1, d=3, latents=3, k=1)
    made.encoder[0] = torch.eye(3)
    made.thresholds = torch.tensor([1.0, 2.0, 1.0])
    x = torch.tensor([[[3.0, 5.0, 0.0]], [[1.0, 0.0, 2.0]]])
    kept = engine.BatchTopK(made).encode(x)
    assert kept.tolist() == [[3.0, 5.0, 0.0], [0.0, 0.0, 0.0]], "scores 3, 2.5 above 1 and 2"
