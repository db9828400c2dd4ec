"""The engine against the plain dense trainer of the benchmarks, step by step on the same batches."""

import pytest
import torch

from lib.config import Sparse
from lib.sparse.basis import Basis, Normaliser
from lib.sparse.trainer import Trainer
from tests.benchmarks.engine import PLAIN, activations
from tests.benchmarks.reference import _start

STEPS, BATCH, D, LATENTS = 60, 64, 32, 256


@pytest.mark.parametrize("aux_weight", [0.0, 1 / 32])
def test_the_engine_takes_the_steps_of_the_plain_recipe(aux_weight: float):
    """Past the point where latents are dead and annealing would be over."""
    batches = list(activations(8 * BATCH, 1, D, 64).split(BATCH))
    config = Sparse(k=2, batch=BATCH, max_steps=STEPS, aux_weight=aux_weight, **PLAIN)
    plain = _start(batches, config, LATENTS)
    basis = Basis(Normaliser.estimate(batches), 2, rotated=False)
    trainer = Trainer(basis, D, LATENTS, config, torch.device("cpu"))
    trainer.low = torch.float32
    optimiser = torch.optim.Adam(plain.weights, lr=1e-3)
    for step in range(STEPS):
        x = plain.basis.forward(batches[step % len(batches)])
        optimiser.zero_grad()
        plain.loss(x).backward()
        torch.nn.utils.clip_grad_norm_(plain.weights, float(x.square().sum(1).mean().sqrt()))
        optimiser.step()
        trainer.step(x, 1e-3)
    assert (trainer.silent > trainer.patience).any()
    torch.testing.assert_close(trainer.weights.decoder, plain.decoder.detach(), atol=2e-4, rtol=0)
    torch.testing.assert_close(trainer.weights.encoder, plain.encoder.detach(), atol=2e-4, rtol=0)
