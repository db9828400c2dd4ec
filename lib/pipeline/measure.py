"""The metrics stage: everything the dashboard draws, as one Parquet part per table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lib.models import LoadedModel
from lib.pipeline import record
from lib.pipeline.latents import latent_parts
from lib.pipeline.layers import layer_parts
from lib.pipeline.output import output_parts
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage


def metrics_stage(
    prepared: Prepared, sparse: Stage, nulls: Stage | None, progress: Progress
) -> Stage:
    """Measure the experiment; the folder holds TABLE.parquet files, those of the nulls included."""
    experiment = prepared.experiment
    stage = Stage(
        "metrics",
        {
            "experiment": experiment.id,
            "finetune": prepared.adapter_hash,
            "activations": prepared.activations.key,
            "sparse": sparse.key,
            "recipe": experiment.recipe.identity,
            **({"nulls": nulls.key} if nulls else {}),
            "keep": experiment.keep,
        },
    )

    def work(directory: Path) -> dict[str, Any]:
        torch.manual_seed(0)
        loaded = prepared.loaded()
        rows: dict[str, int] = {}
        with progress.task("measure", 11) as task:
            for done, (table, frame) in enumerate(
                _tables(prepared, sparse, loaded, stage.key), start=1
            ):
                frame.write_parquet(directory / f"{table}.parquet")
                rows[table] = len(frame)
                task.update(done, table)
        for file in sorted(nulls.directory.glob("*.parquet")) if nulls else ():
            frames = [pl.read_parquet(file)]
            if file.stem in rows:  # measured above as well; a killed run's leftovers do not count
                frames.insert(0, pl.read_parquet(directory / file.name))
            pl.concat(frames, how="diagonal_relaxed").write_parquet(directory / file.name)
        return {"rows": rows}

    stage.run(work)
    return stage


def _tables(
    prepared: Prepared, sparse: Stage, loaded: LoadedModel, part: str
) -> Iterator[tuple[str, pl.DataFrame]]:
    yield "experiment", record.experiment_row(prepared, loaded, part)
    documents = record.document_rows(prepared, loaded)
    yield "document", documents
    output, token_kl = output_parts(prepared, loaded)
    yield "output_metric", output
    yield "token_kl", token_kl
    layers, profile = layer_parts(prepared, sparse, loaded)
    yield "layer_metric", layers
    yield "profile", profile
    yield "training_curve", record.curve_rows(prepared, sparse)
    dictionaries, latents, examples, counts = latent_parts(prepared, sparse, loaded)
    yield "dictionary", dictionaries
    yield "latent_count", counts
    if prepared.experiment.keep != "summary":
        yield "latent", latents
        yield "example", _within(examples, documents)


def _within(examples: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Windows end where their document ends."""
    lengths = documents.select("corpus", "document_id", "n_tokens")
    return (
        examples.join(lengths, on=["corpus", "document_id"], how="left", maintain_order="left")
        .with_columns(token_end=pl.min_horizontal("token_end", "n_tokens"))
        .drop("n_tokens")
    )
