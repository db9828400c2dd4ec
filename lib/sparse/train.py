"""One training loop for SAEs and crosscoders."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from lib.config import Sparse
from lib.sparse.basis import Basis, Normaliser
from lib.sparse.dictionary import Dictionary
from lib.sparse.quality import Quality, quality
from lib.sparse.step import Weights, add_aux, gradients, reconstruct, scores, select

WATCHED_TOKENS = 2_048
"""Held-out tokens, spread over all documents, on which training is watched; final numbers use all."""


@dataclass(frozen=True)
class Point:
    """One evaluation while training."""

    step: int
    loss: float
    """Squared error over variance on the last batch, in training space."""
    quality: Quality | None
    dead_share: float


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
    activations: Iterable[Float[Tensor, "tokens sides d"]],
    config: Sparse,
    *,
    latents: int,
    heldout: Float[Tensor, "tokens sides d"] | None = None,
    normaliser: Normaliser | None = None,
    progress: Callable[[int, str], None] = lambda step, note: None,
) -> tuple[Dictionary, TrainingLog]:
    """Train a dictionary until held-out FVE is flat, then decay the learning rate and stop.

    ``activations`` is iterated again whenever it is exhausted; each batch is one step. The number of
    sides is read from the first batch. Without ``heldout`` it runs to the step limit.

    Raises:
        ValueError: k > latents, no batches, NaN or constant input, divergence.
    """
    stream = _endless(activations)
    first = list(islice(stream, 8))
    sides, d = first[0].shape[1:]
    if config.k > latents:
        raise ValueError(f"k = {config.k} exceeds the {latents} latents; lower `sparse.k`")
    weight = config.difference_weight if sides == 2 else 1.0
    basis = Basis(normaliser or Normaliser.estimate(first), sides, weight)
    trainer = _Trainer(basis, d, latents, config, first[0].device)
    log, started = TrainingLog(), time.perf_counter()
    watched = None if heldout is None else _spread(heldout, WATCHED_TOKENS)
    decay_from = int(config.max_steps * 0.8)
    last = config.max_steps
    batches = _chain(first, stream)
    for step in range(config.max_steps):
        if step >= last:
            break
        factor = min(1.0, (step + 1) / (0.05 * config.max_steps))
        if step >= decay_from:
            factor *= max(0.0, 1 - (step - decay_from) / max(1, last - decay_from))
        batch = next(batches)
        log.tokens += len(batch)
        loss = trainer.step(basis.forward(batch), config.lr * factor)
        log.steps = step + 1
        if log.steps % config.evaluate_every == 0 or log.steps == last:
            log.points.append(trainer.point(log.steps, loss, watched))
            progress(log.steps, _note(log.points[-1]))
            if step < decay_from and _flat(log.points, config.flat_gain):
                log.stopped = "flat"
                decay_from = step + 1
                last = min(config.max_steps, decay_from + max(50, log.steps // 4))
    made = trainer.finish(list(islice(_chain([], activations), 8)))
    log.seconds = time.perf_counter() - started
    return made, log


class _Trainer:
    """Weights, optimiser state and the dead-latent clock."""

    def __init__(
        self, basis: Basis, d: int, latents: int, config: Sparse, device: torch.device
    ) -> None:
        self.basis, self.config = basis, config
        wide = basis.sides * d
        generator = torch.Generator().manual_seed(config.seed)
        directions = torch.zeros(latents, basis.sides, d)
        # Both raw sides start equal, so identical models stay exactly identical (symmetric gradients).
        directions[:, 0] = torch.randn(latents, d, generator=generator)
        directions = directions.flatten(1).to(device)
        directions /= directions.norm(dim=1, keepdim=True)
        self.weights = Weights(
            encoder=directions.clone(),
            encoder_bias=torch.zeros(latents, device=device),
            decoder=directions.clone(),
            decoder_bias=torch.zeros(wide, device=device),
        )
        fused = device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.Adam(list(self.weights), lr=config.lr, fused=fused)
        self.low = torch.bfloat16
        self.guess = 0.0
        self.threshold = 0.0
        """Slow mean of the batches' thresholds: what the dictionary is watched with."""
        self.silent = torch.zeros(latents, device=device)
        self.patience = config.dead_after * config.max_steps * config.batch

    @torch.no_grad()
    def step(self, x: Float[Tensor, "tokens wide"], lr: float) -> float:
        weights, tokens = self.weights, len(x)
        norms = self.basis.ranking_norms(weights.decoder)
        pre = scores(x.to(self.low), weights, self.low)
        active = select(pre, norms, self.config.k, self.guess)
        self.guess = float(active.threshold)
        self.threshold += (self.guess - self.threshold) * (0.02 if self.threshold else 1.0)
        error = reconstruct(active, weights, tokens) - x
        grads = gradients(x, error, active, weights)
        self.silent += tokens
        self.silent[active.latent] = 0.0
        dead = (self.silent > self.patience).nonzero(as_tuple=True)[0]
        add_aux(grads, x, -error, pre, weights, dead, self.config.aux_weight * self._variance(x))
        loss = float(error.square().sum()) / float((x - x.mean(0)).square().sum())
        if loss != loss or loss > 1e6:
            raise ValueError(
                f"dictionary training diverged (relative error {loss:g}); the input may hold NaN, "
                "or `sparse.lr` is too high"
            )
        norm = torch.stack([g.norm() for g in grads]).norm()
        shrink = float((1.0 / (norm / self._variance(x) ** 0.5 + 1e-6)).clamp(max=1.0))
        for parameter, grad in zip(weights, grads, strict=True):
            parameter.grad = grad * shrink
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        return loss

    def point(self, step: int, loss: float, heldout: Tensor | None) -> Point:
        measured = None
        if heldout is not None:
            measured = quality(self.folded(self.threshold), heldout)
        dead = float((self.silent > self.patience).float().mean())
        return Point(step, loss, measured, dead)

    def folded(self, threshold: float) -> Dictionary:
        return self.basis.fold(*self.weights, k=self.config.k, threshold=threshold)

    @torch.no_grad()
    def finish(self, batches: list[Float[Tensor, "tokens sides d"]]) -> Dictionary:
        """Calibrate the inference threshold so that k latents fire per token on average."""
        made = self.folded(0.0)
        norms = self.basis.ranking_norms(self.weights.decoder).cpu()
        kept = []
        for batch in batches:
            scored = made.encode(batch.float().cpu()) * norms
            most = min(scored.numel(), 4 * self.config.k * len(scored))
            kept.append(torch.topk(scored.flatten(), most).values)
        wanted = self.config.k * sum(len(b) for b in batches)
        strongest = torch.cat(kept).sort(descending=True).values
        return self.folded(float(strongest[min(wanted, len(strongest) - 1)]))

    @staticmethod
    def _variance(x: Tensor) -> float:
        return float(x.square().sum(1).mean())


def _spread(x: Tensor, count: int) -> Tensor:
    """About ``count`` rows at equal distances."""
    return x[:: max(1, len(x) // count)]


def _endless(activations: Iterable[Tensor]) -> Iterator[Tensor]:
    while True:
        empty = True
        for batch in activations:
            empty = False
            yield batch
        if empty:
            raise ValueError("no activations to train on: the source yielded no batch")


def _chain(first: list[Tensor], rest: Iterable[Tensor]) -> Iterator[Tensor]:
    yield from first
    yield from rest


def _flat(points: list[Point], gain: float) -> bool:
    """Whether mean held-out FVE rose by less than ``gain`` over the last two evaluations."""
    if len(points) < 4 or any(p.quality is None for p in points[-3:]):
        return False
    now, before = points[-1].quality.summary, points[-3].quality.summary
    return now - before < gain


def _note(point: Point) -> str:
    if point.quality is None:
        return f"loss {point.loss:.3f}"
    return f"held-out FVE {point.quality.summary:.3f}"
