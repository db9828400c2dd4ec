"""Planned memory against hand counts and against a process that trains."""

import pytest

from lib import config, models, paths
from lib.__main__ import main
from lib.pipeline.costs import Estimate
from lib.pipeline.memory import training_memory
from lib.pipeline.plan import finished, forecast
from lib.pipeline.stages import Stage, StageDue, only_looking
from lib.pipeline.study_costs import studies
from tests.benchmarks import growth
from tests.tiny import write_config


def test_the_state_is_eight_tables_of_float32():
    """Encoder and decoder, a gradient of each, two moments of each: 8 x 64 x 2 x 10 x 4 bytes."""
    memory = training_memory(64, 10, sides=2, batch=16, k=4)
    assert memory.weights == 2 * 64 * 20 * 4
    assert memory.state == 8 * 64 * 20 * 4
    assert training_memory(64, 20, sides=1, batch=16, k=4).state == memory.state


def test_what_does_not_fit_the_table_grows_with_the_batch():
    small, large = (training_memory(4096, 64, 2, batch, 32) for batch in (256, 512))
    assert large.state == small.state
    assert large.scores == 2 * small.scores
    assert large.aux > small.aux
    assert large.peak > small.peak


def test_peaks_hold_what_is_alive_then():
    memory = training_memory(8192, 576, 2, 2048, 32)
    assert memory.stepping >= memory.state
    assert memory.finishing >= memory.weights + memory.moments + memory.weights
    assert memory.peak == max(memory.stepping, memory.finishing) <= memory.worst
    assert memory.reviving == memory.state + memory.batch + 2 * 8192 * 2048 + memory.aux


@pytest.mark.parametrize("size", [(0, 8, 2, 4, 1), (8, 0, 2, 4, 1), (8, 8, 2, 0, 1)])
def test_sizes_below_one_are_refused(size):
    with pytest.raises(ValueError, match="at least 1; got"):
        training_memory(*size)


def test_the_command_plans_one_dictionary(capsys):
    assert main(["plan", "--latents", "65536", "--d", "4096"]) == 0
    out = capsys.readouterr().out
    table = 65536 * 2 * 4096 * 4 / 1e9
    assert f"{2 * table:.2f} GB" in out.splitlines()[2]
    assert any(
        line.startswith("state") and f"{8 * table:.2f} GB" in line for line in out.split("\n")
    )
    assert "fit" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either a CONFIG, or --latents and --d"),
        (["--latents", "64"], "either a CONFIG, or --latents and --d"),
        (["x.yaml", "--latents", "64", "--d", "8"], "either a CONFIG, or --latents and --d"),
        (["--latents", "16", "--d", "8"], "k = 32 exceeds the 16 latents"),
        (["x.yaml", "--latents", "5"], "; --latents is of one dictionary"),
        (["x.yaml", "--k", "5", "--batch", "7"], "; --batch, --k is of one dictionary"),
    ],
)
def test_a_plan_of_nothing_says_what_is_needed(arguments, message, capsys):
    assert main(["plan", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--latents", "--d", "--batch", "--k"])
@pytest.mark.parametrize("value", ["-5", "0", "x", "1.5"])
def test_a_size_that_is_none_is_refused_by_the_name_of_its_option(option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "--latents", "64", "--d", "8", option, value])
    assert f"argument {option}: give a whole number of at least 1, got '{value}'" in (
        capsys.readouterr().err
    )


def test_only_looking_does_nothing_and_says_what_is_done(tmp_path):
    done, due = Stage("sampled", {"of": "tests"}), Stage("sparse", {"of": "tests"})
    done.run(lambda directory: {"documents": 3})
    with only_looking() as found:
        assert done.run(pytest.fail)["documents"] == 3
        with pytest.raises(StageDue, match="sparse"):
            due.run(pytest.fail)
    assert found == ["sampled"]
    assert not due.directory.exists()
    assert due.run(lambda directory: {"x": 1})["x"] == 1  # and works again afterwards


def test_a_plan_touches_no_stage(tmp_path):
    file = write_config(tmp_path)
    assert finished(config.load(file)[0]) == frozenset()
    text = forecast(file)
    assert text.count("  finetune") == 2 and " done " not in text
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("live_latents: 24", "live_latents: 128", "no more than `live_latents` (128)"),
        ("k: 6,", "k: 100, min_tokens_per_latent: 200,", "fewer than `sparse.k` (100)"),
    ],
)
def test_a_plan_warns_of_too_few_latents(tmp_path, old, new, says):
    file = write_config(tmp_path)
    assert "warning" not in forecast(file)
    file.write_text(file.read_text().replace(old, new))
    assert forecast(file).count(says) == 2


BUSY = {"float32": 196e9, "bfloat16": 900e9}
"""FLOP/s of the machine that made the committed store."""
RECORDED = {
    "sampled": 132, "finetune": 98, "activations": 97, "sparse": 600, "nulls": 550, "metrics": 95,
    "causal": 540, "lens": 128, "weights": 0.26, "sweep": 2883, "geometry": 2181,
}  # fmt: skip
"""Median ``seconds`` in the manifests of its stages, of one experiment of embedded.yaml; sweep and
geometry ran on one thread beside another computation."""


@pytest.mark.slow
def test_the_forecast_is_within_a_factor_of_two_of_what_the_committed_store_took():
    experiment = config.load(paths.ROOT / "data/experiments/embedded.yaml")[0]
    estimate = Estimate(experiment, models.load(experiment.model), BUSY)
    told = {cost.stage: cost.seconds for cost in [*estimate.costs(), *studies(estimate)]}
    assert told.keys() == RECORDED.keys()
    for stage, seconds in RECORDED.items():
        assert 0.5 < told[stage] / seconds < 2, stage


@pytest.mark.slow
@pytest.mark.parametrize(
    ("latents", "d", "sides"), [(4096, 768, 2), (8192, 128, 2), (4096, 1024, 1)]
)
def test_the_planned_peak_is_what_a_training_process_needs(latents, d, sides):
    size = growth.Size(latents, d, sides, steps=3, threads=1)
    assert size.planned == pytest.approx(growth.apart(size, **growth.PROMPT).peak, rel=0.1)
