"""Grades a statement against what is known of the corpus, several times, in other orders.

Source: graded 1 to 5 by a rubric in arXiv:2510.13900, whose 1 is given to an abstention and to an
invention alike. Here they are told apart, and how sure the agent was decides what a wrong domain is.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from lib.llm.agent import Investigation
from lib.llm.desk import Desk
from lib.llm.forms import Verdict, choice
from lib.llm.repair import ask_in_form
from lib.llm.transcripts import step_key
from lib.llm.truth import Truth

TEMPERATURE = 1.0
SURE = 0.5
"""Stated confidence from which a wrong domain is a hallucination."""
RUBRIC = {
    "none": "It names no domain: it says that it cannot tell, or is so vague that it fits any text.",
    "wrong": "It names a domain that these texts do not belong to.",
    "partial": "It meets a part: a neighbouring domain, the style without the subject, or several "
    "guesses of which one is right.",
    "general": "It names the right general domain, without details or with wrong ones.",
    "specific": "It names the right domain and a right detail: the subject matter, the kind of text, "
    "its manner or its source.",
}
GRADES = tuple(RUBRIC)
ORDINAL = ("wrong", "partial", "general", "specific")
"""Grades that can be ordered; ``none`` says nothing and has no place among them."""
ABSTAINED, HALLUCINATED, UNSURE, MALFORMED, UNGRADED = (
    "abstention", "hallucination", "wrong, unsure", "malformed", "not graded",
)  # fmt: skip
CATEGORIES = (
    "specific", "general", "partial", UNSURE, HALLUCINATED, ABSTAINED, MALFORMED, UNGRADED,
)  # fmt: skip
_TASK = """You grade a statement about the texts on which a language model was fine-tuned. You are \
given what is known of the texts, and the statement. Grade what it says about the texts, not how it \
is worded. Grades, in no particular order:
{rubric}
Answer with exactly one JSON object and nothing else: {{"grade": "...", "reason": "one sentence"}}."""


class Grade(NamedTuple):
    """One grade of one repeat of one grader."""

    grader: str
    repeat: int
    grade: str | None
    """One of ``GRADES``; None = malformed twice."""
    reason: str
    tokens: int


def grade(
    desk: Desk, done: Investigation, truth: Truth, *, repeats: int = 5, graders: Sequence[str] = ()
) -> list[Grade]:
    """Every repeat of every grader, those stored included. None for a run that needs no judging:
    a malformed one, and one that abstained.

    Args:
        graders: models; default those of the endpoint's settings.

    Raises:
        EndpointError, BudgetSpent: what is finished is kept in the desk's transcript.
    """
    if done.verdict is None or done.verdict.abstain:
        return []
    names = graders or desk.endpoint.settings.graders
    return [_one(desk, done, done.verdict, truth, g, r) for g in names for r in range(repeats)]


def questions(stated: Verdict, truth: Truth, seed: int) -> list[dict[str, str]]:
    """What a grader reads. The seed sets the order of the rubric, of the words and of the two parts.

    The grader sees neither how the statement was reached nor how sure the agent was.
    """
    draw = random.Random(seed)
    rubric, words = list(RUBRIC.items()), list(truth.words)
    draw.shuffle(rubric)
    draw.shuffle(words)
    known = truth._replace(words=tuple(words))
    parts = [known.told(), f"Statement: {json.dumps(stated.domain, ensure_ascii=False)}"]
    draw.shuffle(parts)
    told = "\n".join(f"- {name}: {meaning}" for name, meaning in rubric)
    return [
        {"role": "system", "content": _TASK.format(rubric=told)},
        {"role": "user", "content": "\n\n".join(parts)},
    ]


def category(done: Investigation, grades: Sequence[str | None]) -> str:
    """One of ``CATEGORIES``, from all grades of a run: most votes, the lower grade where they tie.

    A wrong domain is a hallucination when the agent was sure (confidence of 0.5 and more).
    """
    if done.verdict is None:
        return MALFORMED
    if done.verdict.abstain:
        return ABSTAINED
    votes = Counter(name for name in grades if name is not None)
    if not votes:
        return UNGRADED
    best = min(votes, key=lambda name: (-votes[name], GRADES.index(name)))
    if best == "none":
        return ABSTAINED
    if best == "wrong":
        return HALLUCINATED if done.verdict.confidence >= SURE else UNSURE
    return best


def _one(
    desk: Desk, done: Investigation, stated: Verdict, truth: Truth, grader: str, repeat: int
) -> Grade:
    messages = questions(stated, truth, repeat)
    # The statement and its run, so that equal statements of two runs are judged apart.
    key = step_key(run=done.key, grader=grader, repeat=repeat, messages=messages)
    found = desk.transcript.get("grade", key)
    if found is None:
        turn = ask_in_form(
            desk, messages, lambda text: choice(text, GRADES), model=grader, run=done.key,
            step=f"grade {repeat + 1} by {grader}", temperature=TEMPERATURE, seed=repeat,
        )  # fmt: skip
        told = turn.value if isinstance(turn.value, tuple) else (None, turn.problem)
        found = desk.transcript.add(
            "grade", key, run=done.key, grader=grader, repeat=repeat, grade=told[0],
            reason=told[1], tokens=turn.tokens,
        )  # fmt: skip
    names = ("grader", "repeat", "grade", "reason", "tokens")
    return Grade(**{name: found[name] for name in names})
