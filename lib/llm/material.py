"""What the agent is shown of one adapter: readings of the lens and steered text, from the store.

Nothing here names the experiment, its corpus or its model: that is what the agent has to find.
"""

import json
from typing import NamedTuple

from duckdb import DuckDBPyConnection

from lib.lens.prompts import PROMPTS
from lib.llm.settings import LLMError
from lib.store.read import _ask

READINGS = ("lens", "patchscope")
POSITIONS = 5
TOKENS = 20
PAIRS = 20
TEXT_LIMIT = 600
"""Characters of each steered or unsteered text."""


class Reading(NamedTuple):
    reading: str
    position: int
    tokens: tuple[str, ...]
    """Strongest first, as text."""


class Pair(NamedTuple):
    """The tuned model's text with and without the difference added, from one prompt."""

    prompt: str
    """Both forms of it: a model that continues text was given the first, a chat model the second."""
    steered: str
    unsteered: str


class Material(NamedTuple):
    readings: tuple[Reading, ...]
    pairs: tuple[Pair, ...]

    def told(self) -> str:
        """As the agent reads it."""
        parts = [
            f"{one.reading}, position {one.position}: "
            + json.dumps(list(one.tokens), ensure_ascii=False)
            for one in self.readings
        ]
        for number, pair in enumerate(self.pairs, 1):
            plain, steered = (
                json.dumps(t, ensure_ascii=False) for t in (pair.unsteered, pair.steered)
            )
            told = f"after {pair.prompt}.\nwithout: {plain}\nwith: {steered}"
            parts.append(f"Steering pair {number}, {told}")
        return "\n".join(parts)


def of_experiment(store: DuckDBPyConnection, experiment_id: str) -> Material:
    """Top tokens of lens and Patchscope at five positions, and one pair of texts per prompt.

    Text is stored only of corpora that may be shown; without it the agent has the tokens alone.

    Raises:
        LLMError: the store has no lens of this experiment.
    """
    rows = _ask(
        store,
        """
        SELECT reading, position, list_slice(tokens, 1, $tokens) AS tokens
        FROM lens_reading JOIN lens_run USING (experiment_id, layer)
        WHERE experiment_id = $id AND list_contains($readings, reading)
          AND position BETWEEN 0 AND $positions - 1
        ORDER BY list_position($readings, reading), position
        """,
        id=experiment_id,
        tokens=TOKENS,
        positions=POSITIONS,
        readings=list(READINGS),
    )
    if rows.is_empty():
        raise LLMError(
            f"the store has no lens of {experiment_id}: run its experiments file again with "
            "`python -m lib run`, or ask the black box alone: --conditions blackbox:5"
        )
    readings = tuple(
        Reading(reading, position, tuple(plain(t) for t in tokens))
        for reading, position, tokens in rows.iter_rows()
    )
    return Material(readings, _pairs(store, experiment_id))


def _pairs(store: DuckDBPyConnection, experiment_id: str) -> tuple[Pair, ...]:
    rows = _ask(
        store,
        """
        SELECT prompt, s.text, u.text
        FROM lens_generation s JOIN lens_generation u USING (experiment_id, prompt, sample)
        WHERE experiment_id = $id AND s.kind = 'steered' AND u.kind = 'unsteered'
          AND s.text IS NOT NULL AND u.text IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY prompt ORDER BY sample) = 1
        ORDER BY prompt LIMIT $most
        """,
        id=experiment_id,
        most=PAIRS,
    )
    return tuple(
        Pair(_prompt(number), s[:TEXT_LIMIT], u[:TEXT_LIMIT]) for number, s, u in rows.iter_rows()
    )


def _prompt(number: int) -> str:
    known = PROMPTS[number]
    return f"{json.dumps(known.opening)} or {json.dumps(known.request)}"


def plain(token: str) -> str:
    """As text: byte-level and sentence-piece tokenizers each have their own mark for a space."""
    return token.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n")
