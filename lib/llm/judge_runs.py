"""Stored judgements of one experiment, and what they say together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lib.llm import transcripts
from lib.llm.agreement import krippendorff_alpha
from lib.llm.judge import NONE, Chosen, Marked, Overlap
from lib.llm.settings import Part
from lib.llm.transcripts import Record

PARTS: tuple[Part, ...] = ("scale", "relevance", "similarity")


class Stored(NamedTuple):
    """The latest whole record of every part; None = there is none."""

    scale: Record | None
    relevance: Record | None
    similarity: Record | None
    unfinished: tuple[Part, ...]
    """Begun after the latest whole one, or without one: the same command continues them."""
    damaged: int
    """Lines that could not be read."""

    @property
    def empty(self) -> bool:
        return not (self.scale or self.relevance or self.similarity)


class ScaleTotal(NamedTuple):
    """Over positions."""

    positions: int
    alike: int
    """Positions at which every repeat says the same."""
    alpha: float | None
    """Krippendorff's, ordinal over scales; "no list is coherent" left out. None = not defined."""
    as_local: int
    """Positions at which the judge names the local rule's list."""
    none: int
    """Positions at which no list is coherent."""
    malformed: int
    """Answers."""


class RelevanceTotal(NamedTuple):
    """One reading over its positions."""

    best: Marked | None
    """Position with the largest share of relevant tokens; None = no position was fully answered."""
    own: Marked | None
    """Position with the largest share of the corpus' own words, by words alone; None = no word."""
    positions: int
    judged: int
    """Positions at which all permutations were answered."""
    alpha: float | None
    """Krippendorff's, nominal, over tokens; None = not defined."""
    tokens: int


def stored(experiment_id: str, folder: Path | None = None) -> Stored:
    """What a folder of transcripts (default: this machine's) has on one experiment."""
    file = transcripts.file_of("judge", experiment_id)
    records, damaged = transcripts.read(folder / file.name if folder else file)
    latest: dict[str, Record] = {}
    begun: dict[str, str] = {}
    for one in records:
        if one["kind"] in PARTS:
            latest[one["kind"]] = one
            begun.pop(one["kind"], None)
        elif one["kind"] == "begun":
            begun[one["part"]] = one["key"]
    unfinished = tuple(part for part in PARTS if part in begun)
    return Stored(*(latest.get(part) for part in PARTS), unfinished, damaged)


def chosen_of(record: Record) -> tuple[Chosen, ...]:
    """Positions of a record ``scale``."""
    return tuple(_made(Chosen, one, ("own", "local_own")) for one in record["positions"])


def marked_of(record: Record) -> tuple[Marked, ...]:
    """Readings of a record ``relevance``."""
    return tuple(_made(Marked, one, ("own",)) for one in record["readings"])


def scale_total(found: Sequence[Chosen]) -> ScaleTotal:
    choices = [one.choices for one in found]
    scales = sorted({c for row in choices for c in row if c})
    place = {scale: i for i, scale in enumerate(scales)}
    ratings = [[place.get(c) if c else None for c in row] for row in choices]
    return ScaleTotal(
        positions=len(found),
        alike=sum(None not in row and len(set(row)) == 1 for row in choices),
        alpha=krippendorff_alpha(ratings, range(len(scales)), "ordinal"),
        as_local=sum(one.scale == one.local for one in found),
        none=sum(one.scale == NONE for one in found),
        malformed=sum(c is None for row in choices for c in row),
    )


def best_own(found: Sequence[tuple[int, Overlap | None]]) -> tuple[int, Overlap] | None:
    """Position and overlap with the largest share of own words, then the smallest p."""
    read = [(at, one) for at, one in found if one is not None and one.share is not None]
    return max(read, key=lambda pair: (pair[1].share or 0.0, -pair[1].p), default=None)


def relevance_total(found: Sequence[Marked]) -> RelevanceTotal:
    """Args: found: the positions of one reading."""
    judged = [one for one in found if one.relevant is not None]
    best = max(judged, key=lambda one: one.share or 0.0, default=None)
    top = best_own([(place, one.own) for place, one in enumerate(found)])
    ratings = [
        [None if marks is None else int(place in marks) for marks in one.marks]
        for one in found
        for place in range(len(one.tokens))
    ]
    return RelevanceTotal(
        best=best,
        own=None if top is None else found[top[0]],
        positions=len(found),
        judged=len(judged),
        alpha=krippendorff_alpha(ratings, (0, 1), "nominal"),
        tokens=len(ratings),
    )


def _made(kind: Any, fields: dict[str, Any], overlaps: tuple[str, ...]) -> Any:
    """A named tuple from its JSON, in which tuples are lists."""
    given = {name: _tuples(value) for name, value in fields.items()}
    given |= {name: Overlap(*given[name]) for name in overlaps if given[name] is not None}
    return kind(**given)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
