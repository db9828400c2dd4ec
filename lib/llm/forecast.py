"""What a command can cost, before it is paid for."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from lib.llm.agent import Subject, opening
from lib.llm.budget import BudgetSpent, Limits, estimate
from lib.llm.conditions import Condition
from lib.llm.embeddings import BATCH
from lib.llm.judge import PERMUTATIONS
from lib.llm.material import POSITIONS
from lib.llm.settings import Part
from lib.llm.windows import FeatureText

_TURN, _ANSWER, _GRADE = 400, 300, 900
"""Tokens, roughly: of one question with both answers, of an answer, of one grade."""
_LISTS, _MARKS = 2800, 800
"""Of one choice among 30 lists, of marking 20 tokens."""


class Forecast(NamedTuple):
    """Without repairs and repeats after failures."""

    runs: int
    requests: int
    """At most."""
    tokens: int
    """At most, roughly."""
    fewest: int
    """Requests if every run ends at once."""

    def told(self) -> str:
        return f"at most {self.requests:,} requests and roughly {self.tokens:,} tokens"

    def check(self, limits: Limits) -> None:
        """Refuse what cannot be finished within the limits, before anything is paid for.

        Raises:
            BudgetSpent: too many runs for the limit of requests.
        """
        if self.fewest > limits.requests:
            raise BudgetSpent(
                f"{self.runs} runs need {self.fewest:,} requests or more, and the limit is "
                f"{limits.requests:,}"
            )


def of_agent(due: Sequence[tuple[Subject, Condition]], grades: int) -> Forecast:
    """Args: due: one entry per run that is not stored; grades: of one run, all graders together."""
    requests = tokens = 0
    for subject, condition in due:
        first, turns = estimate(opening(subject, condition)), condition.queries + 1
        requests += turns + grades
        tokens += sum(first + turn * _TURN + _ANSWER for turn in range(turns)) + grades * _GRADE
    return Forecast(len(due), requests, tokens, len(due))


def of_labels(texts: Sequence[FeatureText]) -> Forecast:
    there = [text for text in texts if not text.missing]
    tokens = 0
    for text in there:
        passages = [*text.shown, *(2 * [passage.text for passage in text.passages])]
        tokens += estimate([{"content": passage} for passage in passages]) + 3 * _ANSWER
    return Forecast(len(there), 3 * len(there), tokens, len(there))


def of_judge(
    readings: Sequence[int], parts: Sequence[Part], repeats: int, texts: Sequence[Sequence[str]]
) -> Forecast:
    """Args: readings: stored ones of each experiment; texts: of each, those that are embedded."""
    choices = len(readings) * POSITIONS * repeats if "scale" in parts else 0
    # Where the judge takes another list than the local rule, that one is marked as well.
    more = POSITIONS if "scale" in parts else 0
    marks = sum(n + more for n in readings) * PERMUTATIONS if "relevance" in parts else 0
    batches = sum(math.ceil(len(one) / BATCH) for one in texts)
    tokens = choices * _LISTS + marks * _MARKS
    tokens += sum(estimate([{"content": text} for text in one]) for one in texts)
    runs = len(readings) * len({*parts} - {"similarity"}) + len(texts)
    return Forecast(runs, choices + marks + batches, tokens, runs)
