"""Stored runs of the agent: verdicts, grades, agreement, transcripts, cost."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lib.llm import transcripts
from lib.llm.agent import Investigation, from_record
from lib.llm.agreement import krippendorff_alpha
from lib.llm.grader import ABSTAINED, CATEGORIES, GRADES, HALLUCINATED, ORDINAL, Grade, category
from lib.llm.transcripts import Record
from lib.metrics.shares import Share, wilson

RIGHT = ("general", "specific")
"""Categories that name the right domain."""


class StoredRun(NamedTuple):
    experiment: str
    corpus: str
    at: str
    """UTC, ISO 8601."""
    done: Investigation
    grades: tuple[Grade, ...]
    """By grader and repeat."""
    category: str
    """One of ``grader.CATEGORIES``."""

    @property
    def tokens(self) -> int:
        """Of the agent and of its graders."""
        return self.done.tokens + sum(grade.tokens for grade in self.grades)


class Stored(NamedTuple):
    runs: tuple[StoredRun, ...]
    """Finished, oldest first."""
    unfinished: int
    """Begun and neither finished nor begun again: the same command continues them."""
    on_the_way: int
    """Questions on the way when a run was killed, so possibly paid and not stored."""
    damaged: int
    """Lines that could not be read."""


class Line(NamedTuple):
    """One message of a transcript."""

    who: str
    """system | user | assistant"""
    text: str
    tokens: int | None
    """Of the exchange that this answer ended."""


class Agreement(NamedTuple):
    """Krippendorff's alpha; None = not defined (see ``krippendorff_alpha``)."""

    repeats: dict[str, float | None]
    """Ordinal, between the repeats of each grader."""
    graders: float | None
    """Ordinal, between the two graders, each with the middle of its repeats; None with one grader."""
    nominal: float | None
    """Between all grades, ``none`` (no domain stated) included, without their order."""
    statements: int
    """Graded ones."""


class Score(NamedTuple):
    """One condition over all runs of one model."""

    condition: str
    model: str
    runs: int
    adapters: int
    right: Share
    """Share of runs whose category is general or specific; 95 %, the runs taken as independent."""
    counts: dict[str, int]
    """Runs by category."""
    tokens: int

    @property
    def invented(self) -> int:
        return self.counts.get(HALLUCINATED, 0)

    @property
    def abstained(self) -> int:
        return self.counts.get(ABSTAINED, 0)


def stored(folder: Path | None = None) -> Stored:
    """Every finished run in a folder of transcripts (default: this machine's)."""
    runs: list[StoredRun] = []
    unfinished = unsure = damaged = 0
    for file in sorted((folder or transcripts.folder("agent")).glob("*.jsonl")):
        records, bad = transcripts.read(file)
        runs += _runs(records)
        keys = {kind: {r["key"] for r in records if r["kind"] == kind} for kind in _KINDS}
        unfinished += len(keys["begun"] - keys["run"])
        unsure += len(keys["asked"] - keys["exchange"])
        damaged += bad
    return Stored(tuple(sorted(runs, key=lambda run: run.at)), unfinished, unsure, damaged)


def conversation(experiment_id: str, run: str, folder: Path | None = None) -> list[Line]:
    """Everything said in one run, in order; grading is not part of it."""
    file = transcripts.file_of("agent", experiment_id)
    lines: list[Line] = []
    for one in transcripts.read(folder / file.name if folder else file).records:
        if one["kind"] == "exchange" and one["run"] == run and one["step"].startswith("turn"):
            lines += [Line(m["role"], m["content"], None) for m in one["messages"]]
            lines.append(
                Line("assistant", one["answer"], one["prompt_tokens"] + one["answer_tokens"])
            )
    return lines


def agreement(runs: Sequence[StoredRun]) -> Agreement:
    """How far the grades of all given runs agree."""
    graded = [run for run in runs if run.grades]
    names = sorted({g.grader for run in graded for g in run.grades})
    places = range(len(ORDINAL))
    rows = {name: [_ordinal(run, name) for run in graded] for name in names}
    repeats = {name: krippendorff_alpha(rows[name], places, "ordinal") for name in names}
    between = None
    if len(names) == 2:
        pairs = [[_middle(row) for row in both] for both in zip(*rows.values(), strict=True)]
        between = krippendorff_alpha(pairs, places, "ordinal")
    every = [[GRADES.index(g.grade) if g.grade else None for g in run.grades] for run in graded]
    nominal = krippendorff_alpha(every, range(len(GRADES)), "nominal")
    return Agreement(repeats, between, nominal, len(graded))


def scores(runs: Sequence[StoredRun]) -> list[Score]:
    """One row per condition and model of the agent, in alphabetic order. Runs without a grade do not
    count."""
    found = []
    judged = [run for run in runs if run.category in CATEGORIES[:-1]]
    for condition, model in sorted({(run.done.condition, run.done.model) for run in judged}):
        own = [run for run in judged if (run.done.condition, run.done.model) == (condition, model)]
        counts = Counter(run.category for run in own)
        right = wilson(sum(counts[name] for name in RIGHT), len(own))
        adapters = len({run.experiment for run in own})
        tokens = sum(run.tokens for run in own)
        found.append(Score(condition, model, len(own), adapters, right, dict(counts), tokens))
    return found


_KINDS = ("begun", "run", "asked", "exchange")


def _runs(records: Sequence[Record]) -> list[StoredRun]:
    found = []
    grades: dict[str, dict[str, Grade]] = {}
    for one in records:
        if one["kind"] == "grade":
            grade = Grade(**{name: one[name] for name in Grade._fields})
            grades.setdefault(one["run"], {})[one["key"]] = grade
    for one in {r["key"]: r for r in records if r["kind"] == "run"}.values():
        done = from_record(one)
        own = sorted(grades.get(done.key, {}).values(), key=lambda g: (g.grader, g.repeat))
        verdict = category(done, [g.grade for g in own])
        found.append(
            StoredRun(one["experiment"], one["corpus"], one["at"], done, tuple(own), verdict)
        )
    return found


def _ordinal(run: StoredRun, grader: str) -> list[int | None]:
    """Places of one grader's grades in order; None where it gave none that has a place."""
    own = [grade.grade for grade in run.grades if grade.grader == grader]
    return [ORDINAL.index(name) if name in ORDINAL else None for name in own]


def _middle(row: Sequence[int | None]) -> int | None:
    """The lower median."""
    given = sorted(value for value in row if value is not None)
    return given[(len(given) - 1) // 2] if given else None
