"""Which tokens a difference stands for, as the model itself reads it: Patchscope.

In the middle of a prompt that makes the model repeat words, the stream of the last token is replaced
by the vector; what the model says next is the reading. It depends on the vector's length, so many
scales are tried and one is chosen per vector, knowing neither the corpus nor the other vectors.

The rule: the largest product of agreement and coherence.

* agreement: sum over tokens of the least probability that any of the prompts gives, 0..1. The prompts
  share nothing but the vector, so what all of them say comes from it.
* coherence: of the words among the top tokens (distinct, not the prompts' own), the mean cosine of
  every two unembedding rows (less the vocabulary's mean row), times the words' share of the tokens.

Agreement alone is no rule: a vector far longer than the stream drowns everything later, so every prompt
ends in the same few tokens, for a random vector too. A judge of coherence is what the source has.

Source: arXiv:2510.13900 (prompts, scales, intersection; a language model chooses the scale there);
Ghandeharioun et al. 2024, arXiv:2401.06102 (Patchscopes).
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.lens.passes import edited
from lib.lens.words import word_classes
from lib.models import LoadedModel

PROMPTS = (
    "man -> man\n1135 -> 1135\nhello -> hello\n?",
    "bear -> bear\n42 -> 42\nblue -> blue\n?",
    "921 -> 921\ntarget -> target\nanna -> anna\n?",
)
SCALES = (
    *(tenth / 10 for tenth in range(5, 21)),
    *(3.0, 4.0, 5.0, 10.0),
    *(20.0 * step for step in range(1, 11)),
)
COMMON, COMMON_SHARE = 16_384, 1 / 8
"""Tokens of each prompt that may be read: 16,384 as in the source, whose vocabularies have eight to
nine times as many; of a smaller vocabulary the same eighth."""
_FEWEST_WORDS = 3


class PatchscopeReading(NamedTuple):
    """Tokens of each vector, most probable first; ids -1 and NaN where there is nothing to read."""

    ids: Int[Tensor, "positions k"]
    """-1 too where the prompts have fewer than k tokens in common."""
    shares: Float[Tensor, "positions k"]
    """Mean probability over the prompts."""
    scale: Float[Tensor, " positions"]
    """Length of the vector that was read, over eta."""
    score: Float[Tensor, " positions"]
    """Agreement times coherence at that scale, at most 1; 0 = no scale gives words."""
    scores: Float[Tensor, "positions scales"]
    every: Int[Tensor, "positions scales k"]
    """``ids`` at every scale that was tried."""


class _Prefix(NamedTuple):
    """A prompt up to its last token, already read."""

    last: Int[Tensor, "1 1"]
    cache: Any


@torch.no_grad()
def patchscope(
    loaded: LoadedModel,
    vectors: Float[Tensor, "positions d"],
    eta: float,
    layer: int,
    k: int = 20,
    scales: Sequence[float] = SCALES,
    classes: Int[np.ndarray, " vocab"] | None = None,
) -> PatchscopeReading:
    """Top tokens that the tuned model reads in each vector at the stream after block ``layer``.

    Args:
        loaded: with its adapter on.
        vectors: mean differences; only their directions count. One that is 0 or NaN is not read.
        eta: mean norm of the tuned model's stream there, past the first positions.
        scales: lengths to try, over eta; the smallest of equally good ones is taken.
        classes: each token's word, of ``word_classes`` (made here when it is not given).

    Raises:
        ValueError: eta or a scale is not a positive number, or there is no scale.
    """
    if not scales or not all(0 < x < float("inf") for x in (eta, *scales)):
        raise ValueError(
            f"patchscope: eta {eta} and scales {tuple(scales)} must be positive numbers; take eta "
            "from the tuned model's stream at that block"
        )
    if classes is None:
        classes = word_classes(loaded.tokenizer, len(loaded.unembedding))
    prefixes = [_read(loaded, prompt) for prompt in PROMPTS]
    own = _own_words(loaded.tokenizer, classes)
    rows = centred_rows(loaded.unembedding)
    shape = (len(vectors), min(k, len(classes)))
    ids, shares = torch.full(shape, -1), torch.full(shape, torch.nan)
    every = torch.full((len(vectors), len(scales), shape[1]), -1)
    scores = torch.full((len(vectors), len(scales)), torch.nan)
    best = torch.zeros(len(vectors), dtype=torch.int64)
    for at, vector in enumerate(vectors.float()):
        if not vector.norm() > 0:
            continue
        streams = torch.tensor(scales)[:, None] * eta * (vector / vector.norm()).cpu()
        said = torch.stack([next_tokens(loaded, layer, p, streams) for p in prefixes])
        tokens, probabilities = in_common(said, shape[1])
        agreement = said.amin(0).sum(1).cpu()
        coherence = [coherence_of(line, classes, own, rows) for line in tokens]
        scores[at] = agreement * torch.tensor(coherence)
        best[at] = scores[at].argmax()
        every[at], ids[at], shares[at] = tokens, tokens[best[at]], probabilities[best[at]]
    score = scores.gather(1, best[:, None])[:, 0]
    scale = torch.tensor(scales)[best].masked_fill(score.isnan(), torch.nan)
    return PatchscopeReading(ids, shares, scale, score, scores, every)


def _read(loaded: LoadedModel, prompt: str) -> _Prefix:
    from transformers import DynamicCache

    coded = loaded.tokenizer(prompt, add_special_tokens=False).input_ids
    ids = torch.tensor([[loaded.tokenizer.bos_token_id, *coded]], device=loaded.device)
    cache = DynamicCache(config=loaded.causal_lm.config)
    loaded.causal_lm.model(ids[:, :-1], past_key_values=cache, use_cache=True)
    return _Prefix(ids[:, -1:], cache)


def next_tokens(
    loaded: LoadedModel, layer: int, prefix: _Prefix, streams: Float[Tensor, "rows d"]
) -> Float[Tensor, "rows vocab"]:
    """Probabilities after the prompt whose last token's stream after block ``layer`` is each row.

    The prefix is shared, so only that token goes through the model, once per row.
    """
    cache = deepcopy(prefix.cache)
    cache.batch_repeat_interleave(len(streams))
    given = streams.to(loaded.device, loaded.dtype)[:, None]
    with edited(loaded, layer, lambda stream: given.to(stream.device)):
        run = loaded.causal_lm.model(
            prefix.last.expand(len(streams), 1), past_key_values=cache, use_cache=True
        )
    return loaded.logits(run.last_hidden_state[:, -1]).softmax(1)


def in_common(
    said: Float[Tensor, "prompts rows vocab"], k: int
) -> tuple[Int[Tensor, "rows k"], Float[Tensor, "rows k"]]:
    """Tokens among the most probable of every prompt, with their mean probability, largest first.
    Ids -1 and NaN past the last of them."""
    vocab = said.shape[2]
    size = max(1, min(COMMON, int(vocab * COMMON_SHARE)))
    among = torch.zeros_like(said, dtype=torch.bool).scatter_(2, said.topk(size).indices, True)
    mean = said.mean(0).masked_fill(~among.all(0), -1.0)
    best = mean.topk(k)
    nothing = best.values < 0
    ids = best.indices.masked_fill(nothing, -1)
    return ids.cpu(), best.values.masked_fill(nothing, torch.nan).cpu()


def centred_rows(unembedding: Float[Tensor, "vocab d"]) -> Float[Tensor, "vocab d"]:
    """Unit rows of the unembedding less their mean, which all tokens share; float32."""
    rows = unembedding.detach().float()
    return torch.nn.functional.normalize(rows - rows.mean(0), dim=1)


def coherence_of(
    tokens: Int[Tensor, " k"],
    classes: Int[np.ndarray, " vocab"],
    apart: Iterable[int],
    rows: Float[Tensor, "vocab d"],
) -> float:
    """How much the words among tokens belong together, times their share of the tokens, -1..1.

    Forms of one word count once, words ``apart`` not at all; 0 with fewer than three words.
    """
    first: dict[int, int] = {}
    for token in tokens.tolist():
        if token >= 0 and classes[token] >= 0:
            first.setdefault(int(classes[token]), token)
    kept = [token for word, token in first.items() if word not in set(apart)]
    n = len(kept)
    if n < _FEWEST_WORDS:
        return 0.0
    unit = rows[kept]
    cosines = unit @ unit.T
    return float((cosines.sum() - cosines.trace()) / (n * (n - 1))) * n / len(tokens)


def _own_words(tokenizer: Any, classes: Int[np.ndarray, " vocab"]) -> set[int]:
    """Words of the prompts, which the model may just repeat."""
    spelt = tokenizer([*PROMPTS, " ".join(PROMPTS)], add_special_tokens=False).input_ids
    return {int(classes[token]) for ids in spelt for token in ids}
