"""python -m lib agent | label | judge EXPERIMENT...: what they read, print and refuse."""

import argparse
import math
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from lib import paths
from lib.llm import forecast, judge_command, material, transcripts, truth, windows
from lib.llm.agent import Subject, investigate, run_key
from lib.llm.budget import BudgetSpent
from lib.llm.conditions import Condition
from lib.llm.desk import Desk
from lib.llm.grader import category, grade
from lib.llm.labels import make, total
from lib.llm.queries import Models
from lib.llm.session import desk_for, endpoint_for, say
from lib.llm.settings import LLMError, Purpose, from_environment
from lib.llm.windows import FeatureText
from lib.store.read import StoreError, dictionary_layers, experiment, open_store


def agent(chosen: argparse.Namespace) -> int:
    return _guarded(chosen, "agent")


def label(chosen: argparse.Namespace) -> int:
    return _guarded(chosen, "label")


def judge(chosen: argparse.Namespace) -> int:
    return _guarded(chosen, "judge")


def _guarded(chosen: argparse.Namespace, purpose: Purpose) -> int:
    """Run one subcommand; whatever stops it is one sentence with the next step."""
    try:
        _check(chosen)
        from_environment()
        with closing(open_store(_store_file(chosen))) as store:
            {"agent": _agent, "label": _label, "judge": _judge}[purpose](chosen, store)
    except BudgetSpent as problem:
        return _fail(
            f"{problem}. What is finished is kept and is not paid for again: repeat the command "
            "with a larger --max-tokens, --max-requests or --max-seconds"
        )
    except (LLMError, StoreError, ValueError) as problem:  # ModelError is a ValueError
        return _fail(problem)
    except KeyboardInterrupt:
        return _fail("stopped; what is finished is kept: repeat the command to continue")
    return 0


def _agent(chosen: argparse.Namespace, store: DuckDBPyConnection) -> None:
    conditions = [Condition.named(name) for name in dict.fromkeys(chosen.conditions)]
    lens = any(one.kind == "lens" for one in conditions)
    rows = {name: _row(store, name) for name in dict.fromkeys(chosen.experiment)}
    subjects = [
        Subject(
            name, str(row["corpus"]), str(row["adapter_hash"] or ""),
            material.of_experiment(store, name) if lens else None,
        )
        for name, row in rows.items()
    ]  # fmt: skip
    models = {name: Models(row, chosen.out) for name, row in rows.items()}
    if any(one.queries for one in conditions):
        for one in models.values():
            one.check()
    grades = chosen.grades * len(from_environment().graders)
    cost = forecast.of_agent(_due(chosen, subjects, conditions), grades)
    with endpoint_for(chosen, "agent", cost) as endpoint:
        for subject in subjects:
            with desk_for(chosen, "agent", subject.experiment_id, endpoint) as desk:
                _investigate(chosen, desk, subject, conditions, models[subject.experiment_id])


def _due(
    chosen: argparse.Namespace, subjects: list[Subject], conditions: list[Condition]
) -> list[tuple[Subject, Condition]]:
    """One entry per run that no transcript holds; a finished run may still want a grade."""
    settings, due = from_environment(), []
    for subject in subjects:
        records, _ = transcripts.read(transcripts.file_of("agent", subject.experiment_id))
        done = {record["key"] for record in records if record["kind"] == "run"}
        due += [
            (subject, one)
            for one in conditions
            for repeat in range(chosen.repeats)
            if run_key(settings, chosen.answer_tokens, subject, one, repeat) not in done
        ]
    return due


def _investigate(
    chosen: argparse.Namespace,
    desk: Desk,
    subject: Subject,
    conditions: list[Condition],
    ask: Models,
) -> None:
    """Every run of one experiment, each graded as soon as it ends."""
    known = truth.known(subject.corpus)
    for one in conditions:
        for repeat in range(chosen.repeats):
            done = investigate(desk, subject, one, ask, repeat=repeat)
            given = grade(desk, done, known, repeats=chosen.grades)
            verdict = category(done, [g.grade for g in given])
            stated = done.verdict.domain if done.verdict else done.problem
            say(f"{subject.experiment_id}  {one.name}  {verdict}: {stated}")


def _label(chosen: argparse.Namespace, store: DuckDBPyConnection) -> None:
    texts = {}
    for name in dict.fromkeys(chosen.experiment):
        for layer in _layers(chosen, store, name):
            texts[name, layer] = _texts(chosen, store, name, layer)
    cost = forecast.of_labels([one for found in texts.values() for one in found])
    if not cost.runs:
        raise LLMError("there is no feature with text enough to make a label from")
    with endpoint_for(chosen, "label", cost) as endpoint:
        for (name, layer), found in texts.items():
            with desk_for(chosen, "label", name, endpoint) as desk:
                made = make(desk, name, layer, found)
            for one in made:
                score = f"{one.own.score.value:.2f}" if one.own else "not measured"
                told = (
                    f"{one.label} ({score})" if one.label else "no label, the answer was malformed"
                )
                say(f"{name}  layer {layer}  feature {one.latent}: {told}")
            if (means := total([(one.own, one.other) for one in made])) is not None:
                say(
                    f"{name}  layer {layer}: balanced accuracy {means.own.value:.2f}, with another "
                    f"feature's label {means.other.value:.2f}, {means.n} features"
                )


def _judge(chosen: argparse.Namespace, store: DuckDBPyConnection) -> None:
    names = dict.fromkeys(chosen.experiment)
    judge_command.run(chosen, store, {name: _row(store, name) for name in names})


def _layers(chosen: argparse.Namespace, store: DuckDBPyConnection, name: str) -> list[int]:
    _row(store, name)
    known = dictionary_layers(store, name)
    if chosen.layer is not None and chosen.layer not in known:
        raise LLMError(f"{name} has no crosscoder at layer {chosen.layer}; it has {known}")
    return known if chosen.layer is None else [chosen.layer]


def _texts(
    chosen: argparse.Namespace, store: DuckDBPyConnection, name: str, layer: int
) -> list[FeatureText]:
    """Of the features that are asked for; those without text are named."""
    latents = chosen.latents or windows.strongest(store, name, layer, chosen.top)
    found = [windows.of_feature(store, name, layer, one) for one in dict.fromkeys(latents)]
    for one in found:
        if one.missing:
            say(f"{name}  layer {layer}  feature {one.latent}: left out, {one.missing}")
    return found


def _row(store: DuckDBPyConnection, name: str) -> dict[str, Any]:
    try:
        return experiment(store, name)
    except LookupError as problem:
        raise LLMError(str(problem.args[0])) from None


def _check(chosen: argparse.Namespace) -> None:
    names = ("repeats", "grades", "top", "answer_tokens", "timeout")
    for name in names:
        if not 0 < getattr(chosen, name, 1) < math.inf:
            raise LLMError(f"--{name.replace('_', '-')} must be above 0")
    numbers = [getattr(chosen, "top", 0), getattr(chosen, "layer", 0) or 0]
    for value in (*numbers, *(getattr(chosen, "latents", None) or ())):
        if not 0 <= value < 2**31:
            raise LLMError(
                f"{str(value)[:40]} is no number of a feature, a layer or a count of them"
            )


def _store_file(chosen: argparse.Namespace) -> Path:
    return paths.store_file(chosen.out)


def _fail(error: object) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 1
