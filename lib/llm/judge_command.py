"""python -m lib judge EXPERIMENT...: what it reads, sends and prints."""

import argparse
from typing import Any

from duckdb import DuckDBPyConnection

from lib.llm import forecast, judge_lists, judge_parts, judge_similarity, truth
from lib.llm.arguments import JUDGED
from lib.llm.desk import Desk
from lib.llm.judge import Marked
from lib.llm.judge_parts import Case
from lib.llm.judge_runs import PARTS, relevance_total, scale_total
from lib.llm.judge_similarity import Compared
from lib.llm.queries import Models
from lib.llm.session import desk_for, endpoint_for, say
from lib.llm.settings import LLMError, Part


def run(
    chosen: argparse.Namespace, store: DuckDBPyConnection, rows: dict[str, dict[str, Any]]
) -> None:
    """Every part of every experiment.

    Raises:
        LLMError: something that a part needs is not here; nothing was sent.
        EndpointError, BudgetSpent: what is finished is kept.
    """
    parts = _parts(chosen)
    cases = [_case(chosen, store, row, parts) for row in rows.values()]
    if not any(one.compared for one in cases):
        parts = tuple(part for part in parts if part != "similarity")
    cost = forecast.of_judge(
        [len(one.readings) for one in cases],
        parts,
        chosen.repeats,
        [one.compared.sent for one in cases if one.compared],
    )
    with endpoint_for(chosen, "judge", cost, parts) as endpoint:
        for case in cases:
            with desk_for(chosen, "judge", case.name, endpoint, parts) as desk:
                _judge(chosen, store, desk, case, parts)


def _judge(
    chosen: argparse.Namespace, store: DuckDBPyConnection, desk: Desk, case: Case,
    parts: tuple[Part, ...],
) -> None:  # fmt: skip
    scales = ()
    if "scale" in parts:
        scales = judge_parts.scale(desk, store, case, chosen.repeats)
        total = scale_total(scales)
        say(
            f"{case.name}  scale: the local rule's list at {total.as_local} of {total.positions} "
            f"positions, none coherent at {total.none}; all repeats alike at {total.alike}"
        )
    if "relevance" in parts:
        _say_relevance(case, judge_parts.relevance(desk, case, scales))
    if case.compared is not None:
        with judge_parts.embedding_endpoint(desk.endpoint, chosen.timeout) as embedding:
            found = judge_parts.similarity(desk, embedding, case, case.compared)
        for row in found["rows"]:
            say(f"{case.name}  {row['kind']} text to {row['corpus']}: {row['similarity']:.3f}")


def _say_relevance(case: Case, found: tuple[Marked, ...]) -> None:
    for reading in dict.fromkeys(one.reading for one in found):
        total = relevance_total([one for one in found if one.reading == reading])
        if total.best is None:
            told = "every position has a malformed answer"
        else:
            told = (
                f"{100 * (total.best.share or 0):.0f} % relevant at position {total.best.position}"
            )
        say(f"{case.name}  {reading}: {told}")


def _parts(chosen: argparse.Namespace) -> tuple[Part, ...]:
    """In the order in which they are done.

    Raises:
        LLMError: similarity without an embedding model.
    """
    asked = list(chosen.parts or JUDGED)
    if chosen.embeddings and "similarity" not in asked:
        asked.append("similarity")
    if "similarity" in asked and not (chosen.embeddings or "").strip():
        raise LLMError(
            "similarity needs an embedding model of the same service: --embeddings MODEL"
        )
    return tuple(part for part in PARTS if part in asked)


def _case(
    chosen: argparse.Namespace,
    store: DuckDBPyConnection,
    row: dict[str, Any],
    parts: tuple[Part, ...],
) -> Case:
    """Everything that can be missing is looked for before anything is paid for."""
    lens = judge_lists.lens_run(store, str(row["experiment_id"]))
    models, known = Models(row, chosen.out), truth.known(str(row["corpus"]))
    if "scale" in parts:
        models.check()
    if "relevance" in parts and not (known.description or known.words):
        raise LLMError(
            f"nothing is known of {known.corpus} but its name, so no token can be judged relevant "
            f"to it ({known.missing}). Take --parts scale"
        )
    compared = _compared(store, row, parts) if "similarity" in parts else None
    readings = tuple(judge_lists.readings(store, lens))
    return Case(row, lens, models, readings, known, compared)


def _compared(
    store: DuckDBPyConnection, row: dict[str, Any], parts: tuple[Part, ...]
) -> Compared | None:
    """None where an experiment has no text to compare, which is said; the other parts go on.

    Raises:
        LLMError: there are no other parts.
    """
    try:
        return judge_similarity.compared(store, row)
    except LLMError as problem:
        if parts == ("similarity",):
            raise
        say(f"{row['experiment_id']}  similarity: left out, {problem}")
        return None
