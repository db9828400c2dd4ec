"""Is generated text still text? A local measure: repetition, and the base model's loss.

A continuation is coherent when

* at least half of its neighbouring token pairs are distinct (``DISTINCT``),
* no token stands more than four times in a row (``RUN``), and
* the base model's mean loss per token, after the same prompt, is at most a bound: the 95 % quantile of
  the losses of continuations that the tuned model wrote without steering (``loss_bound``), so that text
  as unlikely as the unlikeliest twentieth of its own passes, and text that is more so does not.

Loss alone would pass loops, which are likely; repetition alone would pass word salad. The measure knows
nothing of sense or truth: grammatical nonsense is coherent here. Sources steer by a language model's
judgement instead (arXiv:2510.13900).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lib.models import LoadedModel

WANTED = 0.8
"""Share of samples that must be coherent, of the source."""
DISTINCT = 0.5
RUN = 4
LOSS_QUANTILE = 0.95
FEWEST = 4
"""Shorter continuations say nothing about coherence and are not coherent."""

FIRST, LEAST, MOST, HALVINGS = 0.25, 1 / 64, 64.0, 2
MOST_ROUNDS = round(math.log2(MOST / FIRST)) + 1 + HALVINGS
_ROWS = 16


class Search(NamedTuple):
    """What ``largest_coherent`` found, and what it tried, in order."""

    coefficient: float
    tried: tuple[float, ...]
    shares: tuple[float, ...]


def largest_coherent(share_at: Callable[[float], float], wanted: float = WANTED) -> Search:
    """Largest coefficient with at least ``wanted`` coherent samples, to a factor of 2 ** (1 / 4).

    From 1/4 by doubling or halving, within 1/64 and 64, to the first two neighbours between which
    text stops being coherent; then two bisections on the logarithm. Steps are ratios because streams
    differ: with a few giant coordinates eta is large, and 1 is far beyond what any text survives.
    Where coherence does not fall steadily this is one of its crossings.

    Args:
        share_at: share of coherent samples at a coefficient, 0..1.

    Returns:
        coefficient 0 when none tried was coherent, 64 when all were.
    """
    found: dict[float, float] = {}

    def passes(coefficient: float) -> bool:
        found[coefficient] = share_at(coefficient)
        return found[coefficient] >= wanted

    low = high = FIRST
    if passes(FIRST):
        while (high := 2 * low) <= MOST and passes(high):
            low = high
    else:
        while (low := high / 2) >= LEAST and not passes(low):
            high = low
    if low >= LEAST and high <= MOST:
        for _ in range(HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if passes(middle) else (low, middle)
    return Search(low if low >= LEAST else 0.0, tuple(found), tuple(found.values()))


def distinct_pairs(ids: Sequence[int]) -> float:
    """Distinct pairs of neighbouring tokens over all such pairs, 0..1; NaN under two tokens."""
    pairs = list(pairwise(ids))
    return len(set(pairs)) / len(pairs) if pairs else math.nan


def longest_run(ids: Sequence[int]) -> int:
    """Most times that one token stands in a row; 0 without tokens."""
    longest = current = 0
    for at, token in enumerate(ids):
        current = current + 1 if at and ids[at - 1] == token else 1
        longest = max(longest, current)
    return longest


def is_coherent(ids: Sequence[int], loss: float, bound: float) -> bool:
    """By the three criteria above; False for a loss that is NaN or fewer than four tokens.

    Args:
        ids: the continuation's tokens, without the end token.
        loss: the base's mean loss on them, nats per token.
        bound: of ``loss_bound``.
    """
    if len(ids) < FEWEST or longest_run(ids) > RUN:
        return False
    return distinct_pairs(ids) >= DISTINCT and loss <= bound


def loss_bound(losses: Sequence[float], vocab: int) -> float:
    """Highest loss of coherent text: 95 % quantile of unsteered losses, at most ln(vocab).

    ln(vocab) is the loss of a uniform guess: text that the base finds no likelier is noise, even if
    unsteered text is no better. NaN when no loss is finite, so that nothing is coherent.
    """
    finite = [x for x in losses if math.isfinite(x)]
    if not finite:
        return math.nan
    quantile = torch.tensor(finite, dtype=torch.float64).quantile(LOSS_QUANTILE)
    return min(float(quantile), math.log(vocab))


@torch.no_grad()
def base_losses(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
) -> list[float]:
    """The base's mean loss on each continuation after its prompt, nats per token.

    NaN for an empty continuation.

    Args:
        loaded: its adapter is switched off meanwhile.
        prompts: token ids with BOS in front, one prompt per continuation.
    """
    losses: list[float] = []
    for start in range(0, len(continuations), _ROWS):
        part = slice(start, start + _ROWS)
        pairs = list(zip(prompts[part], continuations[part], strict=True))
        whole = [torch.tensor([*before, *after]) for before, after in pairs]
        ids = pad_sequence(whole, batch_first=True).to(loaded.device)  # causal: padding is not seen
        with loaded.as_base():
            hidden = loaded.causal_lm.model(ids, use_cache=False).last_hidden_state
        for row, (before, after) in enumerate(pairs):
            predicts = hidden[row, len(before) - 1 : len(before) + len(after) - 1]
            losses.append(_mean_loss(loaded.logits(predicts), after))
    return losses


def _mean_loss(logits: Tensor, tokens: Sequence[int]) -> float:
    if not tokens:
        return math.nan
    wanted = torch.tensor(tokens, device=logits.device)
    return float(torch.nn.functional.cross_entropy(logits, wanted))
