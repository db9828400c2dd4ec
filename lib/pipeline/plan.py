"""What a run would cost, before anything starts: passes, time, disk and memory per stage."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from lib import config
from lib.config import Experiment
from lib.pipeline.causal import causal_stage
from lib.pipeline.costs import BYTES, Cost, Estimate
from lib.pipeline.dictionaries import sparse_stage
from lib.pipeline.geometry import geometry_stage
from lib.pipeline.lens import lens_stage
from lib.pipeline.measure import metrics_stage
from lib.pipeline.nulls import nulls_stage
from lib.pipeline.preflight import refuse_early
from lib.pipeline.prepare import prepare
from lib.pipeline.progress import Progress
from lib.pipeline.speed import flops
from lib.pipeline.stages import StageDue, only_looking
from lib.pipeline.study_costs import studies
from lib.pipeline.sweep import sweep_stage
from lib.pipeline.texts import base_model
from lib.pipeline.weights import Met, meet, weights_stage


def forecast(config_file: Path) -> str:
    """A table of the forecast for a file of experiments; finished stages cost nothing more.

    Raises:
        ValueError: whatever a run of this file would refuse before its first stage.
    """
    experiments = config.load(config_file)
    refuse_early(experiments)
    speed = {name: flops(getattr(torch, name)) for name in BYTES}
    device = "GPU" if torch.cuda.is_available() else "CPU"
    lines = [
        f"experiments: {len(experiments)}; matrix products on this {device} at rest: "
        + ", ".join(f"{v / 1e9:,.0f} GFLOP/s in {k}" for k, v in speed.items()),
        "",
        f"{'stage':<14}{'forward passes':<54}{'time':>10}{'disk':>10}{'memory':>10}",
    ]
    counted: list[Cost] = []
    sampled: set[str] = set()
    met: list[Met] = []
    for place, experiment in enumerate(experiments):
        lines.append(experiment.id)
        estimate = Estimate(experiment, base_model(experiment.model), speed)
        done = finished(experiment, met)
        if len(met) <= place:  # one is still to be trained: later ones were not compared with it
            done -= {"weights"}
        others = sum(one.model == experiment.model for one in experiments[:place])
        costs = [*estimate.costs(), *studies(estimate, others)]
        found = [replace(cost, done=cost.stage in done) for cost in costs]
        if experiment.model in sampled:
            found = [cost for cost in found if cost.stage != "sampled"]
        sampled.add(experiment.model)
        lines += ["  " + _line(cost) for cost in found]
        lines += [f"  warning: {text}" for text in warnings(estimate)]
        counted += found
    return "\n".join([*lines, _line(_total(counted))]) + "\n"


def finished(experiment: Experiment, met: list[Met] | None = None) -> frozenset[str]:
    """Names of the stages that a run would skip: it is walked through, and stops where work is due.

    Args:
        met: adapters of the experiments before this one; its own is added if it is there.
    """
    met = [] if met is None else met
    quiet = Progress(experiment.id, quiet=True)
    with only_looking() as done, suppress(StageDue):
        prepared = prepare(experiment, quiet)
        before = tuple(met)
        met.append(meet(prepared))
        with suppress(StageDue):
            weights_stage(prepared, before, quiet)
        for study in (lens_stage, sweep_stage, geometry_stage):
            with suppress(StageDue):
                study(prepared, quiet)
        sparse = sparse_stage(prepared, quiet)
        with suppress(StageDue):
            causal_stage(prepared, sparse, quiet)
        metrics_stage(prepared, sparse, nulls_stage(prepared, sparse, quiet), quiet)
    return frozenset(done)


def warnings(estimate: Estimate) -> list[str]:
    """What a run would do less well than asked, or stop at, as far as a count of words tells."""
    recipe, latents = estimate.experiment.recipe, estimate.latents
    found = []
    if latents < recipe.sparse.k:
        found.append(
            f"the text affords {latents:,} latents, fewer than `sparse.k` ({recipe.sparse.k}): the run "
            "will stop there; raise `text.sampled_tokens` or lower `sparse.k`"
        )
    if recipe.causal.documents and latents <= recipe.live_latents:
        found.append(
            f"the text affords {latents:,} latents, no more than `live_latents` "
            f"({recipe.live_latents}): none is left to draw controls from, and the causal stage will "
            "stop; lower `live_latents`"
        )
    return found


def _total(costs: list[Cost]) -> Cost:
    """Of what is not done yet."""
    due = [cost for cost in costs if not cost.done]
    peak = max((cost.memory for cost in due), default=0.0)
    seconds, disk = (sum((getattr(c, of) for c in due), 0.0) for of in ("seconds", "disk"))
    return Cost("to do", "", seconds, disk, peak)


def _line(cost: Cost) -> str:
    minutes = "done" if cost.done else f"{cost.seconds / 60:,.1f} min"
    return (
        f"{cost.stage:<12}{cost.passes:<54}{minutes:>10}{cost.disk / 1e6:>7,.0f} MB"
        f"{cost.memory / 1e9:>7.1f} GB"
    )
