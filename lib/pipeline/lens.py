"""The lens stage: what the first tokens of unrelated text give away about the fine-tune.

It needs the adapter and text alone: no harvest and no dictionary.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lib import corpora
from lib.corpora import Document
from lib.pipeline.lens_parts import STEPS
from lib.pipeline.lens_scene import Scene
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.pipeline.texts import base_model


def lens_stage(prepared: Prepared, progress: Progress) -> Stage | None:
    """The tables ``lens_*``; None where the recipe asks for none."""
    experiment, recipe = prepared.experiment, prepared.experiment.recipe.lens
    if not recipe.texts:
        return None
    probe = probe_text(prepared)
    stage = Stage(
        "lens",
        {
            "experiment": experiment.id,
            "adapter": prepared.adapter_hash,
            "base": base_model(experiment.model).weights_hash,
            "data": prepared.texts.data_hash,
            "probe": [corpora.document_sha256(document.text)[:12] for document in probe],
            "recipe": {k: v for k, v in asdict(recipe).items() if k != "probe"},
            "heldout": experiment.recipe.text.heldout,
        },
    )

    def work(directory: Path) -> dict[str, Any]:
        scene = Scene.of(prepared, probe)
        rows: dict[str, int] = {}
        with progress.task("difference lens", len(STEPS)) as task:
            for done, (name, step) in enumerate(STEPS.items(), start=1):
                for table, frame in step(scene).items():
                    named = frame.with_columns(experiment_id=pl.lit(experiment.id))
                    if table == "lens_run":
                        named = named.with_columns(part=pl.lit(stage.key))
                    named.write_parquet(directory / f"{table}.parquet")
                    rows[table] = len(frame)
                task.update(done, name)
        return {"rows": rows}

    stage.run(work)
    return stage


def probe_text(prepared: Prepared) -> list[Document]:
    """Drawn from all of the probe corpus; the fine-tune has seen none of it (but see ``mixing``)."""
    recipe, text = prepared.experiment.recipe.lens, prepared.texts
    if recipe.probe:
        documents = list(corpora.load(recipe.probe, minimum=1).documents)
    else:
        documents = [*text.neutral_train, *text.neutral_heldout]
    order = np.random.default_rng(recipe.seed).permutation(len(documents))
    return [documents[i] for i in order[: recipe.texts]]
