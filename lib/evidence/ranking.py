"""Which corpus was it, by the rank of every word: a finer question than which words come first."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


class Ranked(NamedTuple):
    """How high the lens of one adapter ranks words, whether or not they were among those read."""

    experiment_id: str
    corpus: str
    percentile: Mapping[int, float]
    """Word id -> mean percentile over positions, 0..1."""


class Ranking(NamedTuple):
    """All adapters of one model against all of its corpora, by rank."""

    corpora: tuple[str, ...]
    adapters: tuple[Ranked, ...]
    area: Float[np.ndarray, "adapters corpora"]
    """Chance that a word of the corpus' own ranks above another word in use (area under the ROC curve):
    0.5 = as any word, 1 = above all."""
    beyond: Float[np.ndarray, "adapters corpora"]
    """``area`` less the adapter's and the corpus' means, plus the overall mean: some words rank high
    in every adapter. NaN with a single adapter or corpus."""
    words: int
    """In use, and ranked in every adapter."""

    def named(self) -> tuple[str, ...]:
        """For each adapter the corpus with the largest ``beyond``; empty where it is not defined."""
        if np.isnan(self.beyond).any():
            return ("",) * len(self.adapters)
        return tuple(self.corpora[i] for i in self.beyond.argmax(1))

    @property
    def right(self) -> int:
        own = (adapter.corpus for adapter in self.adapters)
        return sum(name == corpus for name, corpus in zip(self.named(), own, strict=True))


class Shuffled(NamedTuple):
    """The adapters' own corpora against every other way of dealing out the corpora."""

    mean: float
    """Mean area at the adapters' own corpora."""
    expected: float
    """The same over all assignments."""
    p: float
    """Share of assignments that reach the mean, the true one among them."""
    assignments: int


def rank_corpora(adapters: Sequence[Ranked], own: Mapping[str, Sequence[int]]) -> Ranking:
    """Where the lens ranks the frequent words of each corpus.

    Raises:
        ValueError: no adapter, or a corpus none of whose words (or no other word) is ranked.
    """
    if not adapters:
        raise ValueError("no adapter has a ranking of words: run the lens of one")
    words = np.array(sorted(set.intersection(*(set(a.percentile) for a in adapters))))
    corpora = tuple(sorted(own))
    ranks = np.stack([rankdata([a.percentile[w] for w in words]) for a in adapters])
    area = np.empty((len(adapters), len(corpora)))
    for column, corpus in enumerate(corpora):
        theirs = np.isin(words, list(own[corpus]))
        n, others = int(theirs.sum()), int((~theirs).sum())
        if not n or not others:
            raise ValueError(
                f"of {len(words)} words ranked in every adapter {n} are {corpus}'s own: the rank of "
                "one against the other is not defined"
            )
        area[:, column] = (ranks[:, theirs].sum(1) - n * (n + 1) / 2) / (n * others)
    beyond = area - area.mean(1, keepdims=True) - area.mean(0) + area.mean()
    if min(area.shape) < 2:
        beyond = np.full_like(area, np.nan)
    return Ranking(corpora, tuple(adapters), area, beyond, len(words))


def shuffled(ranking: Ranking) -> Shuffled:
    """Exact permutation test: do adapters rank their own corpus higher than another's?

    Every way of giving each adapter another of the adapters' corpora counts alike, so words that rank
    high everywhere, or adapters that rank all words high, cannot make the p value small.

    Raises:
        ValueError: two adapters of one corpus (training seeds repeat it: leave all but one out), or
            more than eight, whose assignments are not counted out.
    """
    columns = [ranking.corpora.index(a.corpus) for a in ranking.adapters]
    n = len(columns)
    if len(set(columns)) < n or n > 8:
        raise ValueError(
            f"{n} adapters of {len(set(columns))} corpora: give one per corpus, 8 at most"
        )
    deals = np.array(list(permutations(columns)))
    means = ranking.area[np.arange(n), deals].mean(1)
    reached = float((means >= means[0] - 1e-12).mean())
    return Shuffled(float(means[0]), float(means.mean()), reached, len(deals))
