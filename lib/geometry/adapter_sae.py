"""A sparse autoencoder of an adapter's deltas: the same ``Dictionary``, one side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.config import Sparse
from lib.metrics.inputs import refuse_not_finite
from lib.sparse import Dictionary, TrainingLog, train
from lib.sparse.basis import Normaliser


class AdapterSAE(NamedTuple):
    """A dictionary of deltas in raw units, and how it came to be."""

    dictionary: Dictionary
    log: TrainingLog
    mean_norm: float
    """Mean L2 norm of the training deltas. arXiv:2605.28896 divides by this and calls it sigma_RMS."""
    rms_norm: float
    """Root mean square of the norms, which is larger unless all are equal."""


@dataclass
class Shuffled:
    """Training batches of deltas in memory: a seeded order each pass, the last rows left to others."""

    delta: Float[Tensor, "tokens d"]
    batch: int
    seed: int
    epoch: int = 0
    _ahead: int = 0

    def __iter__(self) -> Iterator[Float[Tensor, "batch sides d"]]:
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.delta), generator=draw)
        self.epoch += 1
        ahead, self._ahead = self._ahead, 0
        for number in range(ahead, len(self)):
            rows = order[number * self.batch : (number + 1) * self.batch]
            yield self.delta[rows, None]

    def __len__(self) -> int:
        return len(self.delta) // self.batch

    def skip(self, batches: int) -> None:
        """Go to batch ``batches``, counted from the first of the first pass."""
        self.epoch, self._ahead = divmod(batches, max(1, len(self)))


def train_on_deltas(
    delta: Float[Tensor, "tokens d"],
    config: Sparse,
    *,
    latents: int,
    heldout: Float[Tensor, "heldout d"] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, str], None] = lambda step, note: None,
) -> AdapterSAE:
    """``lib.sparse.train`` on deltas.

    Scaling: the deltas' mean is taken off and what is left divided by sqrt(variance / d), as for every
    dictionary here, estimated on all training deltas and folded back into the weights. The paper
    divides by ``mean_norm`` and keeps the mean, for its bias to learn. Scale changes the path of the
    optimiser, not what a dictionary can say; the offset comes for free here, as in every baseline of
    ``fits`` that has a mean.

    More latents than the text supports overfit (``config.min_tokens_per_latent``); read held-out FVE
    against PCA with the same k.

    Raises:
        ValueError: fewer tokens than a batch; deltas that are constant over tokens, such as those of
            an adapter with B = 0 (there is nothing to learn); see ``lib.sparse.train``.
    """
    refuse_not_finite("the adapter SAE", "delta", delta)
    if len(delta) < config.batch:
        raise ValueError(
            f"{len(delta)} tokens of deltas do not fill one batch of {config.batch}; use more text"
        )
    norms = delta.double().norm(dim=1)
    made, log = train(
        Shuffled(delta, config.batch, config.seed),
        config,
        latents=latents,
        heldout=None if heldout is None else heldout[:, None],
        normaliser=Normaliser.estimate([delta[:, None]]),
        checkpoint=checkpoint,
        progress=progress,
    )
    return AdapterSAE(made, log, float(norms.mean()), float(norms.square().mean().sqrt()))
