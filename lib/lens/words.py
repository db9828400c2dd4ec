"""Word forms of a vocabulary: " Virtue", "virtue" and "VIRTUE" are one word to a reader.

No torch here, and none in ``relevance``: pages score stored readings.
"""

from typing import Any

import numpy as np
from jaxtyping import Int

MIN_LETTERS = 3
"""Shorter forms are articles, endings and abbreviations in every text."""


def word_classes(
    tokenizer: Any, vocab: int, *, letters: int | None = None
) -> Int[np.ndarray, " vocab"]:
    """Each token's word: the smallest id that spells the same, case and spaces aside.

    -1 for what is no word: special tokens, digits, punctuation, forms of fewer letters.

    Args:
        tokenizer: a transformers tokenizer.
        vocab: rows of the unembedding, which may be more than the tokenizer knows; those are no words.
        letters: fewest of a word; None = three, or 1 for a tokenizer of single characters.
    """
    special = set(tokenizer.all_special_ids)
    known = min(vocab, len(tokenizer))
    spelt = tokenizer.batch_decode([[i] for i in range(known)])
    forms = ["" if i in special else text.strip().casefold() for i, text in enumerate(spelt)]
    if letters is None:
        letters = min(MIN_LETTERS, max(map(len, forms), default=0))
    first: dict[str, int] = {}
    classes = np.full(vocab, -1, np.int64)
    for token, form in enumerate(forms):
        if len(form) >= letters and form.isalpha():
            classes[token] = first.setdefault(form, token)
    return classes


def words_in(
    classes: Int[np.ndarray, " vocab"], tokens: Int[np.ndarray, "*shape"]
) -> Int[np.ndarray, "*shape"]:
    """The words of tokens; -1 (nothing read) stays -1."""
    return np.where(tokens >= 0, classes[tokens], -1)
