"""The interpretability agent: from lens readings and a few questions to the fine-tuning domain.

Source: Minder, Dumas et al. 2025, arXiv:2510.13900 (agent with i = 0 or 5 questions; black-box
baseline with questions only). Ours: one JSON object a turn in place of tool calls, which not every
endpoint has, and an abstention that is a result of its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from lib.llm.conditions import Condition, told
from lib.llm.desk import Desk
from lib.llm.forms import Query, Verdict, agent_turn
from lib.llm.material import Material
from lib.llm.repair import ask_in_form
from lib.llm.settings import LLMError, Settings
from lib.llm.transcripts import Record, step_key

Ask = Callable[[str], tuple[str, str]]
"""A prompt -> what the base and what the tuned model say."""
TEMPERATURE = 1.0


class Subject(NamedTuple):
    """The adapter in question. None of it is told to the agent but the material."""

    experiment_id: str
    corpus: str
    adapter: str
    """Hash of the adapter's weights; empty = unknown."""
    material: Material | None
    """None = the black box alone."""


class Investigation(NamedTuple):
    """One run of the agent."""

    key: str
    condition: str
    repeat: int
    model: str
    verdict: Verdict | None
    """None = malformed twice."""
    problem: str
    """Of the malformed answer."""
    queries: int
    tokens: int
    requests: int
    estimated: bool


def investigate(
    desk: Desk, subject: Subject, condition: Condition, ask: Ask, *, repeat: int = 0
) -> Investigation:
    """One run from the first question to the statement, continued where a killed one stopped.

    Args:
        ask: base and tuned answer of a prompt; only called for a prompt that is not stored.

    Raises:
        EndpointError, BudgetSpent: what is finished is kept in the desk's transcript.
        LLMError: the lens is asked for and there is none.
    """
    model = desk.endpoint.settings.model
    key = run_key(desk.endpoint.settings, desk.answer_tokens, subject, condition, repeat)
    if (found := desk.transcript.get("run", key)) is not None:
        return from_record(found)
    desk.transcript.add("begun", key, **_facts(subject, condition, repeat, model))
    messages = opening(subject, condition)
    asked = tokens = requests = 0
    estimated = False
    while True:
        left = condition.queries - asked
        turn = ask_in_form(
            desk, messages, lambda text, left=left: agent_turn(text, left), model=model, run=key,
            step=f"turn {asked + 1}", temperature=TEMPERATURE, seed=repeat,
        )  # fmt: skip
        tokens, requests = tokens + turn.tokens, requests + turn.requests
        estimated = estimated or turn.estimated
        if not isinstance(turn.value, Query):
            break
        asked += 1
        messages.append(_answered(desk, subject, key, turn.value.prompt, ask, left - 1))
    stated = turn.value if isinstance(turn.value, Verdict) else None
    problem = "" if stated else turn.problem
    done = Investigation(
        key, condition.name, repeat, model, stated, problem, asked, tokens, requests, estimated
    )
    desk.transcript.add("run", key, **_facts(subject, condition, repeat, model), **_outcome(done))
    return done


def run_key(
    settings: Settings, most: int, subject: Subject, condition: Condition, repeat: int
) -> str:
    """Names a run by everything it depends on. ``most``: tokens of one answer."""
    return step_key(
        url=settings.url, model=settings.model, repeat=repeat,
        experiment=subject.experiment_id, adapter=subject.adapter, most=most,
        opening=opening(subject, condition),
    )  # fmt: skip


def opening(subject: Subject, condition: Condition) -> list[dict[str, str]]:
    """The first messages: task, forms, and the readings where the condition has them.

    Raises:
        LLMError: the condition needs readings and there are none.
    """
    given = "You have no readings, only your questions. Begin."
    if condition.kind == "lens":
        if subject.material is None:
            raise LLMError(f"{condition.name} needs the lens of {subject.experiment_id}")
        given = subject.material.told()
    return [
        {"role": "system", "content": told(condition)},
        {"role": "user", "content": given},
    ]


def from_record(record: Record) -> Investigation:
    """A stored run."""
    told: dict[str, Any] | None = record["verdict"]
    stated = None if told is None else Verdict(**{**told, "evidence": tuple(told["evidence"])})
    names = [name for name in Investigation._fields if name != "verdict"]
    return Investigation(verdict=stated, **{name: record[name] for name in names})


def _answered(
    desk: Desk, subject: Subject, run: str, prompt: str, ask: Ask, left: int
) -> dict[str, str]:
    """The models' words on one question, asked of them once per adapter."""
    key = step_key(experiment=subject.experiment_id, adapter=subject.adapter, prompt=prompt)
    found = desk.transcript.get("query", key)
    if found is None:
        base, tuned = ask(prompt)
        found = desk.transcript.add("query", key, run=run, prompt=prompt, base=base, tuned=tuned)
    rest = f"{left} queries are left." if left else "No queries are left: state the domain now."
    return {
        "role": "user",
        "content": f"base: {found['base']}\n\ntuned: {found['tuned']}\n\n{rest}",
    }


def _facts(subject: Subject, condition: Condition, repeat: int, model: str) -> dict[str, Any]:
    return {
        "experiment": subject.experiment_id, "corpus": subject.corpus, "adapter": subject.adapter,
        "condition": condition.name, "repeat": repeat, "model": model,
        "pairs": len(subject.material.pairs) if subject.material else 0,
    }  # fmt: skip


def _outcome(done: Investigation) -> dict[str, Any]:
    stated = None if done.verdict is None else done.verdict._asdict()
    names = ("problem", "queries", "tokens", "requests", "estimated")
    return {"verdict": stated} | {name: getattr(done, name) for name in names}
