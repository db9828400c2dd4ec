"""The yardstick: a plain BatchTopK crosscoder trainer, dense everywhere, float32, autograd and Adam.

Model, loss, AuxK, clipping, schedule, data order and calibration are the engine's; none of its means
of speed. It is the recipe that public trainers use, written plainly.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lib.config import Sparse
from lib.sparse import Dictionary
from lib.sparse.basis import Basis, Normaliser


@dataclass
class Dense:
    """Parameters in the engine's training space, and how long each latent has been silent."""

    basis: Basis
    config: Sparse
    encoder: Float[Tensor, "latents wide"]
    bias: Float[Tensor, " latents"]
    decoder: Float[Tensor, "latents wide"]
    out: Float[Tensor, " wide"]
    silent: Float[Tensor, " latents"]

    @property
    def weights(self) -> list[Tensor]:
        return [self.encoder, self.bias, self.decoder, self.out]

    def loss(self, x: Float[Tensor, "tokens wide"]) -> Float[Tensor, ""]:
        """Squared error per token, and AuxK's share while some latents are dead."""
        k = self.config.k
        a = torch.relu(x @ self.encoder.T + self.bias)
        score = a.detach() * self.basis.ranking_norms(self.decoder.detach())
        kept = torch.topk(score.flatten(), k * len(x), sorted=False).indices
        mask = torch.zeros_like(score).view(-1).index_fill_(0, kept, 1.0).view_as(score)
        error = (a * mask) @ self.decoder + self.out - x
        fired = (a.detach() * mask > 0).any(0)
        self.silent = torch.where(fired, 0.0, self.silent + len(x))
        return error.square().sum(1).mean() + self._aux(x, -error.detach(), a)

    def _aux(self, x: Tensor, residual: Tensor, a: Tensor) -> Tensor:
        config = self.config
        patience = config.dead_after * config.max_steps * config.batch
        dead = (self.silent > patience).nonzero(as_tuple=True)[0]
        if not len(dead):
            return x.new_zeros(())
        z, most = a[:, dead], x.shape[1] // 2
        if len(dead) > most:
            z = z * (z >= torch.topk(z.detach(), most, dim=1).values[:, -1:])
        off = (z @ self.decoder[dead] - residual).square().sum(1).mean()
        power = x.square().sum(1).mean()
        return config.aux_weight * power * off / residual.square().sum(1).mean()

    @torch.no_grad()
    def calibrated(self, x: Float[Tensor, "tokens sides d"]) -> Dictionary:
        """With the threshold at which k latents fire per token of ``x`` on average."""
        norms = self.basis.ranking_norms(self.decoder)
        strongest = []
        for part in x.split(2048):
            a = torch.relu(self.basis.forward(part) @ self.encoder.T + self.bias)
            most = min(a.numel(), 8 * self.config.k * len(part))
            strongest.append(torch.topk((a * norms).flatten(), most).values)
        ordered = torch.cat(strongest).sort(descending=True).values
        cut = float(ordered[self.config.k * len(x)])
        folded = [w.detach() for w in self.weights]
        return self.basis.fold(*folded, k=self.config.k, threshold=cut)


def train_dense(
    batches: list[Float[Tensor, "tokens sides d"]],
    config: Sparse,
    *,
    latents: int,
    heldout: Float[Tensor, "tokens sides d"],
) -> Dictionary:
    """``config.max_steps`` steps over ``batches`` in a circle; the threshold is set on ``heldout``."""
    model = _start(batches, config, latents)
    optimiser = torch.optim.Adam(model.weights, lr=config.lr)
    steps = config.max_steps
    for step in range(steps):
        x = model.basis.forward(batches[step % len(batches)])
        optimiser.zero_grad()
        model.loss(x).backward()
        norm = float(x.square().sum(1).mean().sqrt())
        torch.nn.utils.clip_grad_norm_(model.weights, norm)
        factor = min(1.0, (step + 1) / (0.05 * steps))
        if step >= int(0.8 * steps):
            factor *= 1 - (step - int(0.8 * steps)) / (steps - int(0.8 * steps))
        for group in optimiser.param_groups:
            group["lr"] = config.lr * factor
        optimiser.step()
    return model.calibrated(heldout)


def _start(batches: list[Tensor], config: Sparse, latents: int) -> Dense:
    """Unit rows with both raw sides equal, as the engine starts."""
    sides, d = batches[0].shape[1:]
    basis = Basis(
        Normaliser.estimate(batches[:8]),
        sides,
        config.difference_weight,
        config.ranking,
        rotated=config.basis == "change",
    )
    directions = torch.randn(latents, d, generator=torch.Generator().manual_seed(config.seed))
    device = batches[0].device
    rows = torch.nn.functional.normalize(basis.equal_sides(directions), dim=1).to(device)
    encoder, decoder = (rows.clone().requires_grad_() for _ in range(2))
    bias, out = (torch.zeros(n, device=device, requires_grad=True) for n in (latents, sides * d))
    return Dense(basis, config, encoder, bias, decoder, out, torch.zeros(latents, device=device))
