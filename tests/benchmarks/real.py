"""Paired activations of a finished harvest, as they are or with a change that has no features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lib.activations import Harvest, Stream
from tests.benchmarks.world import Tokens

RANK = 16


@dataclass(frozen=True)
class Real:
    """One layer of ``directory`` (a folder with ``train`` and ``heldout``)."""

    directory: Path
    layer: int
    null: bool
    """Replace the tuned side by base + a random linear map of rank 16 of the base, as large in the
    mean square as the real difference: no latent of it is exclusive."""
    seed: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """d and training tokens."""
        manifest = Harvest.open(self.directory / "train").manifest
        return manifest.d, manifest.tokens


@dataclass
class Changed:
    """A stream whose batches pass through a function."""

    stream: Stream
    change: Callable[[Tensor], Tensor]

    def __iter__(self) -> Iterator[Float[Tensor, "tokens sides d"]]:
        return map(self.change, self.stream)


def draw_real(real: Real, batch: int) -> Tokens:
    """Training batches in the harvest's own type; odd held-out rows set thresholds, even ones test."""
    harvest = Harvest.open(real.directory / "train")
    stream = Stream(harvest, real.layer, batch, real.seed)
    heldout = Harvest.open(real.directory / "heldout").whole(real.layer).float()
    if not real.null:
        return Tokens(stream, heldout[1::2], heldout[::2], None)
    change = low_rank(harvest.shard(0, real.layer).float(), real.seed)
    heldout = change(heldout)
    return Tokens(Changed(stream, change), heldout[1::2], heldout[::2], None)


def low_rank(x: Float[Tensor, "tokens sides d"], seed: int) -> Callable[[Tensor], Tensor]:
    """tuned = base + U V (base - its mean), scaled to the mean square of the difference in ``x``."""
    generator = torch.Generator().manual_seed(seed)
    mean = x[:, 0].mean(0)
    into, out = (torch.randn(RANK, x.shape[2], generator=generator) for _ in range(2))

    def moved(base: Tensor) -> Tensor:
        return ((base - mean) @ into.T) @ out

    scale = ((x[:, 1] - x[:, 0]).square().mean() / moved(x[:, 0]).square().mean()).sqrt()

    def change(batch: Tensor) -> Tensor:
        base = batch[:, 0].float()
        return torch.stack([base, base + scale * moved(base)], dim=1).to(batch.dtype)

    return change
