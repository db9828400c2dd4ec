"""Logits in vocabulary chunks, and what can be known of a softmax from chunks seen so far."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class LogitPair(NamedTuple):
    """Logits of two models over one vocabulary, made chunk by chunk from hidden states."""

    unembed_p: Tensor
    unembed_q: Tensor
    vocab_chunk: int
    softcap: float | None

    def logits(self, p: Tensor, q: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(first token id, logits of p, logits of q) for each vocabulary chunk."""
        dtype = torch.promote_types(torch.promote_types(p.dtype, q.dtype), torch.float32)
        p, q = p.to(dtype), q.to(dtype)
        for low in range(0, len(self.unembed_p), self.vocab_chunk):
            ids = slice(low, low + self.vocab_chunk)
            a, b = p @ self.unembed_p[ids].to(dtype).T, q @ self.unembed_q[ids].to(dtype).T
            if self.softcap is not None:
                a, b = (v.div_(self.softcap).tanh_().mul_(self.softcap) for v in (a, b))
            yield low, a, b


class Running:
    """Log-normaliser, argmax and target logit of one model over the chunks seen so far."""

    def __init__(self, like: Float[Tensor, "tokens d"], targets: Tensor | None) -> None:
        self.top = like.new_full((len(like),), -math.inf, dtype=torch.float64)
        self.sum = torch.zeros_like(self.top)
        self.best = torch.zeros_like(self.top, dtype=torch.int64)
        self.targets = targets
        self.target_logit = torch.zeros_like(self.top)

    def add(self, low: int, logits: Float[Tensor, "tokens chunk"]) -> None:
        top, best = logits.max(1)
        top = top.double()
        self.best = torch.where(top > self.top, best + low, self.best)
        new = torch.maximum(self.top, top)
        own = (logits - new[:, None].to(logits.dtype)).exp_().sum(1, dtype=torch.float64)
        self.sum = self.sum * (self.top - new).exp() + own
        self.top = new
        if self.targets is not None:
            inside = (self.targets >= low) & (self.targets < low + logits.shape[1])
            place = (self.targets - low).clamp(0, logits.shape[1] - 1).long()
            found = logits.gather(1, place[:, None])[:, 0].double()
            self.target_logit = torch.where(inside, found, self.target_logit)

    @property
    def log_normaliser(self) -> Float[Tensor, " tokens"]:
        return self.top + self.sum.log()
