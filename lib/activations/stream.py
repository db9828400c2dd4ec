"""Training batches of one layer of a harvest."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lib.activations.shards import Harvest


@dataclass
class Stream:
    """Training batches of one layer: small contiguous blocks in a seeded order, one epoch a pass.

    Blocks of ``block`` rows keep reads contiguous and still mix many documents into each batch.
    """

    harvest: Harvest
    layer: int
    batch: int
    seed: int
    side: int | None = None
    """None = both sides; 0 or 1 = one side, kept as an axis of length 1."""
    block: int = 32
    epoch: int = 0
    """Passes started so far; each has its own order."""
    _ahead: int = 0
    """Batches to leave out of the next pass."""

    def __iter__(self) -> Iterator[Float[Tensor, "tokens sides d"]]:
        sizes = self.harvest.manifest.shards
        self.harvest.read_ahead(self.layer)
        shards = [self.harvest.shard(i, self.layer) for i in range(len(sizes))]
        block = min(self.block, self.batch)
        blocks = [(i, at) for i, n in enumerate(sizes) for at in range(0, n, block)]
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(blocks))
        self.epoch += 1
        ahead, self._ahead = self._ahead, 0
        held: list[Tensor] = []
        rows = 0
        for choice in order:
            shard, start = blocks[choice]
            held.append(shards[shard][start : start + block])
            rows += len(held[-1])
            if rows < self.batch:
                continue
            over = rows - self.batch
            whole, rest = held, held[-1][len(held[-1]) - over :]
            held, rows = [rest], over
            if ahead:
                ahead -= 1
                continue
            yield self._view(torch.cat(whole)[: self.batch])

    def __len__(self) -> int:
        """Batches of one pass; the last rows that fill none are left to other passes."""
        return self.harvest.manifest.tokens // self.batch

    def skip(self, batches: int) -> None:
        """Go to batch ``batches``, counted from the first of the first pass, without reading."""
        self.epoch, self._ahead = divmod(batches, max(1, len(self)))

    def _view(self, x: Tensor) -> Tensor:
        return x if self.side is None else x[:, self.side : self.side + 1]
