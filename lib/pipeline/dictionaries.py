"""The sparse stage: per depth one crosscoder and one SAE for each side, and crosscoders of other
seeds (``Sparse.replicas``).
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lib.pipeline.jobs import KINDS, Job, train_all
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary


def affordable(asked: int, tokens: int, per_latent: int) -> int:
    """Latents that the text can train: at least ``per_latent`` tokens each, a multiple of 64."""
    most = tokens // per_latent
    rounded = most // 64 * 64 if most >= 64 else max(1, most)
    return min(asked, rounded)


def sparse_stage(prepared: Prepared, progress: Progress, jobs: int | None = None) -> Stage:
    """Train every dictionary of the experiment; finished ones of a killed run are kept."""
    config = prepared.experiment.recipe.sparse
    stage = Stage("sparse", {"activations": prepared.activations.key, "config": asdict(config)})

    def work(directory: Path) -> dict[str, Any]:
        harvest = prepared.train
        harvest.check_tokens()
        asked = int(config.expansion * harvest.manifest.d)
        latents = affordable(asked, harvest.manifest.tokens, config.min_tokens_per_latent)
        if latents < config.k:
            raise ValueError(
                f"{harvest.manifest.tokens} training tokens allow {latents} latents, fewer than "
                f"k = {config.k}; raise `text.sampled_tokens` or lower `sparse.k`"
            )
        if latents < asked:
            progress.say(
                f"dictionaries shrink from {asked:,} to {latents:,} latents: "
                f"{harvest.manifest.tokens:,} training tokens, "
                f"{config.min_tokens_per_latent} wanted per latent"
            )
        todo = _jobs(prepared, directory, latents)
        with progress.task("train dictionaries", len(todo)) as task:
            for done, note in enumerate(train_all(todo, jobs), start=1):
                task.update(done, note)
        return {"asked": asked, "latents": latents, "tokens": harvest.manifest.tokens}

    stage.run(work)
    return stage


def _jobs(prepared: Prepared, directory: Path, latents: int) -> list[Job]:
    """The dictionaries that everything is measured with first, then the replicas of crosscoders."""
    config = prepared.experiment.recipe.sparse
    replicas = [[("crosscoder", i + 1)] for i in range(config.replicas)]
    return [
        Job(
            prepared.activations.directory,
            directory / _folder(layer, kind, replica),
            layer,
            kind,
            latents,
            replace(config, seed=(config.seed + replica) % 2**32),
            threads=1,
        )
        for together in [[(kind, 0) for kind in KINDS], *replicas]
        for layer in prepared.train.manifest.layers
        for kind, replica in together
    ]


def _folder(layer: int, kind: str, replica: int) -> str:
    return f"{layer:03d}.{kind}" + (f".s{replica}" if replica else "")


def trained(
    stage: Stage, layer: int, kind: str, replica: int = 0
) -> tuple[Dictionary, dict[str, Any]]:
    """A finished dictionary and its log; ``replica`` 1, 2, ... = trained with a later seed."""
    directory = stage.directory / _folder(layer, kind, replica)
    log = json.loads((directory / "log.json").read_text(encoding="utf-8"))
    return Dictionary.load(directory), log
