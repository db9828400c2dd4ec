"""The sparse stage: per depth one crosscoder and one SAE for each side.

Dictionaries are independent, so on CPU they train in parallel, one thread each: small products
scale badly over threads. On a GPU they train one after another.
"""

import json
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lib.activations import Harvest, Stream
from lib.config import Sparse
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage, write_json
from lib.sparse import Dictionary, TrainingLog, train
from lib.sparse.basis import Normaliser

KINDS = {"crosscoder": None, "sae_base": 0, "sae_tuned": 1}
"""Kind of dictionary and the side it sees; None = both."""


@dataclass(frozen=True)
class Job:
    """One dictionary to train."""

    harvests: Path
    directory: Path
    layer: int
    kind: str
    latents: int
    config: Sparse
    threads: int


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
        todo = [
            Job(
                prepared.activations.directory,
                directory / f"{layer:03d}.{kind}",
                layer,
                kind,
                latents,
                config,
                threads=1,
            )
            for layer in harvest.manifest.layers
            for kind in KINDS
        ]
        with progress.task("train dictionaries", len(todo)) as task:
            for done, note in enumerate(_all(todo, jobs), start=1):
                task.update(done, note)
        return {"asked": asked, "latents": latents, "tokens": harvest.manifest.tokens}

    stage.run(work)
    return stage


def _all(todo: list[Job], jobs: int | None):  # noqa: ANN202
    waiting = [job for job in todo if not (job.directory / "log.json").exists()]
    yield from ("already trained" for _ in range(len(todo) - len(waiting)))
    workers = jobs or max(1, min(len(os.sched_getaffinity(0)), 8))
    if torch.cuda.is_available() or workers == 1 or len(waiting) < 2:
        for job in waiting:
            yield train_one(replace(job, threads=workers))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_end_with_parent, initargs=(os.getpid(),)
    ) as pool:
        for finished in as_completed([pool.submit(train_one, job) for job in waiting]):
            yield finished.result()


def _end_with_parent(parent: int) -> None:
    """A killed pipeline must not leave trainers behind that go on writing into the stage."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def train_one(job: Job) -> str:
    """Train and save one dictionary with its log; returns a line for the progress bar."""
    torch.set_num_threads(job.threads)
    train_harvest = Harvest.open(job.harvests / "train")
    heldout = Harvest.open(job.harvests / "heldout").whole(job.layer)
    side = KINDS[job.kind]
    base = Stream(train_harvest, job.layer, job.config.batch, job.config.seed)
    stream = replace(base, side=side)
    # The base side's mean and scale serve every dictionary of this layer.
    normaliser = Normaliser.estimate(base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dictionary, log = train(
        stream if device == "cpu" else _Moved(stream, device),
        job.config,
        latents=job.latents,
        heldout=heldout if side is None else heldout[:, side : side + 1],
        normaliser=normaliser,
    )
    dictionary.save(job.directory)
    write_json(job.directory / "log.json", log_record(log))
    return (
        f"layer {job.layer} {job.kind}, {log.steps} steps, {log.tokens / log.seconds:,.0f} tokens/s"
    )


@dataclass
class _Moved:
    stream: Stream
    device: str

    def __iter__(self):  # noqa: ANN204
        for batch in self.stream:
            yield batch.to(self.device, non_blocking=True)


def log_record(log: TrainingLog) -> dict[str, Any]:
    points = [
        {
            "step": p.step,
            "loss": p.loss,
            "fve": list(p.quality.fve) if p.quality else None,
            "fve_difference": p.quality.fve_difference if p.quality else None,
            "l0": p.quality.l0 if p.quality else None,
            "dead_share": p.dead_share,
        }
        for p in log.points
    ]
    return {
        "steps": log.steps,
        "tokens": log.tokens,
        "seconds": log.seconds,
        "stopped": log.stopped,
        "points": points,
    }


def trained(stage: Stage, layer: int, kind: str) -> tuple[Dictionary, dict[str, Any]]:
    """A finished dictionary and its log."""
    directory = stage.directory / f"{layer:03d}.{kind}"
    log = json.loads((directory / "log.json").read_text(encoding="utf-8"))
    return Dictionary.load(directory), log
