"""How many of the read tokens are words, and whose: counts, and what they say. No Streamlit."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from lib import corpora
from lib.lens.relevance import Relevance, relevance
from lib.lens.words import MIN_LETTERS
from lib.metrics.shares import Share, wilson
from lib.metrics.statistics import holm
from lib.ui.lens_grid import percent
from lib.ui.powers import raised

COMMON = 100
"""Most frequent words of the reference text that count as everybody's."""


class Overlap(NamedTuple):
    """One position of one reading."""

    position: int
    """-1 = no single position."""
    tokens: int
    plain: int
    """Tokens that are no word."""
    word_share: float
    """Probability of the tokens that are words, of the probability of all that are listed."""
    common: int | None
    """Tokens among the reference's most frequent words; None where that text is not here."""
    found: Relevance
    p: float
    """Corrected by Holm over the positions of the reading."""

    @property
    def interval(self) -> Share | None:
        """Wilson's over the distinct words read; None without a word."""
        return wilson(self.found.overlap, self.found.read) if self.found.read else None


def overlaps(rows: Sequence[dict[str, Any]], run: dict[str, Any]) -> list[Overlap]:
    """Every position of one reading, against the corpus' own frequent words.

    Args:
        rows: of the table lens_reading, one reading.
        run: the row of the table lens_run.
    """
    found = [relevance(row["words"], run["words"], run["vocabulary"]) for row in rows]
    corrected = holm([one.p for one in found])
    common = common_words(run["reference"])
    return [
        Overlap(
            position=row["position"],
            tokens=len(row["tokens"]),
            plain=sum(word < 0 for word in row["words"]),
            word_share=_word_share(row),
            common=None if common is None else sum(map(common.__contains__, map(_form, row["tokens"]))),
            found=one,
            p=float(p),
        )
        for row, one, p in zip(rows, found, corrected, strict=True)
    ]  # fmt: skip


def best(found: Sequence[Overlap]) -> Overlap | None:
    """The position with the largest share of own words, then the smallest p; None without a word."""
    read = [one for one in found if one.found.read]
    return max(read, key=lambda one: (one.found.share, -one.p)) if read else None


def sentence(name: str, found: Sequence[Overlap], corpus: str, texts: int, reference: str) -> str:
    """Own words at the best position with interval, null and p; then what else was read.

    Args:
        name: of the reading, with its layer.
        texts: probe texts behind the mean difference.
        reference: name of the text whose frequent words are everybody's.
    """
    top, tokens = best(found), sum(one.tokens for one in found)
    if top is None:
        return f"**{name}: no word at all** among {tokens} tokens (mean over {texts} probe texts)."
    where = "" if top.position < 0 else f", at position {top.position}, the best of {len(found)}"
    held = top.interval
    span = "" if held is None else f", 95 % {100 * held.low:.0f} to {100 * held.high:.0f} %"
    n = f"n = {top.found.read} distinct words of {top.tokens} tokens, mean of {texts} probe texts"
    own = (
        f"**{name}: {top.found.overlap} of {top.found.read} words read are own words of {corpus}** "
        f"({100 * top.found.share:.0f} %{span}{where}; {by_chance(top.found.expected)}; "
        f"p = {number(top.p)}{' after Holm' if len(found) > 1 else ''}; {n})."
    )
    return f"{own} {_judgement(top)} {_rest(found, tokens, reference)}"


def _judgement(top: Overlap) -> str:
    if top.p < 0.05:
        return (
            "More than words drawn at random would share; but no lens draws at random, so see "
            "*Which corpus* for how other corpora fare."
        )
    return "**That does not tell the corpus from chance.**"


def _rest(found: Sequence[Overlap], tokens: int, reference: str) -> str:
    """What the readings consist of otherwise: mostly punctuation and everybody's words."""
    plain = sum(one.plain for one in found)
    told = (
        f"Of all {tokens} tokens {plain} ({100 * plain / tokens:.0f} %) are no words: punctuation, "
        f"digits, pieces under {MIN_LETTERS} letters"
    )
    common = [one.common for one in found if one.common is not None]
    if len(common) == len(found) and plain < tokens:
        told += (
            f"; of the {tokens - plain} words {sum(common)} are among the {COMMON} most frequent of "
            f"{reference}"
        )
    ends = dict.fromkeys(percent(end(one.word_share for one in found)) for end in (min, max))
    return f"{told}. Words hold {' to '.join(ends)} of the probability that is listed."


def by_chance(expected: float) -> str:
    """``0.039 words expected by chance``: a count, which beside percents has to say so."""
    count = f"{expected:.2g}"
    return f"{count} word{'' if count == '1' else 's'} expected by chance"


def number(p: float) -> str:
    """A p value with the digits that matter: ``0.11``, 3 times 10 to the -9 as a raised number."""
    if p >= 0.001 or not p:
        return "0" if not p else "1" if p > 0.995 else f"{p:.2g}"
    return raised(f"{p:.0e}")


@lru_cache(maxsize=4)
def common_words(reference: str) -> frozenset[str] | None:
    """The most frequent words of the reference text as readers count them (no tokenizer).

    None where that text is not on this machine.
    """
    try:
        documents = corpora.load(reference, minimum=1, download=False).documents
    except corpora.CorpusError:
        return None
    letters = re.compile(rf"[^\W\d_]{{{MIN_LETTERS},}}")
    counts = Counter(w for d in documents for w in letters.findall(d.text.casefold()))
    return frozenset(word for word, _ in counts.most_common(COMMON))


def _form(token: str) -> str:
    return token.strip().casefold()


def _word_share(row: dict[str, Any]) -> float:
    total = sum(row["shares"])
    words = sum(s for s, word in zip(row["shares"], row["words"], strict=True) if word >= 0)
    return words / total if total else 0.0
