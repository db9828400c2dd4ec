"""Weights and optimiser state of one dictionary in training, and one step of it.

On a GPU no step waits for the host: selection and AuxK use shapes known in advance, and divergence
is looked for only when the state is read (``check``). On CPU the cheaper data-dependent forms run.
"""

from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lib.config import Sparse
from lib.sparse.basis import Basis
from lib.sparse.dictionary import Dictionary
from lib.sparse.step import (
    Active,
    Weights,
    add_aux,
    gradients,
    merged,
    reconstruct,
    scores,
    select,
    select_fixed,
)

ANNEAL_SHARE = 0.1
"""Share of the planned steps over which k falls from ``anneal_from`` to ``k``."""
DEAD_AT_ONCE = 2_048
"""With fixed shapes: how many of the longest silent latents AuxK may revive per step."""
SLOW = 0.02
"""Weight of a new batch in the running mean of thresholds."""


class Trainer:
    """Everything a step changes. ``fixed`` = shapes known in advance (any device but the CPU)."""

    def __init__(
        self,
        basis: Basis,
        d: int,
        latents: int,
        config: Sparse,
        device: torch.device,
        fixed: bool | None = None,
    ) -> None:
        self.basis, self.config, self.d = basis, config, d
        self.fixed = device.type != "cpu" if fixed is None else fixed
        # Both raw sides start equal, so identical models stay identical (symmetric gradients).
        generator = torch.Generator().manual_seed(config.seed)
        start = basis.equal_sides(torch.randn(latents, d, generator=generator))
        start = torch.nn.functional.normalize(start, dim=1).to(device)
        self.weights = Weights(
            encoder=start.clone(),
            encoder_bias=torch.zeros(latents, device=device),
            decoder=start,
            decoder_bias=torch.zeros(basis.sides * d, device=device),
        )
        self.optimiser = torch.optim.Adam(list(self.weights), lr=config.lr, fused=True)
        self.low = torch.bfloat16
        self.blocks = _blocks(config, latents, basis.sides)
        self.guess = [0.0 for _ in self.blocks]
        self.thresholds = torch.zeros(len(self.blocks), device=device)
        """Slow means of the batches' thresholds: what the dictionary is watched with."""
        self.silent = torch.zeros(latents, device=device)
        """Tokens since each latent last fired."""
        self.patience = config.dead_after * config.max_steps * config.batch
        self.steps = 0
        self.loss = torch.zeros((), device=device)
        """Squared error over variance on the last batch, in training space."""
        self.worst = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, x: Float[Tensor, "tokens wide"], lr: float) -> None:
        """One batch in training space: select, reconstruct, gradients, clip, Adam."""
        weights = self.weights
        pre = scores(x.to(self.low), weights, self.low)
        active = self._select(pre, self.basis.ranking_norms(weights.decoder))
        error = reconstruct(active, weights, len(x)) - x
        grads = gradients(x, error, active, weights)
        power = x.square().sum(1).mean()
        self._count(active, len(x))
        self._revive(grads, x, -error, pre, self.config.aux_weight * power)
        tied = self._tied
        if tied:
            grads.decoder[:tied, self.d :] = 0.0
        self._watch(x, error, power)
        norm = torch.stack(torch._foreach_norm(list(grads))).norm()
        shrink = (power.sqrt() / (norm + 1e-6 * power.sqrt())).clamp(max=1.0)
        torch._foreach_mul_(list(grads), shrink)
        for parameter, grad in zip(weights, grads, strict=True):
            parameter.grad = grad
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        for parameter in weights:
            parameter.grad = None
        if self.config.unit_decoder:
            size = weights.decoder.norm(dim=1).clamp_min(1e-12)
            weights.decoder.div_(size[:, None])
            weights.encoder.mul_(size[:, None])
            weights.encoder_bias.mul_(size)
        self.steps += 1

    @property
    def _tied(self) -> int:
        """How many latents, the first ones, keep equal decoders: no part along the difference."""
        return int(self.config.tied * len(self.silent)) if self.basis.sides == 2 else 0

    def _select(
        self, pre: Float[Tensor, "tokens latents"], norms: Float[Tensor, " latents"]
    ) -> Active:
        extra = self._extra_k()
        found = []
        for i, (start, stop, k) in enumerate(self.blocks):
            part, k = pre[:, start:stop], k + round(extra * k / self.config.k)
            if self.fixed:
                found.append(select_fixed(part, norms[start:stop], k))
            else:
                found.append(select(part, norms[start:stop], k, self.guess[i]))
                self.guess[i] = float(found[-1].threshold)
        cuts = torch.stack([f.threshold for f in found])
        weight = SLOW if self.steps and not extra else 1.0
        self.thresholds += (cuts - self.thresholds) * weight
        return merged(found, [b[0] for b in self.blocks]) if len(found) > 1 else found[0]

    def _extra_k(self) -> int:
        """How much more than k latents fire while k is annealed."""
        config = self.config
        over = max(1, int(ANNEAL_SHARE * config.max_steps))
        left = max(0.0, 1 - self.steps / over)
        return round(max(0, config.anneal_from - config.k) * left)

    def _count(self, active: Active, tokens: int) -> None:
        fired = torch.zeros_like(self.silent).index_add_(
            0, active.latent, (active.value > 0).float()
        )
        self.silent = torch.where(fired > 0, 0.0, self.silent + tokens)

    def _revive(
        self, grads: Weights, x: Tensor, residual: Tensor, pre: Tensor, weight: Tensor
    ) -> None:
        if not self.fixed:
            dead = (self.silent > self.patience).nonzero(as_tuple=True)[0]
            if len(dead):
                add_aux(grads, x, residual, pre, self.weights, dead, weight)
            return
        silent, dead = torch.topk(self.silent, min(DEAD_AT_ONCE, len(self.silent)))
        counts = (silent > self.patience).float()
        add_aux(grads, x, residual, pre, self.weights, dead, weight, counts)

    def _watch(self, x: Tensor, error: Tensor, power: Tensor) -> None:
        """Remember the loss, and the worst since the last check (NaN stays NaN)."""
        variance = power - x.mean(0).square().sum()
        squared = error.square().sum(1).mean()
        # One token has no variance; what is not a number must stay one, so that it is found.
        self.loss = torch.where(variance == 0, squared / power.clamp_min(1e-30), squared / variance)
        self.worst = torch.maximum(self.worst, self.loss)
        if not self.fixed:
            self.check()

    def check(self) -> None:
        """Raise if training diverged since the last check.

        Raises:
            ValueError: a loss that is not a number, or above 1e6.
        """
        worst = float(self.worst)
        if worst != worst or worst > 1e6:
            raise ValueError(
                f"dictionary training diverged at step {self.steps + 1} (relative error {worst:g}): "
                "the input holds NaN or infinity there, or `sparse.lr` is too high; the last "
                "checkpoint is kept"
            )
        self.worst = torch.zeros_like(self.worst)

    def dead_share(self) -> float:
        return float((self.silent > self.patience).float().mean())

    def folded(self, thresholds: Float[Tensor, " blocks"] | None = None) -> Dictionary:
        """The dictionary in raw units as of now, with the running thresholds unless others."""
        by_block = self.thresholds if thresholds is None else thresholds
        sizes = torch.tensor([stop - start for start, stop, _ in self.blocks])
        device = self.silent.device
        each = by_block.to(device).repeat_interleave(sizes.to(device))
        return self.basis.fold(*self.weights, k=self.config.k, threshold=each)

    @torch.no_grad()
    def calibrated(self, x: Float[Tensor, "tokens sides d"]) -> Dictionary:
        """With thresholds at which each block's k latents fire per token of ``x`` on average."""
        open_ = self.folded(torch.zeros(len(self.blocks)))
        norms = self.basis.ranking_norms(self.weights.decoder)
        kept: list[list[Tensor]] = [[] for _ in self.blocks]
        for part in x.split(2048):
            scored = open_.encode(part.to(norms.device).float()) * norms
            for strongest, (start, stop, k) in zip(kept, self.blocks, strict=True):
                block = scored[:, start:stop].flatten()
                strongest.append(torch.topk(block, min(len(block), 8 * k * len(part))).values)
        cuts = []
        for strongest, (_, _, k) in zip(kept, self.blocks, strict=True):
            ordered = torch.cat(strongest).sort(descending=True).values
            cuts.append(ordered[min(k * len(x), len(ordered) - 1)])
        return self.folded(torch.stack(cuts))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values from which ``restore`` continues to the same bits."""
        tensors = {f"weights.{n}": w for n, w in self.weights._asdict().items()}
        for name, weight in self.weights._asdict().items():
            for key, value in self.optimiser.state[weight].items():
                tensors[f"adam.{name}.{key}"] = value
        tensors |= {"thresholds": self.thresholds, "silent": self.silent, "loss": self.loss}
        basis = self.basis
        tensors["mean"] = basis.normaliser.mean
        facts = {"steps": self.steps, "guess": self.guess, "scale": basis.normaliser.scale}
        return tensors, facts | self.described()

    def described(self) -> dict[str, Any]:
        """What two trainers must share for one to continue the other."""
        return {
            "config": asdict(self.config),
            "sides": self.basis.sides,
            "d": self.d,
            "latents": len(self.silent),
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what ``state`` returned for a trainer made with the same arguments."""
        for name, weight in self.weights._asdict().items():
            weight.copy_(tensors[f"weights.{name}"])
            start = f"adam.{name}."
            state = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            self.optimiser.state[weight] = {k: v.to(weight.device) for k, v in state.items()}
        device = self.silent.device
        self.thresholds = tensors["thresholds"].to(device)
        self.silent, self.loss = tensors["silent"].to(device), tensors["loss"].to(device)
        self.steps, self.guess = facts["steps"], list(facts["guess"])


def _blocks(config: Sparse, latents: int, sides: int) -> list[tuple[int, int, int]]:
    """(first latent, one past the last, k) of every block within which latents compete."""
    tied = int(config.tied * latents)
    if sides == 1 or not config.untied_k:
        return [(0, latents, config.k)]
    if tied < config.k - config.untied_k or latents - tied < config.untied_k:
        raise ValueError(
            f"of {latents} latents `tied` makes {tied} tied and {latents - tied} untied, too few for "
            f"{config.k - config.untied_k} and {config.untied_k} of them per token; change "
            "`sparse.tied` or `sparse.untied_k`"
        )
    return [(0, tied, config.k - config.untied_k), (tied, latents, config.untied_k)]
