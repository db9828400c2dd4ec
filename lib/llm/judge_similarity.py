"""Whose text does steered text sound like, by an embedding model: the texts, and the result's rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

from duckdb import DuckDBPyConnection

from lib import corpora
from lib.lens.similarity import Similarity, Texts, pieces, similarity
from lib.llm.judge_lists import heldout
from lib.llm.settings import LLMError
from lib.store import lens

Embed = Callable[[list[str]], Any]
KINDS = ("unsteered", "steered")
OTHERS = tuple(name for name in corpora.OWN if name != "neutral")


class Compared(NamedTuple):
    """Written text, and the corpora it is compared with."""

    kinds: dict[str, Texts]
    corpora: dict[str, list[str]]
    """The experiment's own, as it was trained on, and ours that it never saw."""

    @property
    def sent(self) -> list[str]:
        """Every text that is embedded, each once."""
        known = [piece for part in pieces(self.corpora).values() for piece in part]
        return list(dict.fromkeys(known + [t for one in self.kinds.values() for t in one.texts]))


def compared(store: DuckDBPyConnection, row: dict[str, Any]) -> Compared:
    """What the steering view compares, from the store and the corpora on this machine.

    Raises:
        LLMError: no steered text is stored, or the corpus is not here.
    """
    name, own = str(row["experiment_id"]), str(row["corpus"])
    written = lens.generations(store, name)
    if written.is_empty() or written["text"].null_count() == len(written):
        why = "was not steered" if written.is_empty() else "keeps no texts (`keep_text: false`)"
        raise LLMError(f"{name} {why}, so no text can be compared")
    kinds = {}
    for kind in KINDS:
        part = written.filter(kind=kind).drop_nulls("text")
        if part.is_empty():
            raise LLMError(f"{name} has no {kind} text to compare")
        kinds[kind] = Texts(part["prompt"].to_list(), part["text"].to_list())
    try:
        documents = corpora.load(own, minimum=1, download=False).documents
        others = {n: corpora.load(n, minimum=1).documents for n in OTHERS if n != own}
    except corpora.CorpusError as problem:
        raise LLMError(
            f"a corpus that the text of {name} is compared with is not here: {problem}"
        ) from None
    out = heldout(store, str(row["base_model"]), own)
    texts = {own: [d.text for d in documents if d.id not in out]}
    return Compared(kinds, texts | {n: [d.text for d in found] for n, found in others.items()})


def rows(given: Compared, embed: Embed) -> list[dict[str, Any]]:
    """As in table ``lens_similarity``, with cosines of embeddings, -1..1.

    Raises:
        EndpointError, BudgetSpent: of ``embed``.
        ValueError: a corpus too short for one piece.
    """
    found = similarity(given.kinds, given.corpora, embed=embed)
    return [_row(kind, one, corpus) for kind, one in found.items() for corpus in one.corpora]


def _row(kind: str, found: Similarity, corpus: str) -> dict[str, Any]:
    mean = found.interval(corpus)
    return {
        "kind": kind, "corpus": corpus, "similarity": mean.value, "low": mean.low, "high": mean.high,
        "prompts": found.prompts.tolist(), "prompt_similarity": found.of(corpus).tolist(),
    }  # fmt: skip
