"""An LLM judge of the lens' tokens: which scale of Patchscope makes sense, which tokens fit the corpus.

The scale's judge knows nothing of the corpus; the relevance's is told what it is. Neither replaces the
local rule or the hypergeometric test: both are kept beside them.

Source: arXiv:2510.13900 (a language model chooses among Patchscope's scales; tokens count as relevant
when three permutations agree). Ours: lists and tokens are numbered anew in every repeat, the judge may
say that no list is coherent, and how far repeats agree is reported.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from lib.lens.relevance import relevance
from lib.llm import forms
from lib.llm.desk import Desk
from lib.llm.judge_lists import Reading, Scales, Tokens
from lib.llm.repair import ask_in_form
from lib.llm.truth import Truth

TEMPERATURE = 0.0
PERMUTATIONS = 3
NONE = 0.0
"""In place of a scale: no list is coherent."""
_SCALE = """A vector from inside a language model was put into identity prompts ("man -> man", "hello \
-> hello", "?") at several lengths, and the model named tokens for it. Each numbered list holds the \
tokens at one length, most probable first. Many lists are noise: pieces of words, everybody's words, \
words of the prompts. Name the list whose tokens are semantically most coherent: which belong most \
clearly to one subject, kind of text or manner. If no list is coherent, name 0.
Answer with exactly one JSON object and nothing else: {"list": number}."""
_RELEVANCE = """A language model was fine-tuned on texts. You are given what is known of these texts, \
and numbered tokens that were read from inside the model. Say which tokens are relevant to the texts: \
words, names or recognisable parts of words that are characteristic of their subject, kind or manner, \
in any language. Punctuation, everybody's words and pieces that could belong to any word are not.
Answer with exactly one JSON object and nothing else: {"relevant": [numbers]}, which may be empty."""


class Overlap(NamedTuple):
    """Of the distinct words among tokens with the corpus' own frequent words."""

    overlap: int
    read: int
    expected: float
    """Of as many words drawn at random."""
    p: float
    """Hypergeometric, one-sided, not corrected."""

    @property
    def share(self) -> float | None:
        """0..1; None without a word."""
        return self.overlap / self.read if self.read else None


class Chosen(NamedTuple):
    """The scale of one position: by the judge and by the local rule."""

    position: int
    lists: int
    """Different ones, each offered once."""
    choices: tuple[float | None, ...]
    """Scale by repeat; 0 = no list is coherent, None = malformed twice."""
    scale: float | None
    """Most votes; among equals the smallest scale, a list before none. 0 and None as above."""
    local: float
    """The local rule's; where its list is the judge's, the same number."""
    tokens: tuple[str, ...]
    """At the judge's scale; empty where there is none."""
    words: tuple[int, ...]
    local_tokens: tuple[str, ...]
    own: Overlap | None
    """Of the judge's list; None where there is none."""
    local_own: Overlap
    cost: int
    """Tokens read and written."""


class Marked(NamedTuple):
    """Relevance of the tokens of one reading at one position."""

    reading: str
    position: int
    tokens: tuple[str, ...]
    marks: tuple[tuple[int, ...] | None, ...]
    """Places of the relevant tokens (from 0), by permutation; None = malformed twice."""
    own: Overlap
    cost: int

    @property
    def relevant(self) -> tuple[int, ...] | None:
        """Those that every permutation marks; None unless all were answered."""
        whole = [set(found) for found in self.marks if found is not None]
        if len(whole) < len(self.marks):
            return None
        return tuple(sorted(set.intersection(*whole)))

    @property
    def share(self) -> float | None:
        """Relevant tokens / tokens, 0..1."""
        return None if self.relevant is None else len(self.relevant) / len(self.tokens)


class Words(NamedTuple):
    """Against what words are counted."""

    own: Sequence[int]
    """The corpus' own frequent words."""
    vocabulary: int

    def overlap(self, read: Tokens) -> Overlap:
        found = relevance(read.words, self.own, self.vocabulary)
        return Overlap(found.overlap, found.read, found.expected, found.p)


def choose(desk: Desk, found: Scales, words: Words, *, repeats: int) -> Chosen:
    """The judge's choice of a scale for one position, ``repeats`` times in another order.

    Raises:
        EndpointError, BudgetSpent: what is answered is kept in the desk's transcript.
    """
    lists = found.distinct()
    choices: list[float | None] = []
    cost = 0
    for repeat in range(repeats):
        order = list(lists)
        random.Random(repeat).shuffle(order)
        told = "\n".join(f"{n}. {_quoted(lists[s].tokens)}" for n, s in enumerate(order, 1))
        turn = ask_in_form(
            desk, _messages(_SCALE, told), lambda text: forms.one_of(text, "list", len(lists)),
            model=desk.endpoint.settings.model, run=f"scale, position {found.position}",
            step=f"repeat {repeat + 1}", temperature=TEMPERATURE, seed=repeat,
        )  # fmt: skip
        cost += turn.tokens
        choices.append([NONE, *order][turn.value] if isinstance(turn.value, int) else None)
    scale = _most(choices)
    local = next(s for s, one in lists.items() if one.tokens == found.lists[found.local].tokens)
    read = lists.get(scale) if scale else None
    return Chosen(
        found.position, len(lists), tuple(choices), scale, local,
        read.tokens if read else (), read.words if read else (), lists[local].tokens,
        words.overlap(read) if read else None, words.overlap(lists[local]), cost,
    )  # fmt: skip


def mark(desk: Desk, found: Reading, truth: Truth, words: Words) -> Marked:
    """Which tokens fit the corpus, in three permutations.

    Raises:
        EndpointError, BudgetSpent: what is answered is kept in the desk's transcript.
    """
    tokens, marks, cost = found.read.tokens, [], 0
    for repeat in range(PERMUTATIONS):
        order = list(range(len(tokens)))
        random.Random(repeat).shuffle(order)
        listed = "\n".join(f"{n}. {_quoted(tokens[place])}" for n, place in enumerate(order, 1))
        turn = ask_in_form(
            desk, _messages(_RELEVANCE, f"{truth.told()}\n\n{listed}"),
            lambda text: forms.matches(text, len(tokens), "relevant"),
            model=desk.endpoint.settings.model, run=f"{found.reading}, position {found.position}",
            step=f"permutation {repeat + 1}", temperature=TEMPERATURE, seed=repeat,
        )  # fmt: skip
        cost += turn.tokens
        given = turn.value if isinstance(turn.value, frozenset) else None
        marks.append(None if given is None else tuple(sorted(order[n - 1] for n in given)))
    own = words.overlap(found.read)
    return Marked(found.reading, found.position, tokens, tuple(marks), own, cost)


def _most(choices: Sequence[float | None]) -> float | None:
    votes = Counter(choice for choice in choices if choice is not None)
    return min(votes, key=lambda s: (-votes[s], s == NONE, s)) if votes else None


def _messages(task: str, told: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": task}, {"role": "user", "content": told}]


def _quoted(found: str | Sequence[str]) -> str:
    """As JSON, so that no token can end its line and pretend to be another."""
    return json.dumps(found, ensure_ascii=False)
