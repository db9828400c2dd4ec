"""Whose words are these? Read words against the frequent words of each corpus."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import hypergeom


class Relevance(NamedTuple):
    """How many of the read words are a corpus' own."""

    overlap: int
    read: int
    """Distinct words read."""
    share: float
    """overlap / read, in [0, 1]; NaN when nothing was read."""
    expected: float
    """Overlap of as many words drawn from the whole vocabulary at random."""
    p: float
    """Chance that such a draw overlaps at least as much (hypergeometric). The lens never draws at
    random, so a small p says little by itself: compare corpora, and correct for their number."""


def own_words(
    counts: Int[np.ndarray, " vocab"],
    reference: Int[np.ndarray, " _"],
    *,
    size: int = 100,
    stop: int = 100,
) -> Int[np.ndarray, " own"]:
    """A corpus' own frequent words: the ``size`` most frequent that are not everybody's.

    Everybody's are the ``stop`` most frequent of the reference text (articles, auxiliaries). Most
    frequent first, equal counts by id; fewer where the corpus has no more.

    Args:
        counts: how often each word (or token) occurs in the corpus.
        reference: the same in unrelated text.

    Raises:
        ValueError: counts over different vocabularies.

    Source: frequent tokens of the fine-tuning text, as arXiv:2510.13900 gives them to its grader.
    """
    if counts.shape != reference.shape:
        raise ValueError(
            f"own words: counts over vocabularies of {len(counts)} and {len(reference)}; use one "
            "tokenizer for both texts"
        )
    left = counts.copy()
    left[_most_frequent(reference, stop)] = 0
    return _most_frequent(left, size)


def relevance(read: Sequence[int], own: Sequence[int], vocab: int) -> Relevance:
    """Do the words that were read come from the corpus whose own words these are?

    Ids below 0 (no word) do not count and a word read twice counts once. p is 1 when nothing was read
    or the corpus has no word of its own.

    Args:
        vocab: number of distinct words that could have been read.

    Raises:
        ValueError: a vocabulary smaller than what was read or is the corpus' own.
    """
    words, theirs = {i for i in read if i >= 0}, set(own)
    if vocab < max(len(words), len(theirs)):
        raise ValueError(
            f"relevance: {len(words)} words read and {len(theirs)} of the corpus, from a vocabulary "
            f"of {vocab}; give the number of distinct words of the tokenizer"
        )
    overlap, n = len(words & theirs), len(words)
    share = overlap / n if n else float("nan")
    p = float(hypergeom.sf(overlap - 1, vocab, len(theirs), n))
    return Relevance(overlap, n, share, n * len(theirs) / vocab, p)


def confusion(
    readings: Sequence[Sequence[Sequence[int]]], own: Sequence[Sequence[int]]
) -> Float[np.ndarray, "adapters corpora"]:
    """Share of each adapter's read words that are each corpus' own, at the best position.

    In [0, 1]; NaN where nothing was read. One reading holds, for each position, the words read there.
    Every corpus gets its own best position, so a row favours none.

    Source: the best of the positions, as arXiv:2510.13900 scores token relevance.
    """
    found = np.full((len(readings), len(own)), np.nan)
    for row, positions in enumerate(readings):
        kept = [words for words in ({i for i in p if i >= 0} for p in positions) if words]
        for column, theirs in enumerate(map(set, own)):
            if kept:
                found[row, column] = max(len(words & theirs) / len(words) for words in kept)
    return found


def _most_frequent(counts: Int[np.ndarray, " vocab"], size: int) -> Int[np.ndarray, " _"]:
    """Ids by falling count, those that occur only."""
    order = np.argsort(-counts, kind="stable")[:size]
    return order[counts[order] > 0]
