"""Passages around a feature's strongest firings, as text from the corpora on this machine."""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.latents import examples
from lib.store.read import _ask
from lib.store.text import document_text, token_texts

SPAN = 11
"""Tokens of a passage to be judged: the strongest and five on each side."""
FEWEST = 3
"""Examples with text that a label needs: two to read and one to be tested on."""
UNSURE = 0.5
"""A feature that may fire by chance in more than this share of passages is tested only on passages
where it is stored that it does not."""
OPEN, CLOSE = "«", "»"
"""Around what fires, in passages that the label is made from; taken out of the text itself."""


_DENSE = "it fires on {often:.1f} % of tokens: too little text is known where it does not"


class Passage(NamedTuple):
    text: str
    fires: bool
    origin: str
    """``example``: held-out example; ``beside``: the same window, where it does not fire;
    ``elsewhere``: another feature's example, from a document where this feature has none. Whether the
    feature fires there too is not stored."""


class FeatureText(NamedTuple):
    """What a label is made from and what it is tested on; from different documents."""

    latent: int
    shown: tuple[str, ...]
    """Windows of up to 25 tokens, what fires in marks, strongest first."""
    passages: tuple[Passage, ...]
    """As many on which it fires as not, shuffled."""
    unsure: float
    """Most share of the ``elsewhere`` passages in which it may fire, by its frequency; 0..1."""
    missing: str
    """Why there is no text, or too little; empty = there is enough."""


def of_feature(
    store: DuckDBPyConnection, experiment_id: str, layer: int, latent: int
) -> FeatureText:
    """Every second example, by strength, is read; the others are held out for the test.

    The store has one example per document, so no document stands on both sides.
    """
    found = examples(store, experiment_id, layer, latent).to_dicts()
    there, missing = [], ""
    for row in found:
        text = document_text(row["corpus"], row["document_id"], row["sha256"])
        missing = missing or text.reason
        if text.text is not None and row["positions"]:
            there.append((row, _tokens(text.text, row)))
    if len(there) < FEWEST:
        why = missing or f"the store has {len(there)} examples of it; a label needs {FEWEST}"
        return FeatureText(latent, (), (), 0.0, why)
    often = _frequency(store, experiment_id, layer, latent)
    unsure = min(often * SPAN, 1.0)
    draw = random.Random(f"{experiment_id}/{layer}/{latent}")
    held = there[1::2]
    passages = [Passage(_around(row, tokens), True, "example") for row, tokens in held]
    rest = []
    if unsure <= UNSURE:
        rest = _elsewhere(store, experiment_id, layer, latent, found, draw)
    for place, (row, tokens) in enumerate(held):
        beside = _beside(row, tokens)
        if beside and (place % 2 == 0 or not rest):
            passages.append(Passage(beside, False, "beside"))
        elif rest:
            passages.append(Passage(rest.pop(), False, "elsewhere"))
    if len(passages) < 2 * len(held):
        return FeatureText(latent, (), (), 0.0, _DENSE.format(often=100 * often))
    draw.shuffle(passages)
    shown = tuple(_marked(row, tokens) for row, tokens in there[::2])
    return FeatureText(latent, shown, tuple(passages), unsure, "")


def strongest(store: DuckDBPyConnection, experiment_id: str, layer: int, top: int) -> list[int]:
    """The features that carry most of the difference, largest first; of those with examples enough that
    do not fire too often to be tested."""
    rows = _ask(
        store,
        """
        SELECT latent FROM latent
        WHERE experiment_id = $id AND layer = $layer AND class <> 'dead' AND frequency <= $most
        AND latent IN (
            SELECT latent FROM example WHERE experiment_id = $id AND layer = $layer
            GROUP BY latent HAVING count(*) >= $fewest)
        ORDER BY difference_share DESC NULLS LAST, latent LIMIT $top
        """,
        id=experiment_id,
        layer=layer,
        fewest=FEWEST,
        most=UNSURE / SPAN,
        top=top,
    )
    return rows["latent"].to_list()


def _tokens(text: str, row: dict[str, Any]) -> list[str]:
    tokens = token_texts(text, row["char_ends"], row["token_start"], row["token_end"])
    return [token.replace(OPEN, '"').replace(CLOSE, '"') for token in tokens]


def _marked(row: dict[str, Any], tokens: Sequence[str]) -> str:
    fires = {position - row["token_start"] for position in row["positions"]}
    return "".join(f"{OPEN}{t}{CLOSE}" if i in fires else t for i, t in enumerate(tokens))


def _around(row: dict[str, Any], tokens: Sequence[str]) -> str:
    """``SPAN`` tokens with the strongest in the middle, moved where the window ends."""
    peak = max(zip(row["activations"], row["positions"], strict=True))[1] - row["token_start"]
    start = max(min(peak - SPAN // 2, len(tokens) - SPAN), 0)
    return "".join(tokens[start : start + SPAN])


def _beside(row: dict[str, Any], tokens: Sequence[str]) -> str:
    """The first stretch of ``SPAN`` tokens without a firing; empty where there is none."""
    fires = {position - row["token_start"] for position in row["positions"]}
    for start in range(len(tokens) - SPAN + 1):
        if not fires & set(range(start, start + SPAN)):
            return "".join(tokens[start : start + SPAN])
    return ""


def _elsewhere(
    store: DuckDBPyConnection,
    experiment_id: str,
    layer: int,
    latent: int,
    own: Sequence[dict[str, Any]],
    draw: random.Random,
) -> list[str]:
    """As many passages of other features' examples as this one has examples."""
    rows = _others(store, experiment_id, layer, latent).to_dicts()
    documents = {(row["corpus"], row["document_id"]) for row in own}
    draw.shuffle(rows)
    found: list[str] = []
    for row in rows:
        name = (row["corpus"], row["document_id"])
        if len(found) == len(own):
            break
        text = document_text(*name, row["sha256"]).text if name not in documents else None
        if text is not None:
            documents.add(name)
            found.append(_around(row, _tokens(text, row)))
    return found


def _others(store: DuckDBPyConnection, experiment_id: str, layer: int, latent: int) -> pl.DataFrame:
    """A few hundred examples of other features, the same in every call."""
    return _ask(
        store,
        """
        SELECT x.corpus, x.document_id, token_start, token_end, positions, activations, sha256,
               char_ends
        FROM example x JOIN experiment e USING (experiment_id)
        JOIN document d ON d.base_model = e.base_model AND d.corpus = x.corpus
            AND d.document_id = x.document_id
        WHERE experiment_id = $id AND layer = $layer AND latent <> $latent
          AND token_end - token_start >= $span AND len(positions) > 0
        ORDER BY md5(concat_ws('/', $latent, x.latent, x.rank)), x.latent, x.rank LIMIT 200
        """,
        id=experiment_id,
        layer=layer,
        latent=latent,
        span=SPAN,
    )


def _frequency(store: DuckDBPyConnection, experiment_id: str, layer: int, latent: int) -> float:
    rows = _ask(
        store,
        """SELECT frequency FROM latent
        WHERE experiment_id = $id AND layer = $layer AND latent = $latent""",
        id=experiment_id,
        layer=layer,
        latent=latent,
    )
    return rows["frequency"][0] or 0.0
