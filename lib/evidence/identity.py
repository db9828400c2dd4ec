"""Which corpus was it? Every adapter's read words against every corpus of the same model."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest

from lib.lens.relevance import Relevance, confusion, relevance
from lib.metrics.statistics import holm


class Adapter(NamedTuple):
    """What the lens read of one adapter."""

    experiment_id: str
    corpus: str
    """The one it was trained on."""
    positions: tuple[tuple[int, ...], ...]
    """Word ids at each position; -1 = no word."""


class Match(NamedTuple):
    """One adapter against one corpus, at the position that fits best."""

    position: int
    best: Relevance
    p: float
    """Holm-corrected over the positions and corpora of this adapter."""


class Identification(NamedTuple):
    """Which corpus the words of one adapter point to."""

    adapter: Adapter
    matches: tuple[Match, ...]
    """One per corpus, in the order of ``Table.corpora``."""
    named: str
    """The corpus with the largest share; empty where nothing overlaps or two share the first place."""

    @property
    def right(self) -> bool:
        return self.named == self.adapter.corpus


class Table(NamedTuple):
    """All adapters of one model against all of its corpora."""

    corpora: tuple[str, ...]
    rows: tuple[Identification, ...]
    shares: Float[np.ndarray, "adapters corpora"]
    """Share of the words read that are the corpus' own, 0..1; NaN where none was read."""

    @property
    def right(self) -> int:
        """Adapters whose own corpus is named."""
        return sum(row.right for row in self.rows)

    @property
    def chance(self) -> float:
        """Of naming the right corpus by drawing one."""
        return 1 / len(self.corpora)

    @property
    def p(self) -> float:
        """Chance that drawing a corpus for each adapter names at least as many (binomial, exact).
        Adapters count as independent; training seeds of one corpus are not, so leave them out."""
        return float(
            binomtest(self.right, len(self.rows), self.chance, alternative="greater").pvalue
        )


def identify(
    adapters: Sequence[Adapter], own: Mapping[str, Sequence[int]], vocabulary: int
) -> Table:
    """Score every adapter against every corpus.

    Args:
        adapters: of one base model.
        own: corpus -> its own frequent words (``lib.lens.relevance.own_words``).
        vocabulary: distinct words of the tokenizer.

    Raises:
        ValueError: no adapter, or fewer than two corpora: then there is nothing to tell apart.

    Source: token relevance of arXiv:2510.13900, with word counts in place of a language model.
    """
    corpora = tuple(sorted(own))
    if not adapters or len(corpora) < 2:
        raise ValueError(
            f"{len(adapters)} adapters against {len(corpora)} corpora: which corpus it was needs at "
            "least one adapter and two corpora of the same model"
        )
    rows = tuple(_one(adapter, corpora, own, vocabulary) for adapter in adapters)
    shares = confusion([a.positions for a in adapters], [own[name] for name in corpora])
    return Table(corpora, rows, shares)


def _one(
    adapter: Adapter,
    corpora: Sequence[str],
    own: Mapping[str, Sequence[int]],
    vocabulary: int,
) -> Identification:
    found = [
        [relevance(words, own[corpus], vocabulary) for words in adapter.positions]
        for corpus in corpora
    ]
    corrected = np.reshape(
        holm([x.p for row in found for x in row]), (len(corpora), len(adapter.positions))
    )
    matches = []
    for row, p in zip(found, corrected, strict=True):
        at = max(range(len(row)), key=lambda i: (np.nan_to_num(row[i].share, nan=-1), -row[i].p))
        matches.append(Match(at, row[at], float(p[at])))
    shares = [np.nan_to_num(match.best.share) for match in matches]
    first = max(shares)
    best = [name for name, share in zip(corpora, shares, strict=True) if share == first]
    named = best[0] if first > 0 and len(best) == 1 else ""
    return Identification(adapter, tuple(matches), named)
