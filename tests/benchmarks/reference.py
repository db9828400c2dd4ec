"""The yardstick: a plain BatchTopK crosscoder trainer, dense everywhere, fp32, autograd and Adam.

Same model, loss, data order and token budget as the engine, none of its means of speed. It is the
recipe that public trainers use, written plainly.
"""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lib.sparse import Dictionary
from lib.sparse.basis import Basis, Normaliser


@dataclass(frozen=True)
class Trained:
    dictionary: Dictionary
    tokens_per_second: float


def train_dense(
    batches: list[Float[Tensor, "tokens sides d"]],
    steps: int,
    *,
    latents: int,
    k: int,
    lr: float,
    difference_weight: float,
    seed: int = 0,
) -> Trained:
    sides, d = batches[0].shape[1:]
    basis = Basis(Normaliser.estimate(batches[:8]), sides, difference_weight)
    generator = torch.Generator().manual_seed(seed)
    start = torch.zeros(latents, sides, d)
    start[:, 0] = torch.randn(latents, d, generator=generator)
    start = torch.nn.functional.normalize(start.flatten(1), dim=1)
    encoder, decoder = (start.clone().requires_grad_() for _ in range(2))
    bias, out = (torch.zeros(n, requires_grad=True) for n in (latents, sides * d))
    weights = [encoder, bias, decoder, out]
    optimiser = torch.optim.Adam(weights, lr=lr)
    threshold, seconds, tokens = 0.0, 0.0, 0
    for step in range(steps):
        batch = batches[step % len(batches)]
        began = time.perf_counter()
        x = basis.forward(batch)
        a = torch.relu(x @ encoder.T + bias)
        score = a.detach() * basis.ranking_norms(decoder.detach())
        kept = torch.topk(score.flatten(), k * len(x), sorted=False)
        mask = torch.zeros_like(score).view(-1).index_fill_(0, kept.indices, 1.0).view_as(score)
        error = (a * mask) @ decoder + out - x
        loss = error.square().sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        factor = min(1.0, (step + 1) / (0.05 * steps))
        if step >= 0.8 * steps:
            factor *= max(0.0, 1 - (step - 0.8 * steps) / (0.2 * steps))
        for group in optimiser.param_groups:
            group["lr"] = lr * factor
        optimiser.step()
        now = float(kept.values.min())
        threshold += (now - threshold) * (0.02 if threshold else 1.0)
        seconds += time.perf_counter() - began
        tokens += len(x)
    folded = basis.fold(*(w.detach() for w in weights), k=k, threshold=threshold)
    return Trained(folded, tokens / seconds)
