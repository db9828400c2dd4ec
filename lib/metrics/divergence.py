"""How far apart two next-token distributions are: a plain reference, and without full logits."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.metrics.logits import LogitPair, Running
from lib.metrics.shapes import refuse_shape

_REUSE_BYTES = 128 << 20
"""Logits of one token chunk up to this size are kept for the second pass instead of made again."""


class Divergence(NamedTuple):
    """One float64 value per token, in nats except ``agreement``; p = tuned model, q = base."""

    kl: Float[Tensor, " tokens"]
    """KL(p || q), at least 0."""
    reverse_kl: Float[Tensor, " tokens"]
    """KL(q || p), at least 0."""
    js: Float[Tensor, " tokens"]
    """Jensen-Shannon divergence, in [0, ln 2]."""
    agreement: Float[Tensor, " tokens"]
    """1 where both give the same token most probability, else 0."""
    nll_p: Float[Tensor, " tokens"] | None
    """Negative log likelihood of the target; None without targets."""
    nll_q: Float[Tensor, " tokens"] | None

    @property
    def n(self) -> int:
        """Number of tokens behind each mean."""
        return len(self.kl)

    def means(self) -> dict[str, float]:
        """Token-weighted mean of every measure that was computed.

        Raises:
            ValueError: there are no tokens.
        """
        if not self.n:
            raise ValueError("means of no tokens are not defined; check that the text is not empty")
        named = self._asdict().items()
        return {name: float(value.mean()) for name, value in named if value is not None}


def kl_per_token(
    logits_p: Float[Tensor, "tokens vocab_p"], logits_q: Float[Tensor, "tokens vocab_q"]
) -> Float[Tensor, " tokens"]:
    """KL(p || q) of each token's next-token distributions, in nats: the plain reference.

    In [0, inf]: infinite where p gives mass to a token with logit -inf in q. Logits of -inf in p
    are tokens without mass. NaN where either row is no distribution (NaN, +inf, or all -inf). The
    exact expectation, not an estimate from sampled tokens. Float64 inside.

    Raises:
        ValueError: the vocabularies or the numbers of tokens differ, or no tokens x vocabulary.
    """
    refuse_shape("KL", 2, logits_p=logits_p, logits_q=logits_q)
    if len(logits_p) != len(logits_q):
        raise ValueError(f"logits of {len(logits_p)} and {len(logits_q)} tokens do not pair up")
    _same_vocabulary(logits_p.shape[1], logits_q.shape[1])
    log_p, log_q = (v.double().log_softmax(-1) for v in (logits_p, logits_q))
    p = log_p.exp()
    terms = torch.where(p == 0, 0.0, p * (log_p - log_q))  # lets NaN through, unlike p > 0
    return terms.sum(-1).clamp_min(0.0)  # only rounding can fall below 0


@torch.no_grad()
def streamed(
    hidden_p: Float[Tensor, "tokens d_p"],
    hidden_q: Float[Tensor, "tokens d_q"],
    unembed_p: Float[Tensor, "vocab_p d_p"],
    unembed_q: Float[Tensor, "vocab_q d_q"],
    targets: Int[Tensor, " tokens"] | None = None,
    *,
    token_chunk: int = 64,
    vocab_chunk: int = 2048,
    softcap: float | None = None,
) -> Divergence:
    """Every output measure per token from final hidden states, never holding the full logits.

    Two passes over vocabulary chunks of each token chunk: one for the log-normalisers with
    running maxima, the argmax and the target's logit; one for the divergences, of which
    Jensen-Shannon needs both normalisers. Products in float32 (float64 for float64 inputs), sums
    in float64. Terms are p (e^x - 1 - x), x = log q/p: non-negative one by one, and of second
    order in a rounded normaliser, so identical models give exactly 0 and tiny divergences keep
    their digits. Both models run through separate products of one shape, never one stacked
    product, because a kernel may round rows at the edge of a tile differently.

    Args:
        hidden_p: hidden states of the tuned model after its final norm; hidden_q: the base model's.
        targets: the token that followed, for the negative log likelihoods.
        softcap: logits become softcap * tanh(logits / softcap), as in Gemma.

    Raises:
        ValueError: vocabularies, tokens or widths do not match, hidden states or logits are not
            finite (a logit of -inf has no place here: use ``kl_per_token``), a target is out of
            range, a softcap is not positive, or a chunk is empty.

    Source: online softmax over vocabulary chunks, as in NVIDIA Model-Optimizer's flash_kd.
    """
    refuse_shape("divergence", 2, hidden_p=hidden_p, hidden_q=hidden_q)
    refuse_shape("divergence", 2, unembed_p=unembed_p, unembed_q=unembed_q)
    vocab = _same_vocabulary(len(unembed_p), len(unembed_q))
    _check_tokens(hidden_p, hidden_q, targets, vocab)
    for hidden, unembed in ((hidden_p, unembed_p), (hidden_q, unembed_q)):
        if hidden.shape[1] != unembed.shape[1]:
            raise ValueError(
                f"hidden states of width {hidden.shape[1]} and an unembedding of width "
                f"{unembed.shape[1]} belong to different models"
            )
    if softcap is not None and not (math.isfinite(softcap) and softcap > 0):
        raise ValueError(f"softcap must be a positive number or None, got {softcap}")
    if min(token_chunk, vocab_chunk) < 1:
        raise ValueError(f"chunks of {token_chunk} tokens and {vocab_chunk} logits hold nothing")
    pair = LogitPair(unembed_p, unembed_q, vocab_chunk, softcap)
    parts = []
    for at in range(0, len(hidden_p), token_chunk):
        rows = slice(at, at + token_chunk)
        wanted = None if targets is None else targets[rows]
        parts.append(_token_chunk(hidden_p[rows], hidden_q[rows], pair, wanted))
        _refuse_unbounded(parts[-1].kl + parts[-1].reverse_kl, at)
    if not parts:
        empty = hidden_p.new_zeros(0, dtype=torch.float64)
        return Divergence(*[empty] * 4, *[None if targets is None else empty] * 2)
    fields = zip(*parts, strict=True)
    return Divergence(*(None if f[0] is None else torch.cat(f) for f in fields))


def _token_chunk(p: Tensor, q: Tensor, pair: LogitPair, targets: Tensor | None) -> Divergence:
    of_p, of_q = Running(p, targets), Running(q, targets)
    fits = 8 * len(p) * len(pair.unembed_p) <= _REUSE_BYTES
    chunks = list(pair.logits(p, q)) if fits else None
    for low, a, b in chunks or pair.logits(p, q):
        of_p.add(low, a)
        of_q.add(low, b)
    z_p, z_q = of_p.log_normaliser, of_q.log_normaliser
    sums = torch.zeros(3, len(p), dtype=torch.float64, device=p.device)
    for _, a, b in chunks or pair.logits(p, q):
        sums += _terms(a.sub_(z_p[:, None].to(a.dtype)), b.sub_(z_q[:, None].to(b.dtype)))
    kl, reverse_kl, js = sums.clamp_min_(0.0)  # only rounding can fall below 0
    return Divergence(
        kl,
        reverse_kl,
        js.clamp_max(math.log(2)),
        (of_p.best == of_q.best).double(),
        None if targets is None else z_p - of_p.target_logit,
        None if targets is None else z_q - of_q.target_logit,
    )


def _terms(
    log_p: Float[Tensor, "tokens chunk"], log_q: Float[Tensor, "tokens chunk"]
) -> Float[Tensor, "3 tokens"]:
    """This chunk's part of KL(p||q), KL(q||p) and JS."""
    x = log_q - log_p
    p, q = log_p.exp_(), log_q.exp_()
    grown = torch.expm1(x.clamp(max=60))  # q/p - 1; past the clamp p is below 1e-26
    near = x.abs() < 1
    gap = q - p
    kl = torch.where(near, p * (grown - x), gap - p * x)
    reverse = torch.where(near, p * (x * (grown + 1) - grown), q * x - gap)
    middle = torch.log1p(grown / 2)  # log of mean / p
    js = 0.5 * (q * (x - middle) - p * middle)
    return torch.stack([v.sum(1, dtype=torch.float64) for v in (kl, reverse, js)])


