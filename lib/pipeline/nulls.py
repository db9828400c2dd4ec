"""The nulls stage: what the same instruments show where nothing was learned.

Two controls for each experiment. *seed*: the base against itself, read by a second base SAE of
another seed. *random_lora*: the base against an adapter of random directions with the same Frobenius
norm in every adapted matrix, taken through harvest, dictionaries and metrics like the real one.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lib import finetune, models
from lib.config import content_id
from lib.metrics.reconstruction import cross_ratio
from lib.pipeline.counts import control_counts
from lib.pipeline.dictionaries import sparse_stage, trained
from lib.pipeline.jobs import Job, train_all
from lib.pipeline.layers import layer_parts, through
from lib.pipeline.output import output_parts
from lib.pipeline.prepare import Prepared, harvested
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary

LAYER_COLUMNS = ("layer", "ratio", "ratio_centred", "excess_fvu", "cka", "relative_displacement")
TABLES = ("null_layer", "latent_count", "null_output")


def nulls_stage(
    prepared: Prepared, sparse: Stage, progress: Progress, jobs: int | None = None
) -> Stage | None:
    """``TABLES`` of the controls; None where the file asks for no controls."""
    draws = prepared.experiment.nulls
    if not draws:
        return None
    stage = Stage(
        "nulls",
        {"adapter": prepared.adapter_hash, "sparse": sparse.key, "draws": draws},
    )

    def work(directory: Path) -> dict[str, Any]:
        of_draws = [_random_lora(prepared, draw, progress, jobs) for draw in range(draws)]
        parts = {table: [of[i] for of in of_draws] for i, table in enumerate(TABLES)}
        parts["null_layer"].append(_seed_rows(prepared, sparse, directory, draws, progress, jobs))
        name = pl.lit(prepared.experiment.id)
        for table, frames in parts.items():
            frame = pl.concat(frames, how="diagonal_relaxed").with_columns(experiment_id=name)
            frame.write_parquet(directory / f"{table}.parquet")
        return {"draws": draws}

    stage.run(work)
    return stage


@torch.no_grad()
def _seed_rows(
    prepared: Prepared,
    sparse: Stage,
    directory: Path,
    draws: int,
    progress: Progress,
    jobs: int | None,
) -> pl.DataFrame:
    """Error of the base SAE over that of a base SAE of another seed, on base activations."""
    config, latents = prepared.experiment.recipe.sparse, sparse.manifest()["latents"]
    todo = {
        (draw, layer): Job(
            prepared.activations.directory,
            directory / f"{layer:03d}.sae_base.s{draw + 1}",
            layer,
            "sae_base",
            latents,
            replace(config, seed=(config.seed + draw + 1) % 2**32),
            threads=1,
        )
        for draw in range(draws)
        for layer in prepared.train.manifest.layers
    }
    with progress.task("train dictionaries of the seed control", len(todo)) as task:
        for done, note in enumerate(train_all(list(todo.values()), jobs), start=1):
            task.update(done, note)
    rows = []
    for (draw, layer), job in todo.items():
        base = prepared.heldout.whole(layer)[:, 0]
        main, _ = trained(sparse, layer, "sae_base")
        other = Dictionary.load(job.directory)
        ratio = cross_ratio(base, through(main, base), through(other, base))
        rows.append(
            {
                "control": "seed",
                "draw": draw,
                "layer": layer,
                "ratio": ratio.ratio,
                "ratio_centred": ratio.ratio,  # no mean difference to take off
                "excess_fvu": ratio.excess_fvu,
            }
        )
    return pl.DataFrame(rows)


def _random_lora(
    prepared: Prepared, draw: int, progress: Progress, jobs: int | None
) -> tuple[pl.DataFrame, ...]:
    """One random adapter through every stage: its parts of ``TABLES``.

    Its activations are deleted afterwards.
    """
    control = _control(prepared, draw, progress)
    sparse = sparse_stage(control, progress, jobs)
    loaded = control.loaded()
    layers = layer_parts(control, sparse, loaded).layers.select(LAYER_COLUMNS)
    counts = control_counts(control, sparse)
    output, _ = output_parts(control, loaded)
    output = output.filter(pl.col("part") == "all").select("text", "kl")
    shutil.rmtree(control.activations.directory)
    what = {"control": pl.lit("random_lora"), "draw": pl.lit(draw)}
    return tuple(frame.with_columns(**what) for frame in (layers, counts, output))


def _control(prepared: Prepared, draw: int, progress: Progress) -> Prepared:
    """The experiment with a random adapter in the place of its own."""
    seed = _seed_of(prepared.adapter_hash, draw)
    stage = Stage("finetune", {"control": prepared.adapter_hash, "seed": seed})

    def work(directory: Path) -> dict[str, Any]:
        finetune.random_adapter(prepared.adapter, directory / "adapter", seed=seed)
        return {"record": None}

    stage.run(work)
    adapter = stage.directory / "adapter"
    experiment = prepared.experiment
    once = replace(experiment.recipe, sparse=replace(experiment.recipe.sparse, replicas=0))
    return harvested(
        replace(
            prepared,
            experiment=replace(experiment, recipe=once),
            adapter=adapter,
            adapter_hash=models.adapter_hash(adapter),
        ),
        progress,
    )


def _seed_of(adapter_hash: str, draw: int) -> int:
    """Directions of its own for every adapter: null draws are pooled within a model."""
    return int(content_id({"adapter": adapter_hash, "draw": draw}), 16)
