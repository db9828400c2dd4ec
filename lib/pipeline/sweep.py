"""The sweep stage: paths in the plane of inner and outer change, one point for each adapter.

Ranks, checkpoints and mixtures are adapters of their own, trained once and found again; a scale is a
factor on the experiment's adapter. All points read the same text.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lib import models
from lib.finetune import checkpoint
from lib.models import LoadedModel
from lib.models.scaling import scaled_adapter
from lib.pipeline.adapters import trained_adapter
from lib.pipeline.point import Reference, layer_rows, outer_rows
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.pipeline.texts import base_model


class Point(NamedTuple):
    """One adapter on one path."""

    path: str
    """rank | checkpoint | scale | mixing"""
    value: float
    adapter: Path
    scale: float
    """Factor on the adapter."""
    loss: float | None
    """Training loss at its end, nats per token, mean of the last five steps."""


def sweep_stage(prepared: Prepared, progress: Progress) -> Stage | None:
    """Tables ``sweep_point``, ``sweep_output`` and ``sweep_layer``; None where nothing is asked for."""
    experiment, recipe = prepared.experiment, prepared.experiment.recipe.sweep
    if not recipe.asked(experiment.corpus_name):
        return None
    stage = Stage(
        "sweep",
        {
            "experiment": experiment.id,
            "adapter": prepared.adapter_hash,
            "base": base_model(experiment.model).weights_hash,
            "data": prepared.texts.data_hash,
            "recipe": {k: v for k, v in asdict(recipe).items() if k != "corpora"},
            "training": asdict(experiment.recipe.finetune),
            "seed": experiment.seed,
            "text": [experiment.recipe.text.drop_first, experiment.recipe.text.heldout],
            "hook": experiment.recipe.harvest.hook,
        },
    )

    def work(directory: Path) -> dict[str, Any]:
        points = list(_points(prepared, progress))
        reference = Reference.of(prepared)
        name = {"experiment_id": experiment.id}
        with progress.task("score the points of the sweep", len(points)) as task:
            for done, point in enumerate(points, start=1):
                _score(prepared, reference, point, directory / "points")
                task.update(done, f"{point.path} {point.value:g}")
        for table in ("sweep_point", "sweep_output", "sweep_layer"):
            parts = [pl.read_parquet(_part(directory / "points", p, table)) for p in points]
            frame = pl.concat(parts, how="diagonal_relaxed").with_columns(
                **{k: pl.lit(v) for k, v in name.items()}
            )
            if table == "sweep_point":
                frame = frame.with_columns(part=pl.lit(stage.key))
            frame.write_parquet(directory / f"{table}.parquet")
        return {"points": len(points)}

    stage.run(work)
    return stage


def _points(prepared: Prepared, progress: Progress) -> Iterator[Point]:
    """Trained where there is none; a value that is the experiment's own takes its adapter."""
    experiment, sweep = prepared.experiment, prepared.experiment.recipe.sweep
    own = experiment.recipe.finetune
    base_hash = base_model(experiment.model).weights_hash
    shared = (experiment, prepared.texts, base_hash)
    record = prepared.finetune["record"]
    for scale in sweep.scales:
        yield Point("scale", scale, prepared.adapter, scale, _loss(record))
    for rank in sweep.ranks:
        recipe = replace(own, rank=rank, alpha=own.alpha / own.rank * rank)
        made = trained_adapter(*shared, recipe, progress)
        yield Point("rank", rank, made.directory / "adapter", 1.0, _loss(made.manifest()["record"]))
    if sweep.checkpoints:
        recipe = replace(own, steps=max(sweep.checkpoints))
        made = trained_adapter(*shared, recipe, progress, checkpoints=sweep.checkpoints)
        for step in sweep.checkpoints:
            loss = _loss(made.manifest()["record"], step)
            at = checkpoint(made.directory / "adapter", step)
            yield Point("checkpoint", step, at, 1.0, loss)
    for share in sweep.mixing:
        made = trained_adapter(*shared, own, progress, mixed=share)
        loss = _loss(made.manifest()["record"])
        yield Point("mixing", share, made.directory / "adapter", 1.0, loss)


def _loss(record: dict[str, Any] | None, step: int | None = None) -> float | None:
    losses = record["losses"][:step][-5:] if record else []
    return sum(losses) / len(losses) if losses else None


def _part(directory: Path, point: Point, table: str) -> Path:
    return directory / f"{point.path}.{point.value:g}.{table}.parquet"


def _score(prepared: Prepared, reference: Reference, point: Point, directory: Path) -> None:
    """Unless a killed run had done it."""
    if _part(directory, point, "sweep_layer").exists():  # written last
        return
    directory.mkdir(parents=True, exist_ok=True)
    loaded = models.with_adapter(models.load(prepared.experiment.model), point.adapter)
    with scaled_adapter(loaded, point.scale):
        seen = reference.tuned(loaded)
    where = {"path": point.path, "value": float(point.value)}
    tables = {
        "sweep_point": [
            {
                "loss": point.loss,
                "rank": _rank(loaded),
                "scale": point.scale,
                "adapter_hash": models.adapter_hash(point.adapter),
            }
        ],
        "sweep_output": outer_rows(reference, seen, loaded),
        "sweep_layer": layer_rows(reference, seen),
    }
    for table, rows in tables.items():
        frame = pl.DataFrame([where | row for row in rows], infer_schema_length=None)
        building = _part(directory, point, table).with_suffix(".tmp")
        frame.write_parquet(building)
        building.replace(_part(directory, point, table))


def _rank(loaded: LoadedModel) -> int:
    return max(max(module.r.values()) for module in models.adapted(loaded.model))