def _same_vocabulary(p: int, q: int) -> int:
    if not p:
        raise ValueError("a vocabulary of no tokens has no distribution; check the unembedding")
    if p != q:
        raise ValueError(
            f"the two models have vocabularies of {p} and {q} tokens; next-token distributions can "
            "only be compared over one vocabulary"
        )
    return p


def _refuse_unbounded(kl: Float[Tensor, " tokens"], start: int) -> None:
    """Whatever is wrong with a logit ends up here: NaN, an overflow, or a mask of -inf."""
    bad = ~torch.isfinite(kl)
    if bad.any():
        raise ValueError(
            f"divergence is not defined because logits are not finite at token "
            f"{start + int(bad.nonzero()[0])} (NaN, overflow of float32, or -inf); check the "
            "unembedding, and pass float64 hidden states if they overflow"
        )


def _check_tokens(p: Tensor, q: Tensor, targets: Tensor | None, vocab: int) -> None:
    if len(p) != len(q):
        raise ValueError(f"hidden states of {len(p)} and {len(q)} tokens do not pair up")
    for name, hidden in (("hidden_p", p), ("hidden_q", q)):
        bad = ~torch.isfinite(hidden).all(1)
        if bad.any():
            raise ValueError(f"{name} is not finite at token {int(bad.nonzero()[0])}")
    if targets is not None and len(targets) != len(p):
        raise ValueError(f"{len(targets)} targets do not fit {len(p)} tokens; give one for each")
    if targets is not None and len(targets):
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= vocab:
            raise ValueError(
                f"targets run from {low} to {high}, outside the vocabulary 0..{vocab - 1}; "
                "drop tokens that have no next token"
            )
