"""One training loop for SAEs and crosscoders: until held-out FVE is flat, resumable to the bit."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lib.config import Sparse
from lib.sparse import checkpoint as on_disk
from lib.sparse.basis import Basis, Normaliser
from lib.sparse.dictionary import Dictionary
from lib.sparse.quality import Quality, quality
from lib.sparse.trainer import Trainer

WATCHED_TOKENS = 2_048
"""Held-out tokens, spread over all documents, on which training is watched and the threshold set."""
FIRST = 8
"""Batches read ahead: they give the normaliser when none is given."""


@dataclass(frozen=True)
class Point:
    """One evaluation while training."""

    step: int
    loss: float
    """Squared error over variance on the last batch, in training space."""
    fve: tuple[float, ...] | None
    """Held-out, one per side; None without held-out activations."""
    fve_difference: float | None
    l0: float | None
    dead_share: float

    @property
    def summary(self) -> float | None:
        """What training watches: the mean over sides, and over the difference where there is one."""
        if self.fve is None:
            return None
        parts = [*self.fve, *([self.fve_difference] if self.fve_difference is not None else [])]
        return sum(parts) / len(parts)


@dataclass
class TrainingLog:
    """What happened, for the store and the Runs page."""

    points: list[Point] = field(default_factory=list)
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    stopped: str = "step limit"
    """``flat`` when held-out FVE stopped rising before the step limit."""


def train(
    activations: Iterable[Float[Tensor, "_ sides d"]],
    config: Sparse,
    *,
    latents: int,
    heldout: Float[Tensor, "heldout sides d"] | None = None,
    normaliser: Normaliser | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, str], None] = lambda step, note: None,
) -> tuple[Dictionary, TrainingLog]:
    """Train a dictionary until held-out FVE is flat, then decay the learning rate and stop.

    ``activations`` is iterated again whenever it is exhausted; each batch is one step. The number of
    sides is read from the first batch. Without ``heldout`` it runs to the step limit. The inference
    threshold is set so that k latents fire per token of the watched held-out tokens, or of the next
    training batches without ``heldout``.

    ``checkpoint`` names a file: written at every evaluation, and continued from where it exists. On
    one machine the continued run gives the bits of an uninterrupted one if ``activations`` yields
    the same batches in the same order in every process; a ``skip(batches)`` method is used to jump
    ahead, else batches are read and dropped.

    Raises:
        ValueError: k > latents, no batches, NaN or constant input, divergence, or a checkpoint of
            another recipe.
        OSError: a checkpoint that cannot be written; the one before stays.
    """
    started = time.perf_counter()
    trainer, run, batches = _begin(activations, config, latents, normaliser, checkpoint)
    if heldout is not None and len(heldout) < 2:
        raise ValueError(f"held-out activations of {len(heldout)} tokens; at least 2 are needed")
    watched = None if heldout is None else _spread(heldout, WATCHED_TOKENS)
    while trainer.steps < run.last:
        batch = next(batches)
        trainer.step(trainer.basis.forward(batch), config.lr * run.factor(trainer.steps))
        run.log.tokens += len(batch)
        if trainer.steps % config.evaluate_every == 0 or trainer.steps == run.last:
            run.add(_point(trainer, watched))
            progress(trainer.steps, _note(run.log.points[-1]))
            if checkpoint:
                run.log.seconds += time.perf_counter() - started
                started = time.perf_counter()
                tensors, facts = trainer.state()
                on_disk.save(checkpoint, tensors, facts | {"run": asdict(run)})
    some = watched if watched is not None else torch.cat([next(batches) for _ in range(FIRST)])
    made = trainer.calibrated(some).to("cpu")
    run.log.steps = trainer.steps
    run.log.seconds += time.perf_counter() - started
    return made, run.log


@dataclass
class _Run:
    """The learning rate's course and the curve so far."""

    config: Sparse
    log: TrainingLog = field(default_factory=TrainingLog)
    decay_from: int = -1
    last: int = -1

    def __post_init__(self) -> None:
        if self.last < 0:
            self.decay_from, self.last = int(self.config.max_steps * 0.8), self.config.max_steps

    def factor(self, step: int) -> float:
        """Linear warm-up over 5 % of the planned steps, then constant, then linear decay to 0."""
        factor = min(1.0, (step + 1) / (0.05 * self.config.max_steps))
        if step >= self.decay_from:
            factor *= max(0.0, 1 - (step - self.decay_from) / max(1, self.last - self.decay_from))
        return factor

    def add(self, point: Point) -> None:
        """Record an evaluation; when the curve is flat, begin the decay that ends the run."""
        self.log.points.append(point)
        if point.step < self.decay_from and _flat(self.log.points, self.config.flat_gain):
            self.log.stopped = "flat"
            self.decay_from = point.step
            most = self.config.max_steps
            self.last = min(most, self.decay_from + max(50, point.step // 4))


def _begin(
    activations: Iterable[Tensor],
    config: Sparse,
    latents: int,
    normaliser: Normaliser | None,
    checkpoint: Path | None,
) -> tuple[Trainer, _Run, Iterator[Tensor]]:
    """From the start, or from the checkpoint if there is one; and the batches still to come."""
    saved = on_disk.load(checkpoint) if checkpoint and checkpoint.exists() else None
    done = saved[1]["steps"] if saved else 0
    stream = _endless(activations, done)
    first = list(islice(stream, FIRST if normaliser is None and saved is None else 1))
    if config.k > latents:
        raise ValueError(f"k = {config.k} exceeds the {latents} latents; lower `sparse.k`")
    if saved:
        normaliser = Normaliser(saved[0]["mean"], saved[1]["scale"])
    trainer = _trainer(first, config, latents, normaliser or Normaliser.estimate(first))
    run = _Run(config)
    if saved:
        _same_recipe(checkpoint, trainer, saved[1])
        trainer.restore(*saved)
        run = _Run(config, **_points(saved[1]["run"]))
    return trainer, run, chain(first, stream)


def _trainer(first: list[Tensor], config: Sparse, latents: int, normaliser: Normaliser) -> Trainer:
    sides, d = first[0].shape[1:]
    if sides > 2:
        raise ValueError(f"activations have {sides} sides; a dictionary sees 1 or 2")
    weight = config.difference_weight if sides == 2 else 1.0
    basis = Basis(normaliser, sides, weight, config.ranking, config.basis == "change")
    return Trainer(basis, d, latents, config, first[0].device)


def _same_recipe(path: Path | None, trainer: Trainer, facts: dict[str, Any]) -> None:
    now = trainer.described()
    was, now = ({**facts["config"], **facts}, {**now["config"], **now})
    changed = [k for k in now if k != "config" and was.get(k) != now[k]]
    if changed:
        told = ", ".join(f"{k} {was.get(k)} (now {now[k]})" for k in changed)
        raise ValueError(
            f"{path}: the checkpoint was made with another {told}; delete it to train from the start"
        )


def _points(run: dict[str, Any]) -> dict[str, Any]:
    """A saved run without its config, with its points as points."""
    points = [Point(**p | {"fve": p["fve"] and tuple(p["fve"])}) for p in run["log"]["points"]]
    log = TrainingLog(**run["log"] | {"points": points})
    return {"log": log, "decay_from": run["decay_from"], "last": run["last"]}


def _point(trainer: Trainer, heldout: Tensor | None) -> Point:
    trainer.check()
    loss, dead = float(trainer.loss), trainer.dead_share()
    if heldout is None:
        return Point(trainer.steps, loss, None, None, None, dead)
    seen: Quality = quality(trainer.folded(), heldout)
    return Point(trainer.steps, loss, seen.fve, seen.fve_difference, seen.l0, dead)


def _spread(x: Tensor, count: int) -> Tensor:
    """About ``count`` rows at equal distances."""
    return x[:: max(1, len(x) // count)]


def _endless(activations: Iterable[Tensor], skip: int) -> Iterator[Tensor]:
    """Batch ``skip`` and all after it, over and over."""
    jump = getattr(activations, "skip", None)
    if jump is not None:
        jump(skip)
        skip = 0
    while True:
        empty = True
        for batch in activations:
            if not len(batch):
                continue
            empty = False
            if skip:
                skip -= 1
                continue
            yield batch
        if empty:
            raise ValueError(
                "no activations to train on: the source yielded no batch (any more); it must yield "
                "them anew in every pass, and hold at least `sparse.batch` tokens"
            )


def _flat(points: list[Point], gain: float) -> bool:
    """Whether mean held-out FVE rose by less than ``gain`` over the last two evaluations."""
    if len(points) < 4:
        return False
    now, before = points[-1].summary, points[-3].summary
    return now is not None and before is not None and now - before < gain


def _note(point: Point) -> str:
    if point.summary is None:
        return f"loss {point.loss:.3f}"
    return f"held-out FVE {point.summary:.3f}"
