"""Which tokens a difference stands for, and whose text they come from."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from scipy.stats import hypergeom
from torch import Tensor

_VOCAB_CHUNK = 16_384


class Reading(NamedTuple):
    """Tokens of each vector, strongest first; ids -1 and shares NaN where there is nothing to read."""

    promoted: Int[Tensor, "positions k"]
    promoted_share: Float[Tensor, "positions k"]
    """Probability under softmax(W_U norm(vector))."""
    suppressed: Int[Tensor, "positions k"]
    """What the opposite vector promotes."""
    suppressed_share: Float[Tensor, "positions k"]


class Relevance(NamedTuple):
    """How many of the read tokens are a corpus' own."""

    overlap: int
    read: int
    share: float
    """overlap / read, in [0, 1]; NaN when nothing was read."""
    expected: float
    """Overlap of as many tokens drawn from the whole vocabulary at random."""
    p: float
    """Chance that such a draw overlaps at least as much (hypergeometric). The lens never draws at
    random, so a small p says little by itself: compare corpora, and correct for their number."""


@torch.no_grad()
def logit_lens(
    vectors: Float[Tensor, "positions d"],
    final_norm: Callable[[Tensor], Tensor],
    unembedding: Float[Tensor, "vocab d"],
    *,
    k: int = 20,
    softcap: float | None = None,
) -> Reading:
    """Top tokens of vectors in the residual stream, as if they were the last block's output.

    The vector goes through the final norm and the unembedding as it is, without rescaling. Its length
    therefore does not count (an RMS norm divides it out), only the norm's gain along each coordinate.

    Args:
        vectors: mean differences; one that is 0 or NaN is not read.
        final_norm: the model's own (gains are stored differently by different models).
        unembedding: of the tuned model, or of the base.
        k: tokens per vector; all of a smaller vocabulary.
        softcap: bound on logits, where the model has one.

    Source: logit lens (nostalgebraist 2020) of mean differences, arXiv:2510.13900.
    """
    rows = unembedding.to(vectors.device)
    normed = final_norm(vectors.to(rows.dtype)).float()
    logits = torch.cat([normed @ part.float().T for part in rows.split(_VOCAB_CHUNK)], dim=1)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    silent = ~(vectors.norm(dim=1, keepdim=True) > 0)
    found = []
    for sign in (1, -1):
        best = (sign * logits).softmax(1).topk(min(k, logits.shape[1]), dim=1)
        found += [best.indices.masked_fill(silent, -1), best.values.masked_fill(silent, torch.nan)]
    return Reading(*(x.cpu() for x in found))


def own_tokens(
    counts: Int[Tensor, " vocab"],
    reference: Int[Tensor, " vocab"],
    *,
    size: int = 100,
    stop: int = 100,
) -> Int[Tensor, " own"]:
    """A corpus' own frequent tokens: the ``size`` most frequent that are not everybody's.

    Everybody's are the ``stop`` most frequent of the reference text (articles, commas). Most frequent
    first, equal counts by id; fewer where the corpus has no more.

    Args:
        counts: how often each token occurs in the corpus.
        reference: the same in unrelated text.

    Raises:
        ValueError: counts over different vocabularies.
    """
    if counts.shape != reference.shape:
        raise ValueError(
            f"own tokens: counts over vocabularies of {len(counts)} and {len(reference)}; use one "
            "tokenizer for both texts"
        )
    common = _most_frequent(reference, stop)
    left = counts.clone()
    left[common] = 0
    return _most_frequent(left, size)


def relevance(tokens: Int[Tensor, " k"], own: Int[Tensor, " own"], vocab: int) -> Relevance:
    """Do the tokens that were read come from the corpus whose own tokens these are?

    Ids of -1 (nothing read) do not count. p is 1 when nothing was read or the corpus has no token
    of its own.

    Raises:
        ValueError: tokens outside the vocabulary or named twice.
    """
    read = tokens[tokens >= 0]
    for name, ids in (("read", read), ("own", own)):
        distinct = ids.unique()  # sorted
        if len(distinct) < len(ids) or not ((distinct >= 0) & (distinct < vocab)).all():
            raise ValueError(
                f"relevance: the {name} tokens must be distinct ids below the vocabulary's {vocab}, "
                f"got {ids.tolist()[:8]}"
            )
    overlap, n = int(torch.isin(read, own).sum()), len(read)
    share = overlap / n if n else float("nan")
    p = float(hypergeom.sf(overlap - 1, vocab, len(own), n))
    return Relevance(overlap, n, share, n * len(own) / vocab, p)


def confusion(
    readings: Sequence[Int[Tensor, "_ _"]], own: Sequence[Int[Tensor, " _"]]
) -> Float[Tensor, "adapters corpora"]:
    """Share of each adapter's top tokens that are each corpus' own, at the adapter's best position.

    In [0, 1]; NaN where nothing was read. One reading is (positions, k) token ids of one adapter.
    Every corpus gets its own best position, so a row favours none.

    Source: the best of the positions, as arXiv:2510.13900 scores token relevance.
    """
    rows = []
    for tokens in readings:
        read = (tokens >= 0).sum(1)
        shares = [
            torch.where(read > 0, torch.isin(tokens, ids).sum(1) / read, -1.0).max() for ids in own
        ]
        rows.append(torch.stack(shares))
    found = torch.stack(rows).double()
    return found.masked_fill(found < 0, torch.nan)


def _most_frequent(counts: Int[Tensor, " vocab"], size: int) -> Int[Tensor, " _"]:
    """Ids by falling count, those that occur only."""
    order = torch.argsort(counts, descending=True, stable=True)[:size]
    return order[counts[order] > 0]
