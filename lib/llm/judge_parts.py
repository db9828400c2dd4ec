"""The judge's parts of one experiment. Each ends in one record, which the page reads; a part that was
cut short is begun again and finds every answer in the transcript."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

from duckdb import DuckDBPyConnection

from lib.llm import embeddings, judge_similarity, transcripts
from lib.llm.desk import Desk
from lib.llm.endpoint import Endpoint
from lib.llm.judge import NONE, Chosen, Marked, Words, choose, mark
from lib.llm.judge_lists import Reading, Scales, Tokens, every_scale
from lib.llm.judge_runs import chosen_of, marked_of
from lib.llm.judge_similarity import Compared
from lib.llm.queries import Models
from lib.llm.settings import Part
from lib.llm.transcripts import Record, step_key
from lib.llm.truth import Truth

JUDGED = "patchscope at the judge's scale"
"""Reading that the store does not have."""


class Case(NamedTuple):
    """One experiment before the judge."""

    row: dict[str, Any]
    """Of table ``experiment``."""
    run: Record
    """Of table ``lens_run``."""
    models: Models
    readings: tuple[Reading, ...]
    truth: Truth
    compared: Compared | None
    """None = no similarity is asked for."""

    @property
    def words(self) -> Words:
        return Words(self.run["words"], self.run["vocabulary"])

    @property
    def name(self) -> str:
        return str(self.row["experiment_id"])


def scale(desk: Desk, store: DuckDBPyConnection, case: Case, repeats: int) -> tuple[Chosen, ...]:
    """Patchscope's scale at every position.

    Raises:
        LLMError, ModelError: the models or the probe text are not here.
        EndpointError, BudgetSpent: what is answered is kept in the desk's transcript.
    """
    key = _key(desk, case, "scale", repeats=repeats)
    found = desk.transcript.get("scale", key)
    if found is None:
        _begin(desk, case, "scale", key)
        made, deviation = _lists(desk, store, case)
        positions = [choose(desk, one, case.words, repeats=repeats) for one in made]
        found = desk.transcript.add(
            "scale", key, **_facts(desk, case), repeats=repeats, deviation=deviation,
            positions=[one._asdict() for one in positions],
        )  # fmt: skip
    return chosen_of(found)


def relevance(desk: Desk, case: Case, scales: Sequence[Chosen] = ()) -> tuple[Marked, ...]:
    """Relevance of the stored readings, and of the judge's own choice where it is another list.

    Raises:
        EndpointError, BudgetSpent: what is answered is kept in the desk's transcript.
    """
    given = [*case.readings]
    for one in scales:
        if one.scale not in (None, NONE, one.local):
            given.append(Reading(JUDGED, one.position, Tokens(one.tokens, one.words)))
    key = _key(
        desk, case, "relevance", truth=case.truth.told(),
        readings=[[one.reading, one.position, one.read.tokens] for one in given],
    )  # fmt: skip
    found = desk.transcript.get("relevance", key)
    if found is None:
        _begin(desk, case, "relevance", key)
        marks = [mark(desk, one, case.truth, case.words) for one in given]
        found = desk.transcript.add(
            "relevance", key, **_facts(desk, case), readings=[one._asdict() for one in marks]
        )
    return marked_of(found)


def similarity(desk: Desk, endpoint: Endpoint, case: Case, given: Compared) -> Record:
    """Of steered and unsteered text to the corpora, by the embedding model.

    Args:
        endpoint: for embeddings.

    Raises:
        EndpointError, BudgetSpent: the vectors that came are kept.
    """
    model = endpoint.settings.embedder
    key = _key(desk, case, "similarity", embedder=model, texts=given.sent)
    found = desk.transcript.get("similarity", key)
    if found is None:
        _begin(desk, case, "similarity", key)
        file = embeddings.file_of(endpoint)
        with transcripts.opened(file) as kept:
            embed = embeddings.Embedder(endpoint, kept, file)
            rows = judge_similarity.rows(given, embed)
        facts = _facts(desk, case) | {"model": model}
        found = desk.transcript.add(
            "similarity", key, **facts, rows=rows, texts=len(given.sent), cost=embed.tokens
        )
    return found


def embedding_endpoint(endpoint: Endpoint, timeout: float) -> "closing[Endpoint]":
    """The same service and budget at the address of embeddings."""
    settings = endpoint.settings
    where = settings._replace(url=settings.embeddings_url)
    return closing(Endpoint(where, endpoint.budget, timeout=timeout))


def _lists(desk: Desk, store: DuckDBPyConnection, case: Case) -> tuple[list[Scales], float | None]:
    """From the transcript, else of the models on this machine."""
    key = step_key(experiment=case.name, adapter=case.row["adapter_hash"], lens=case.run["part"])
    found = desk.transcript.get("lists", key)
    if found is None:
        made, deviation = every_scale(store, case.run, case.models.loaded())
        packed = [
            [one.position, one.local, [[s, *read] for s, read in one.lists.items()]] for one in made
        ]
        found = desk.transcript.add("lists", key, positions=packed, deviation=deviation)
    made = [
        Scales(
            position,
            {s: Tokens(tuple(tokens), tuple(words)) for s, tokens, words in lists},
            local,
        )
        for position, local, lists in found["positions"]
    ]
    return made, found["deviation"]


def _key(desk: Desk, case: Case, part: Part, **more: Any) -> str:
    settings = desk.endpoint.settings
    return step_key(
        part=part, url=settings.url, model=settings.model, most=desk.answer_tokens,
        experiment=case.name, adapter=case.row["adapter_hash"], lens=case.run["part"], **more,
    )  # fmt: skip


def _begin(desk: Desk, case: Case, part: Part, key: str) -> None:
    desk.transcript.add("begun", key, part=part, experiment=case.name)


def _facts(desk: Desk, case: Case) -> dict[str, Any]:
    return {
        "experiment": case.name, "corpus": case.truth.corpus, "model": desk.endpoint.settings.model,
        "lens": case.run["part"],
    }  # fmt: skip
