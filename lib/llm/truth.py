"""What is known of a fine-tuning corpus, for graders: name, description, frequent own words."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lib import corpora, paths
from lib.lens.relevance import own_words

WORDS = 40
REFERENCE = "neutral"
_WORD = re.compile(r"[^\W\d_]{3,}")
_DESCRIBED = ("what it is", "what")
"""Headings of the descriptions in data/corpora/README.md."""


class Truth(NamedTuple):
    corpus: str
    description: str
    """Of data/corpora/README.md; empty where it has none."""
    words: tuple[str, ...]
    """Its most frequent words that are not everybody's; empty where the text is not here."""
    missing: str
    """Why there are no words; empty = there are."""

    def told(self) -> str:
        """As a grader or judge reads it."""
        known = f"Known: the corpus is called {json.dumps(self.corpus)}."
        known += f" It is: {self.description}." if self.description else ""
        return known + (
            f" Words that are frequent in it: {', '.join(self.words)}." if self.words else ""
        )


@lru_cache(maxsize=32)
def known(corpus: str) -> Truth:
    """What is known of a corpus. Reads the text on this machine; fetches nothing."""
    try:
        texts = [d.text for d in corpora.load(corpus, minimum=1, download=False).documents]
        reference = [d.text for d in corpora.load(REFERENCE, minimum=1, download=False).documents]
    except corpora.CorpusError as problem:
        return Truth(corpus, _description(corpus), (), str(problem))
    return Truth(corpus, _description(corpus), _own_words(texts, reference), "")


def _own_words(texts: Iterable[str], reference: Iterable[str]) -> tuple[str, ...]:
    ours, theirs = _counted(texts), _counted(reference)
    every = sorted(ours | theirs)
    counts, others = (np.array([c[word] for word in every], dtype=np.int64) for c in (ours, theirs))
    return tuple(every[i] for i in own_words(counts, others, size=WORDS))


def _counted(texts: Iterable[str]) -> Counter[str]:
    return Counter(word.casefold() for text in texts for word in _WORD.findall(text))


def _description(corpus: str) -> str:
    """Cell of the corpus' row under the heading that describes it."""
    file = paths.CORPORA / "README.md"
    heading: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        if not line.startswith("|"):
            heading = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        heading = heading or cells
        if cells[0] == f"`{corpus}`":
            return next((c for h, c in zip(heading, cells, strict=False) if h in _DESCRIBED), "")
    return ""
