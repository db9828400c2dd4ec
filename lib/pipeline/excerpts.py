"""Which part of which held-out documents the standard ablation reads."""

from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from lib.corpora import Document


class Excerpt(NamedTuple):
    """A part of a document."""

    document: str
    """Its id."""
    start: int
    """First token of the document that is read."""
    text: str
    """From there to the document's end."""


def excerpts(
    documents: list[Document], tokenizer: Any, *, count: int, tokens: int, drop: int, seed: int
) -> list[Excerpt]:
    """Of documents at random, those that fill the limit before shorter ones.

    A document is read from its start; one with a response from ``tokens // 2`` tokens before that,
    because its beginning is often the same template in every document.

    Args:
        count: at most so many.
        tokens: so many of each will be read.
        drop: documents with no more tokens than this are left out, as none of them would be scored.
    """
    found = []
    for at in np.random.default_rng(seed).permutation(len(documents)):
        start, text = _part(documents[at], tokenizer, tokens)
        length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if length > drop and text.strip():
            found.append((min(length, tokens), Excerpt(documents[at].id, start, text)))
    found.sort(key=lambda one: -one[0])  # stable: the order of the draw among equals
    return [excerpt for _, excerpt in found[:count]]


def _part(document: Document, tokenizer: Any, tokens: int) -> tuple[int, str]:
    """First token and text of the excerpt."""
    answer = document.responses[0][0] if document.responses else document.response_start
    if answer is None:
        return 0, document.text
    coded = tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True)
    ends = list(accumulate((end for _, end in coded["offset_mapping"]), max))
    first = next((i for i, end in enumerate(ends) if end > answer), len(ends))
    start = max(0, first - tokens // 2)
    return start, document.text[ends[start - 1] if start else 0 :]
