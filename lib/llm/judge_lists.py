"""What the judge reads: Patchscope's tokens at every scale, made here; readings of the store."""

from typing import Any, NamedTuple

import numpy as np
from duckdb import DuckDBPyConnection

from lib import corpora
from lib.lens.words import words_in
from lib.llm.material import POSITIONS, READINGS, TOKENS, plain
from lib.llm.settings import LLMError
from lib.llm.transcripts import Record
from lib.store import lens
from lib.store.read import _ask

DEVIATION = 0.1
"""Of the norms made here from those of the store; above it, these are other differences."""


class Tokens(NamedTuple):
    """What was read in one vector, most probable first."""

    tokens: tuple[str, ...]
    words: tuple[int, ...]
    """Word of each token; -1 = none (``lib.lens.words``)."""


class Scales(NamedTuple):
    """Patchscope of one position at every scale at which it reads anything."""

    position: int
    lists: dict[float, Tokens]
    """By scale, rising."""
    local: float
    """The local rule's scale."""

    def distinct(self) -> dict[float, Tokens]:
        """Each list once, under its smallest scale."""
        first: dict[tuple[str, ...], float] = {}
        for scale, found in self.lists.items():
            first.setdefault(found.tokens, scale)
        return {scale: self.lists[scale] for scale in first.values()}


class Reading(NamedTuple):
    reading: str
    position: int
    read: Tokens


def lens_run(store: DuckDBPyConnection, experiment_id: str) -> Record:
    """The row of table ``lens_run``, with what ``lib.store.lens.runs`` adds.

    Raises:
        LLMError: the store has no lens of this experiment.
    """
    for row in lens.runs(store).filter(experiment_id=experiment_id).iter_rows(named=True):
        return row
    raise LLMError(
        f"the store has no lens of {experiment_id}, so there is nothing to judge: run its experiments "
        "file again with `python -m lib run`"
    )


def readings(store: DuckDBPyConnection, run: Record) -> list[Reading]:
    """The 20 strongest tokens of lens and Patchscope at the first five positions, middle block."""
    rows = lens.readings(store, run["experiment_id"], run["layer"])
    return [
        Reading(row["reading"], row["position"], _tokens(row["tokens"], row["words"]))
        for row in rows.iter_rows(named=True)
        if row["reading"] in READINGS and 0 <= row["position"] < POSITIONS
    ]


def every_scale(
    store: DuckDBPyConnection, run: Record, loaded: Any
) -> tuple[list[Scales], float | None]:
    """Patchscope's tokens at all 30 scales, and how far the differences are from the store's.

    The store keeps no vectors: the mean differences are taken again, on the probe text of the run.

    Args:
        run: as ``lens_run`` gives it.
        loaded: a ``LoadedModel`` with the adapter on.

    Returns:
        Positions at which anything is read; and the largest relative deviation of the differences'
        norms from those of the store, None where it has none.

    Raises:
        LLMError: the probe text is not here, or gives other differences.
    """
    from lib.lens.patchscope import SCALES, patchscope
    from lib.lens.probe import differences
    from lib.lens.words import word_classes

    layer, positions = run["layer"], min(run["positions"], POSITIONS)
    ids = _probe_ids(store, run, loaded.tokenizer)
    probed = differences(loaded, ids, positions=positions, layers=[layer])
    found = probed.differences[layer]
    deviation = _deviation(store, run, found.norm.tolist())
    classes = word_classes(loaded.tokenizer, len(loaded.unembedding))
    read = patchscope(
        loaded, found.mean.float(), probed.eta[layer], layer, k=run["k"], classes=classes
    )
    made = []
    for position, (lists, local) in enumerate(zip(read.every, read.scale, strict=True)):
        kept = {}
        for scale, line in zip(SCALES, lists.tolist(), strict=True):
            known = [token for token in line if token >= 0]
            spelt = [loaded.tokenizer.decode([token]) for token in known]
            if known:
                kept[scale] = _tokens(spelt, words_in(classes, np.array(known)).tolist())
        if kept:
            nearest = min(kept, key=lambda scale, local=float(local): abs(scale - local))
            made.append(Scales(position, kept, nearest))
    return made, deviation


def _probe_ids(store: DuckDBPyConnection, run: Record, tokenizer: Any) -> Any:
    """As the lens stage draws it: training texts, then held-out ones, permuted by the seed; as many
    tokens of each as the far positions need, or fewer if half of the texts are shorter."""
    from lib.lens.contexts import FAR
    from lib.lens.probe import NORM_TOKENS, first_tokens

    try:
        loaded = corpora.load(run["probe"], minimum=1, download=False, tokenizer=tokenizer)
    except corpora.CorpusError as problem:
        raise LLMError(
            f"the probe text of {run['experiment_id']} ({run['probe']}) is not here, so its scales "
            f"cannot be read again: {problem}. Take --parts relevance"
        ) from None
    out = heldout(store, run["base_model"], run["probe"])
    ordered = sorted(loaded.documents, key=lambda document: document.id in out)
    order = np.random.default_rng(run["seed"]).permutation(len(ordered))
    documents = [ordered[i] for i in order]
    lengths = [
        len(ids)
        for ids in tokenizer([d.text for d in documents], add_special_tokens=False).input_ids
    ]
    least = run["positions"]
    wanted = [*(start + least for start in reversed(FAR)), NORM_TOKENS + least, least]
    fits = [n for n in wanted if 2 * sum(length >= n for length in lengths) >= len(lengths)]
    return first_tokens(tokenizer, documents, fits[0] if fits else least)[: run["texts"]]


def heldout(store: DuckDBPyConnection, base_model: str, corpus: str) -> set[str]:
    """Ids of the documents of a corpus on which the model was not trained."""
    rows = _ask(
        store,
        """SELECT document_id FROM document
           WHERE base_model = $model AND corpus = $corpus AND split = 'heldout'""",
        model=base_model,
        corpus=corpus,
    )
    return set(rows["document_id"])


def _deviation(store: DuckDBPyConnection, run: Record, norms: list[float]) -> float | None:
    rows = lens.differences(store, run["experiment_id"]).filter(
        probe=run["probe"], layer=run["layer"]
    )
    stored = dict(zip(rows["position"], rows["norm"], strict=True))
    both = [(norms[at], norm) for at, norm in stored.items() if at < len(norms) and norm > 0]
    if not both:
        return None
    worst = max(abs(here - there) / there for here, there in both)
    if not worst <= DEVIATION:
        raise LLMError(
            f"the mean differences of {run['experiment_id']} come out otherwise here than in the store "
            f"(norms differ by up to {100 * worst:.0f} %): its probe text or base model has changed. "
            "Run its experiments file again, or take --parts relevance"
        )
    return worst


def _tokens(tokens: list[str], words: list[int]) -> Tokens:
    return Tokens(tuple(plain(t) for t in tokens[:TOKENS]), tuple(words[:TOKENS]))
