"""The geometry stage: dictionaries of what an adapter adds, over ranks and depths, against chance."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from lib import models
from lib.config import Sparse
from lib.geometry.adapter_sae import train_on_deltas
from lib.geometry.deltas import Deltas, Place, record
from lib.pipeline.adapters import trained_adapter
from lib.pipeline.dictionaries import affordable
from lib.pipeline.geometry_pretrained import Outside, outside
from lib.pipeline.geometry_rows import Measured, place_tables, weight_rows
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.pipeline.texts import base_model
from lib.sparse import Dictionary

TABLES = ("geometry_place", "geometry_fit", "geometry_score", "geometry_module")
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
        "sparse": asdict(_config(prepared, 0)),
        "text": [text.window, text.drop_first, text.heldout],
        "layers": prepared.train.manifest.layers,
    }
    return own | (given.inputs if given else {})


def _config(prepared: Prepared, more: int) -> Sparse:
    """Of the dictionaries here: those of the experiment with fewer steps and one side's loss."""
    recipe = prepared.experiment.recipe
    return replace(
        recipe.sparse,
        max_steps=recipe.geometry.max_steps,
        seed=recipe.geometry.seed + more,
        replicas=0,
    )


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
        measured = _dictionaries(prepared, place, train, held, directory, given)
        for table, found in place_tables(measured, prepared.experiment.recipe.geometry).items():
            where = {"rank": rank, "hook": place.hook, "layer": place.layer}
            rows[table] += [where | row for row in found]
        yield f"{place.hook} {place.layer}"
    rows["geometry_module"] = [{"rank": rank, **row} for row in weight_rows(adapter)]
    for table in TABLES:
        frame = pl.DataFrame(rows[table], infer_schema_length=None)
        building = home / f"{table}.tmp"
        frame.write_parquet(building)
        building.replace(home / f"{table}.parquet")


def _dictionaries(
    prepared: Prepared,
    place: Place,
    train: Deltas,
    held: Deltas,
    directory: Path,
    given: Outside | None,
) -> Measured:
    """Adapter SAEs of two seeds on this adapter's deltas; the base's of two seeds, made once, unless
    one is given."""
    wide = train.delta[place].shape[1]
    first = _config(prepared, 0)
    latents = affordable(
        int(first.expansion * wide), len(train.delta[place]), first.min_tokens_per_latent
    )
    adapters, pretrained, logs = [], [], []
    for more in (0, 1):
        config = _config(prepared, more)
        made = train_on_deltas(
            train.delta[place], config, latents=latents, heldout=held.delta[place]
        )
        adapters.append(made.dictionary)
        logs.append(made.log)
        if given:
            continue
        folder = directory / "base" / f"{place.hook}.{place.layer}.{more}"
        if not (folder / "done").exists():
            base = train_on_deltas(
                train.base[place],
                _config(prepared, more + 2),  # else both sides start at the same directions
                latents=latents,
                heldout=held.base[place],
            )
            base.dictionary.save(folder)
            (folder / "done").touch()
        pretrained.append(Dictionary.load(folder))
    if given:
        pretrained = [given.dictionary]
    return Measured(place, train, held, tuple(adapters), tuple(pretrained), logs[0])
