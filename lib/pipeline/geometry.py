"""The geometry stage: dictionaries of what an adapter adds, over ranks and depths, against chance."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from lib import models
from lib.geometry import written
from lib.geometry.deltas import Deltas, Place, record
from lib.pipeline.adapters import trained_adapter
from lib.pipeline.geometry_dictionaries import config_of, dictionaries_of
from lib.pipeline.geometry_pretrained import Outside, outside
from lib.pipeline.geometry_rows import contribution_tables, place_tables, weight_rows
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.pipeline.texts import base_model

TABLES = (
    "geometry_place",
    "geometry_fit",
    "geometry_score",
    "geometry_added",
    "geometry_written",
    "geometry_module",
)
LAST = "geometry_module.parquet"
_UNHASHED = ("corpora", "pretrained", "pretrained_place")
"""What the recipe says besides; a dictionary from a path counts with its weights, not its path."""


def geometry_stage(prepared: Prepared, progress: Progress) -> Stage | None:
    """The ``TABLES`` of every rank; None where the recipe asks for none.

    A killed run keeps the ranks that it had finished, and the base's dictionaries.
    """
    experiment, recipe = prepared.experiment, prepared.experiment.recipe.geometry
    if not recipe.asked(experiment.corpus_name):
        return None
    given = outside(recipe, base_model(experiment.model))
    places = _places(prepared, given)
    stage = Stage("geometry", _inputs(prepared, given))

    def work(directory: Path) -> dict[str, Any]:
        with progress.task("geometry", len(recipe.ranks) * len(places)) as task:
            done, seen = 0, None
            for rank, adapter in _adapters(prepared, progress):
                if (directory / f"rank_{rank}" / LAST).exists():
                    done += len(places)
                    task.update(done, f"rank {rank}, already measured")
                    continue
                task.update(done, f"rank {rank}, recording deltas")
                seen = _record(prepared, adapter, places, seen)
                for note in _measure(prepared, rank, adapter, directory, seen, given):
                    done += 1
                    task.update(done, f"rank {rank}, {note}")
        for table in TABLES:
            files = [directory / f"rank_{rank}" / f"{table}.parquet" for rank in recipe.ranks]
            frame = pl.concat([pl.read_parquet(file) for file in files], how="diagonal_relaxed")
            named = frame.with_columns(experiment_id=pl.lit(experiment.id))
            if table == "geometry_place":
                called = f"{given.name} {given.digest}" if given else None
                named = named.with_columns(
                    part=pl.lit(stage.key), pretrained=pl.lit(called, dtype=pl.String)
                )
            named.write_parquet(directory / f"{table}.parquet")
        return {"ranks": list(recipe.ranks)}

    stage.run(work)
    return stage


def _inputs(prepared: Prepared, given: Outside | None) -> dict[str, Any]:
    experiment, text = prepared.experiment, prepared.experiment.recipe.text
    recipe = asdict(experiment.recipe.geometry)
    own = {
        "experiment": experiment.id,
        "base": base_model(experiment.model).weights_hash,
        "data": prepared.texts.data_hash,
        "recipe": {key: value for key, value in recipe.items() if key not in _UNHASHED},
        "training": asdict(experiment.recipe.finetune),
        "seed": experiment.seed,
        "sparse": asdict(config_of(prepared, 0)),
        "text": [text.window, text.drop_first, text.heldout],
        "layers": prepared.train.manifest.layers,
    }
    return own | (given.inputs if given else {})


def _adapters(prepared: Prepared, progress: Progress) -> Iterator[tuple[int, Path]]:
    experiment, own = prepared.experiment, prepared.experiment.recipe.finetune
    base_hash = base_model(experiment.model).weights_hash
    for rank in experiment.recipe.geometry.ranks:
        recipe = replace(own, rank=rank, alpha=own.alpha / own.rank * rank)
        stage = trained_adapter(experiment, prepared.texts, base_hash, recipe, progress)
        yield rank, stage.directory / "adapter"


def _places(prepared: Prepared, given: Outside | None) -> list[Place]:
    """Every hook at the layers of the experiment's dictionaries, or the one that a given one has."""
    hooks = prepared.experiment.recipe.geometry.hooks
    if given:
        return [given.place]
    return [Place(hook, layer) for hook in hooks for layer in prepared.train.manifest.layers]


def _record(
    prepared: Prepared, adapter: Path, places: list[Place], seen: tuple[Deltas, Deltas] | None
) -> tuple[Deltas, Deltas]:
    """Deltas of the training text and of the held-out one; the base is run for the first rank only.

    Args:
        seen: those of a rank before.
    """
    recipe, text = prepared.experiment.recipe.text, prepared.texts
    loaded = models.with_adapter(models.load(prepared.experiment.model), adapter)
    how = {"window": recipe.window, "drop_first": recipe.drop_first}
    documents = [*text.corpus_train, *text.neutral_train], [d for _, d in text.heldout]
    train, held = (
        record(loaded, read, places, **how, known=seen[i] if seen else None)
        for i, read in enumerate(documents)
    )
    return train, held


def _measure(
    prepared: Prepared,
    rank: int,
    adapter: Path,
    directory: Path,
    seen: tuple[Deltas, Deltas],
    given: Outside | None,
) -> Iterator[str]:
    """Place by place; ``LAST`` of the rank's tables is written last."""
    home = directory / f"rank_{rank}"
    home.mkdir(parents=True, exist_ok=True)
    train, held = seen
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for place in train.delta:
        measured = dictionaries_of(prepared, place, train, held, directory, given)
        for table, found in place_tables(measured, prepared.experiment.recipe.geometry).items():
            where = {"rank": rank, "hook": place.hook, "layer": place.layer}
            rows[table] += [where | row for row in found]
        yield f"{place.hook} {place.layer}"
    for table, found in contribution_tables(_written(prepared, adapter)).items():
        rows[table] = [{"rank": rank, **row} for row in found]
    rows["geometry_module"] = [{"rank": rank, **row} for row in weight_rows(adapter)]
    for table in TABLES:
        frame = pl.DataFrame(rows[table], {"rank": pl.Int64} if not rows[table] else None,
                             infer_schema_length=None)  # fmt: skip
        building = home / f"{table}.tmp"
        frame.write_parquet(building)
        building.replace(home / f"{table}.parquet")


def _written(prepared: Prepared, adapter: Path) -> written.Measured:
    experiment = prepared.experiment
    loaded = models.with_adapter(models.load(experiment.model), adapter)
    text, heldout = experiment.recipe.text, [d for _, d in prepared.texts.heldout]
    return written.measure(
        loaded, heldout, window=text.window, drop_first=text.drop_first,
        seed=experiment.recipe.geometry.seed,
    )  # fmt: skip
