"""A malformed answer gets one request to mend it; then it counts as malformed."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from lib.llm.desk import Desk
from lib.llm.forms import Malformed

T = TypeVar("T")
_AGAIN = (
    "That was not the form: {problem}. Answer again with exactly one JSON object and nothing else."
)


class Turn(NamedTuple):
    """One answer, repaired or not."""

    value: object | None
    """What ``parse`` made of it; None = malformed twice."""
    problem: str
    """Of the last malformed answer; empty where there was none."""
    tokens: int
    requests: int
    """Exchanges that it took, stored ones included."""
    estimated: bool


def ask_in_form(
    desk: Desk,
    messages: list[dict[str, str]],
    parse: Callable[[str], T],
    *,
    model: str,
    run: str,
    step: str,
    temperature: float,
    seed: int,
) -> Turn:
    """Ask until the answer has the form, at most twice; ``messages`` grows by what was said.

    Raises:
        EndpointError, BudgetSpent: of ``Desk.ask``.
    """
    tokens, estimated, problem = 0, False, ""
    for attempt in (1, 2):
        name = step if attempt == 1 else f"{step}, repair"
        answer = desk.ask(
            messages, model=model, run=run, step=name, temperature=temperature, seed=seed
        )
        messages.append({"role": "assistant", "content": answer.text})
        tokens, estimated = tokens + answer.tokens, estimated or answer.estimated
        try:
            return Turn(parse(answer.text), problem, tokens, attempt, estimated)
        except Malformed as found:
            problem = str(found)
        if attempt == 1:
            messages.append({"role": "user", "content": _AGAIN.format(problem=problem)})
    return Turn(None, problem, tokens, 2, estimated)
