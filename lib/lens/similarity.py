"""Whose text does it sound like? Similarity of written text to several corpora, with intervals.

Every corpus becomes equally many pieces of 64 words, so that none is nearer for having longer or more
texts. Pieces and texts become TF-IDF vectors of words and pairs of words (counts on a log scale,
terms in more than half of all pieces left out, fitted on the corpora alone), or embeddings where the
caller has a model. The similarity of a text to a corpus is the cosine with the mean of the corpus'
unit vectors. It is lexical by default: it sees whose words are used, not what is said with them.

Samples of one prompt are averaged first and intervals are over prompts, as samples share their prompt.

Source: arXiv:2510.13900 (cosine of steered text to fine-tuning records, there of an embedding model).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lib.metrics.intervals import Interval, bootstrap_mean

PIECE_WORDS = 64
MOST_PIECES = 500

Embed = Callable[[list[str]], Float[np.ndarray, "texts d"]]


class Texts(NamedTuple):
    """Written text and the prompt that each was written after."""

    prompts: Sequence[int]
    texts: Sequence[str]


class Similarity(NamedTuple):
    """Of one kind of text (steered, unsteered) to every corpus."""

    prompts: Int[np.ndarray, " prompts"]
    """In rising order."""
    corpora: tuple[str, ...]
    values: Float[np.ndarray, "prompts corpora"]
    """Mean over the prompt's samples; 0..1 with TF-IDF, -1..1 with embeddings."""

    def of(self, corpus: str) -> Float[np.ndarray, " prompts"]:
        return self.values[:, self.corpora.index(corpus)]

    def interval(self, corpus: str) -> Interval:
        """Mean over prompts with its 95 % bootstrap interval over prompts."""
        return _mean(self.of(corpus))


class Verdict(NamedTuple):
    """Paired over prompts, in units of similarity; each with a 95 % bootstrap interval."""

    gain: Interval
    """To the own corpus: steered less unsteered."""
    margin: Interval
    """Steered text: own corpus less the nearest other. Depends on what the corpora are like."""
    nearest_other: str
    selective: Interval
    """Gain to the own corpus less the gain to the other that gained most: does not."""
    gained_other: str
    nearer_than_unsteered: bool
    """The interval of ``gain`` lies above 0."""
    nearest: bool
    """The interval of ``margin`` lies above 0."""


def similarity(
    kinds: Mapping[str, Texts],
    corpora: Mapping[str, Sequence[str]],
    *,
    embed: Embed | None = None,
) -> dict[str, Similarity]:
    """How near each kind of text is to each corpus, per prompt.

    A text without any word of the corpora (or an embedding of length 0) has similarity 0.

    Args:
        embed: one vector per text, in place of TF-IDF; called once for all.

    Raises:
        ValueError: no corpora, one of under 64 words, corpora that do not differ; a kind without
            texts or without one prompt per text; embeddings that are not one finite vector per text.
    """
    cut = pieces(corpora)
    for name, given in kinds.items():
        if not given.texts or len(given.texts) != len(given.prompts):
            raise ValueError(
                f"{name} text: {len(given.texts)} texts for {len(given.prompts)} prompts; give one "
                "prompt per text and at least one text"
            )
    written = [text for given in kinds.values() for text in given.texts]
    known = [piece for part in cut.values() for piece in part]  # by corpus, equally many each
    measure = _tfidf if embed is None else partial(_embedded, embed)
    cosines = measure(known, written, len(cut))
    found, start = {}, 0
    for name, given in kinds.items():
        part = cosines[start : start + len(given.texts)]
        start += len(given.texts)
        prompts, inverse = np.unique(np.asarray(given.prompts), return_inverse=True)
        means = np.stack([part[inverse == row].mean(0) for row in range(len(prompts))])
        found[name] = Similarity(prompts, tuple(cut), means)
    return found


def verdict(steered: Similarity, unsteered: Similarity, own: str) -> Verdict:
    """Is steered text nearer to the fine-tune's ``own`` corpus than unsteered text, and than to others?

    Raises:
        ValueError: different prompts or corpora, an unknown corpus, or no other one.
    """
    paired = np.array_equal(steered.prompts, unsteered.prompts)
    if not paired or steered.corpora != unsteered.corpora:
        raise ValueError("steered and unsteered text differ in prompts or corpora: no pairs")
    others = [name for name in steered.corpora if name != own]
    if own not in steered.corpora or not others:
        raise ValueError(f"{own!r} needs its corpus and another one, got {steered.corpora}")
    gains = {name: steered.of(name) - unsteered.of(name) for name in steered.corpora}
    nearest = max(others, key=lambda name: steered.of(name).mean())
    gained = max(others, key=lambda name: gains[name].mean())
    gain, margin = _mean(gains[own]), _mean(steered.of(own) - steered.of(nearest))
    return Verdict(
        gain=gain,
        margin=margin,
        nearest_other=nearest,
        selective=_mean(gains[own] - gains[gained]),
        gained_other=gained,
        nearer_than_unsteered=gain.low is not None and gain.low > 0,
        nearest=margin.low is not None and margin.low > 0,
    )


def pieces(
    corpora: Mapping[str, Sequence[str]], words: int = PIECE_WORDS, most: int = MOST_PIECES
) -> dict[str, list[str]]:
    """Each corpus in running pieces of ``words`` words, the same number of each.

    As many as the smallest corpus has, ``most`` at most, spread evenly over the corpus.

    Raises:
        ValueError: no corpora, or one too short for a piece.
    """
    runs = {name: " ".join(texts).split() for name, texts in corpora.items()}
    short = [name for name, run in runs.items() if len(run) < words]
    if short or not runs:
        raise ValueError(f"{len(runs)} corpora, too short for a piece of {words} words: {short}")
    count = min(most, *(len(run) // words for run in runs.values()))
    found = {}
    for name, run in runs.items():
        starts = np.linspace(0, len(run) // words - 1, count).round().astype(int) * words
        found[name] = [" ".join(run[start : start + words]) for start in starts]
    return found


def _tfidf(
    known: list[str], written: list[str], corpora: int
) -> Float[np.ndarray, "texts corpora"]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_df=0.5)
    try:
        fitted = vectoriser.fit_transform(known)
    except ValueError as error:  # no term is left: the pieces are one, or all alike
        raise ValueError(
            f"no term tells the {len(known)} pieces of {corpora} corpora apart ({error}); compare "
            "corpora that differ"
        ) from None
    size = len(known) // corpora
    centres = [fitted[at : at + size].mean(0) for at in range(0, len(known), size)]
    return vectoriser.transform(written) @ _unit(np.asarray(np.concatenate(centres))).T


def _embedded(
    embed: Embed, known: list[str], written: list[str], corpora: int
) -> Float[np.ndarray, "texts corpora"]:
    texts = [*known, *written]
    rows = np.asarray(embed(texts), dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(texts) or not np.isfinite(rows).all():
        raise ValueError(
            f"the embedding model gave {rows.shape} for {len(texts)} texts, or values that are not "
            "finite; it must give one vector per text"
        )
    unit = _unit(rows)
    centres = unit[: len(known)].reshape(corpora, -1, rows.shape[1]).mean(1)
    return unit[len(known) :] @ _unit(centres).T


def _unit(rows: Float[np.ndarray, "rows d"]) -> Float[np.ndarray, "rows d"]:
    """Rows of length 1; those of length 0 stay 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def _mean(values: Float[np.ndarray, " prompts"]) -> Interval:
    return bootstrap_mean(values, np.ones(len(values)))
