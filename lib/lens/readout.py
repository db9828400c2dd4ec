"""Which tokens a difference stands for: the logit lens."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
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
