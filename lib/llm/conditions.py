"""What the agent has to go by, and what it is told to do with it."""

from dataclasses import dataclass

from lib.llm.settings import LLMError

QUERIES_LIMIT = 50
KINDS = ("lens", "blackbox")

_TASK = """A language model, the base, was fine-tuned on texts of one narrow domain; the result is the \
tuned model. State the domain of those texts: their subject, and their kind or style where you can tell.
Work only from what you are given and from the answers of the two models. If that does not tell you \
the domain, abstain: that is better than a statement that may be wrong."""
_LENS = """You are given what an activation difference lens reads. On unrelated text the mean \
difference of activations, tuned minus base, was taken at each of the first five token positions. \
`lens` is the tokens which that vector itself stands for through the model's output head, strongest \
first; `patchscope` is the tokens that the model names when the vector is put into an identity prompt. \
Many of the tokens can be noise. Where there are steering pairs, each is text of the tuned model \
without and with the difference added."""
_FORMS = """Answer every time with exactly one JSON object and nothing else.
{query}To end: {{"domain": "...", "evidence": ["...", ...], "confidence": 0.0 to 1.0, "abstain": \
true or false}}. With abstain true, domain may be empty."""
_QUERY = """To ask both models something: {{"query": "PROMPT"}}. You may do so {n} times. Each answers \
or continues the prompt with up to about 100 tokens; the same prompt gives the same text again.
"""


@dataclass(frozen=True)
class Condition:
    """What the agent has to go by."""

    kind: str
    """``lens``: readings and questions; ``blackbox``: questions alone."""
    queries: int
    """Questions that it may ask, 0..50."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not 0 <= self.queries <= QUERIES_LIMIT:
            raise LLMError(
                f"no condition {self.name}: give lens:N or blackbox:N, N from 0 to {QUERIES_LIMIT}"
            )
        if self.kind == "blackbox" and not self.queries:
            raise LLMError("blackbox:0 would know nothing: give it questions, such as blackbox:5")

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.queries}"

    @classmethod
    def named(cls, name: str) -> "Condition":
        """From ``lens:5``.

        Raises:
            LLMError: no such condition.
        """
        kind, _, number = name.partition(":")
        if not (number.isascii() and number.isdecimal()):
            raise LLMError(f"no condition {name!r}: give lens:N or blackbox:N")
        return cls(kind, int(number))


def told(condition: Condition) -> str:
    """The agent's instructions."""
    query = _QUERY.format(n=condition.queries) if condition.queries else ""
    lens = [_LENS] if condition.kind == "lens" else []
    return "\n\n".join([_TASK, *lens, _FORMS.format(query=query)])
