"""One dictionary to train, and many at once.

Dictionaries are independent, so on CPU they train in parallel, one thread each: small products
scale badly over threads. On a GPU they train one after another.
"""

import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from lib import paths
from lib.activations import Harvest, Stream
from lib.config import Sparse
from lib.pipeline.stages import RECIPE_VERSION, write_json
from lib.sparse import TrainingLog, train
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


def train_all(todo: list[Job], jobs: int | None) -> Iterator[str]:
    """Train what is not yet sealed, in parallel on CPU; a line for each as it is done."""
    waiting = [job for job in todo if not (job.directory / "log.json").exists()]
    yield from ("already trained" for _ in range(len(todo) - len(waiting)))
    workers = jobs or max(1, min(len(os.sched_getaffinity(0)), 8))
    if torch.cuda.is_available() or workers == 1 or len(waiting) < 2:
        for job in waiting:
            yield train_one(replace(job, threads=workers))
        return
    context = multiprocessing.get_context("spawn")
    watched, alive = context.Pipe(duplex=False)
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_end_with_parent, initargs=(watched,)
    ) as pool:
        try:
            for finished in as_completed([pool.submit(train_one, job) for job in waiting]):
                yield finished.result()
        except BaseException:  # also Ctrl-C: nobody waits for half an hour of training to end
            pool.shutdown(wait=False, cancel_futures=True)
            alive.close()
            raise


def _end_with_parent(watched: Connection) -> None:
    """A stopped or killed pipeline must not leave trainers behind that go on writing into the stage.

    The other end of ``watched`` closes when the parent says so or dies, however it dies. Trainers
    end without ceremony: checkpoints and dictionaries are written atomically.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which says when

    def watch() -> None:
        watched.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def train_one(job: Job) -> str:
    """Train and save one dictionary with its log; returns a line for the progress bar.

    A killed run continues from its last checkpoint, and one that is done is sealed by its log.
    """
    torch.set_num_threads(job.threads)
    train_harvest = Harvest.open(job.harvests / "train")
    heldout = Harvest.open(job.harvests / "heldout").whole(job.layer)
    known = None
    if job.kind == "sae_base":
        known = paths.work() / "base_sae" / _base_content(job, train_harvest, heldout)
        if (known / "log.json").exists():
            shutil.copytree(known, job.directory, dirs_exist_ok=True)
            return f"layer {job.layer} {job.kind}, the same as in an earlier run"
    side = KINDS[job.kind]
    base = Stream(train_harvest, job.layer, job.config.batch, job.config.seed)
    stream = replace(base, side=side)
    # The base side's mean and scale serve every dictionary of this layer.
    normaliser = Normaliser.estimate(base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    checkpoint = job.directory / "training.safetensors"
    dictionary, log = train(
        stream if device == "cpu" else _Moved(stream, device),
        job.config,
        latents=job.latents,
        heldout=heldout if side is None else heldout[:, side : side + 1],
        normaliser=normaliser,
        checkpoint=checkpoint,
    )
    dictionary.save(job.directory)
    write_json(job.directory / "log.json", log_record(log))
    checkpoint.unlink(missing_ok=True)
    if known:
        _share(job.directory, known)
    return (
        f"layer {job.layer} {job.kind}, {log.steps} steps, {log.tokens / log.seconds:,.0f} tokens/s"
    )


def _base_content(job: Job, train: Harvest, heldout: torch.Tensor) -> str:
    """What a base SAE is made from: base activations do not know the adapter, so training seeds and
    null controls on the same text need it only once."""
    digest = hashlib.sha256(
        repr((job.layer, job.latents, asdict(replace(job.config, replicas=0)))).encode()
    )
    digest.update(repr(RECIPE_VERSION["sparse"]).encode())
    shards = (train.shard(number, job.layer) for number in range(len(train.manifest.shards)))
    for x in (*shards, heldout):
        digest.update(x[:, 0].contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _share(directory: Path, known: Path) -> None:
    building = known.with_name(f".{known.name}.{os.getpid()}")
    shutil.copytree(directory, building, dirs_exist_ok=True)
    try:
        building.rename(known)
    except OSError:  # another run was faster, with the same content
        shutil.rmtree(building)


@dataclass
class _Moved:
    stream: Stream
    device: str

    def __iter__(self):  # noqa: ANN204
        for batch in self.stream:
            yield batch.to(self.device, non_blocking=True)

    def skip(self, batches: int) -> None:
        self.stream.skip(batches)


def log_record(log: TrainingLog) -> dict[str, Any]:
    points = [
        {
            "step": p.step,
            "loss": p.loss,
            "fve": p.fve and list(p.fve),
            "fve_difference": p.fve_difference,
            "l0": p.l0,
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
