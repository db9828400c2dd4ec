"""What one command may spend: checked before each request with the most it can cost."""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lib.llm.settings import LLMError

CHARACTERS_PER_TOKEN = 3
"""Fewer than in English under any tokenizer in use, so an estimate is rather too high."""
Messages = Sequence[dict[str, str]]


class BudgetSpent(LLMError):
    """The next request would go over a limit, or the time is up. What is finished is kept."""


class Limits(NamedTuple):
    """Of one command. What an earlier one has paid for and stored does not count again."""

    tokens: int = 400_000
    """Read and written together."""
    requests: int = 400
    """Repeats after a failure count too: a service may charge for them."""
    seconds: float = 3600.0


class Spent(NamedTuple):
    tokens: int
    requests: int
    seconds: float
    estimated: int
    """Of the tokens, those that the service did not state, or of requests that failed half way."""


class Budget:
    """Spending against limits."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        if limits.tokens < 1 or limits.requests < 1 or not 0 < limits.seconds < math.inf:
            raise LLMError(f"a budget needs limits above 0, got {limits}")
        self.limits = limits
        self._clock = clock
        self._started = clock()
        self._tokens = self._requests = self._estimated = 0

    @property
    def spent(self) -> Spent:
        passed = self._clock() - self._started
        return Spent(self._tokens, self._requests, passed, self._estimated)

    @property
    def seconds_left(self) -> float:
        return self.limits.seconds - (self._clock() - self._started)

    def admit(self, most_tokens: int) -> None:
        """Refuse a request that could go over.

        Args:
            most_tokens: what it can cost at most, question and answer.

        Raises:
            BudgetSpent: which limit, and how much of it is used.
        """
        used = self.spent
        if used.requests + 1 > self.limits.requests:
            raise BudgetSpent(f"the limit of {self.limits.requests} requests is reached")
        if used.tokens + most_tokens > self.limits.tokens:
            raise BudgetSpent(
                f"{used.tokens:,} of {self.limits.tokens:,} tokens are spent and the next request can "
                f"cost {most_tokens:,}"
            )
        if self.seconds_left <= 0:
            raise BudgetSpent(f"the limit of {self.limits.seconds:g} seconds is reached")

    def charge(self, tokens: int, *, estimated: bool = False) -> None:
        """Book one request."""
        self._requests += 1
        self._tokens += tokens
        self._estimated += tokens if estimated else 0


def estimate(messages: Messages) -> int:
    """Tokens of a question, rather too many; 8 for the frame of each message."""
    characters = sum(len(one["content"]) for one in messages)
    return characters // CHARACTERS_PER_TOKEN + 8 * len(messages) + 1
