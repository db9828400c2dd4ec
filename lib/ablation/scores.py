"""Final hidden states against the base run's: divergence, agreement and likelihood per token.

Leaner than ``lib.metrics.divergence.streamed``, which makes both models' logits for every pair and
six measures of them: here one base distribution serves a whole batch of runs, for the two measures
that an ablation needs.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib import models
from lib.ablation.passes import Heard
from lib.ablation.request import NextToken

TOP_TOKENS = 10


class Scores(NamedTuple):
    """Of each run's next-token distributions."""

    kl: Float[Tensor, "batch tokens"]
    """KL(run || base), nats, float64, at least 0; exactly 0 for equal hidden states."""
    agree: Bool[Tensor, "batch tokens"]
    """Whether both give the same token most probability."""


class Judge:
    """The unembedding, in fp32 whatever the model's precision."""

    def __init__(self, loaded: models.LoadedModel) -> None:
        self._weights = loaded.unembedding.detach().float()
        self._cap = loaded.softcap
        self._tokenizer = loaded.tokenizer
        self._chunk = 64 if self._weights.device.type == "cpu" else 512

    @torch.no_grad()
    def logits(self, hidden: Float[Tensor, "tokens d"]) -> Float[Tensor, "tokens vocab"]:
        made = hidden.to(self._weights.device).float() @ self._weights.T
        return made if self._cap is None else made.div_(self._cap).tanh_().mul_(self._cap)

    @torch.no_grad()
    def scores(
        self,
        hidden: Float[Tensor, "batch tokens d"],
        base: Float[Tensor, "tokens d"],
        heard: Heard = lambda: None,
    ) -> Scores:
        """Each run against the base run; ``heard`` is called before each, raising there ends it.

        The terms are q - p - p x with x = log q/p: non-negative one by one, exactly 0 for equal
        logits, and of second order in a rounded normaliser. Each run's logits come from a product
        of the base's own shape, as a kernel may round the rows of a larger one differently.

        Raises:
            ValueError: hidden states that are not finite; names the run and the token.
        """
        _refuse_not_finite(hidden)
        kl, agree = [], []
        for at in range(0, len(base), self._chunk):
            rows = slice(at, at + self._chunk)
            q = self.logits(base[rows].contiguous())
            best = q.argmax(1)
            q -= q.logsumexp(1, keepdim=True)
            mass = q.exp()
            parts = []
            for one in hidden:
                heard()
                parts.append(self._against(one[rows].contiguous(), q, mass, best))
            kl.append(torch.stack([part[0] for part in parts]))
            agree.append(torch.stack([part[1] for part in parts]))
        return Scores(torch.cat(kl, 1), torch.cat(agree, 1))

    def _against(
        self,
        hidden: Float[Tensor, "tokens d"],
        log_q: Float[Tensor, "tokens vocab"],
        q: Float[Tensor, "tokens vocab"],
        best: Int[Tensor, " tokens"],
    ) -> tuple[Float[Tensor, " tokens"], Bool[Tensor, " tokens"]]:
        log_p = self.logits(hidden)
        agree = log_p.argmax(1) == best
        log_p -= log_p.logsumexp(1, keepdim=True)
        x = log_q - log_p
        p = log_p.exp_()
        kl = x.mul_(p).add_(p).sub_(q).sum(1, dtype=torch.float64).neg_()
        return kl.clamp_min_(0.0), agree  # only rounding can fall below 0

    @torch.no_grad()
    def nll(
        self, hidden: Float[Tensor, "tokens d"], following: Int[Tensor, " tokens"]
    ) -> Float[Tensor, " tokens"]:
        """Negative log likelihood of the token that follows each, nats, float64."""
        _refuse_not_finite(hidden[None])
        parts = []
        for at in range(0, len(hidden), self._chunk):
            rows = slice(at, at + self._chunk)
            logits = self.logits(hidden[rows].contiguous())
            wanted = logits.gather(1, following[rows, None].to(logits.device))[:, 0]
            parts.append((logits.logsumexp(1) - wanted).double())
        return torch.cat(parts)

    def next_tokens(self, hidden: Float[Tensor, " d"]) -> tuple[NextToken, ...]:
        """The ten most probable next tokens."""
        best = self.logits(hidden[None])[0].softmax(-1).topk(TOP_TOKENS)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return tuple(NextToken(self._tokenizer.decode([i]), p) for i, p in pairs)


def _refuse_not_finite(hidden: Float[Tensor, "batch tokens d"]) -> None:
    bad = ~torch.isfinite(hidden).all(-1)
    if bad.any():
        run, token = (int(v) for v in bad.nonzero()[0])
        raise ValueError(
            f"the hidden states of run {run} are not finite at scored token {token}: the edit drove "
            "the model out of its range; lower the strength, or run in fp32"
        )
