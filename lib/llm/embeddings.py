"""Embeddings from the same service; every vector is stored and none is paid for twice."""

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lib.llm import transcripts
from lib.llm.budget import estimate
from lib.llm.endpoint import Endpoint
from lib.llm.failures import EndpointError
from lib.llm.transcripts import Transcript, step_key

BATCH = 32
"""Texts of one request."""


class Embedder:
    """One vector per text. Equal texts are asked for once, whatever experiment they belong to."""

    def __init__(self, endpoint: Endpoint, transcript: Transcript, file: Path) -> None:
        """
        Args:
            endpoint: whose address takes embeddings and whose settings name the embedding model.
            transcript: open on ``file``, which is ``file_of`` these settings.
        """
        self._endpoint, self._transcript = endpoint, transcript
        self._known: dict[str, np.ndarray] = {}
        for record in transcripts.read(file).records:
            if record["kind"] == "vectors":
                self._remember(record)
        self.tokens = self.requests = 0
        """Paid for here."""

    def __call__(self, texts: list[str]) -> Float[np.ndarray, "texts d"]:
        """Vectors in the order of the texts.

        Raises:
            EndpointError: no vectors, or other than asked for.
            BudgetSpent: those that came are kept.
        """
        named = {step_key(text=text): text for text in texts}
        left = [key for key in named if key not in self._known]
        for start in range(0, len(left), BATCH):
            part = left[start : start + BATCH]
            self._ask(part, [named[key] for key in part])
        rows = [self._known[step_key(text=text)] for text in texts]
        if len({len(row) for row in rows}) > 1:
            raise EndpointError(
                f"{self._endpoint.settings.embedder} gives vectors of different lengths "
                f"({sorted({len(row) for row in rows})}): has it been changed? Name it otherwise, or "
                "take another model"
            )
        return np.stack(rows)

    def _ask(self, keys: Sequence[str], texts: list[str]) -> None:
        model = self._endpoint.settings.embedder
        key = step_key(texts=list(keys))
        self._transcript.add("asked", key, run="embeddings", step=f"{len(texts)} texts")
        most = estimate([{"content": text} for text in texts])
        reply, _ = self._endpoint.request({"model": model, "input": texts}, most)
        told = _paid(reply)
        self._endpoint.budget.charge(most if told is None else told, estimated=told is None)
        rows = vectors(reply, len(texts))
        packed = base64.b64encode(rows.astype("<f4").tobytes()).decode()
        tokens = most if told is None else told
        self._remember(
            self._transcript.add(
                "vectors", key, texts=list(keys), d=rows.shape[1], vectors=packed, tokens=tokens
            )
        )
        self.tokens, self.requests = self.tokens + tokens, self.requests + 1

    def _remember(self, record: dict[str, Any]) -> None:
        rows = np.frombuffer(base64.b64decode(record["vectors"]), "<f4").reshape(-1, record["d"])
        self._known |= dict(zip(record["texts"], rows, strict=True))


def file_of(endpoint: Endpoint) -> Path:
    """Where the vectors of one model at one address are kept."""
    settings = endpoint.settings
    name = step_key(url=settings.url, model=settings.embedder)
    return transcripts.folder("judge") / "vectors" / f"{name}.jsonl"


def vectors(reply: dict[str, Any], n: int) -> Float[np.ndarray, "texts d"]:
    """The vectors of a reply, by their ``index``.

    Raises:
        EndpointError: not one vector of finite numbers for each text, all equally long.
    """
    data = reply.get("data")
    rows = data if isinstance(data, list) else []
    found: dict[int, Any] = {}
    for place, row in enumerate(rows):
        index = row.get("index", place) if isinstance(row, dict) else None
        if type(index) is int:
            found[index] = row.get("embedding")
    lists = [found.get(place) for place in range(n)]
    if len(rows) != n or not all(isinstance(one, list) and one for one in lists):
        raise EndpointError(
            f"the reply holds {len(rows)} embeddings for {n} texts, or other than lists of numbers; is "
            "this an embedding model?"
        )
    whole = all(type(x) in (int, float) and math.isfinite(x) for one in lists for x in one)
    if not whole or len({len(one) for one in lists}) > 1:
        raise EndpointError(
            "the reply holds embeddings of different lengths, or that are no numbers"
        )
    return np.array(lists, dtype=np.float64)


def _paid(reply: dict[str, Any]) -> int | None:
    """Tokens as the service counts them; None where it does not say."""
    usage = reply.get("usage")
    found = (
        usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    )
    return found if type(found) is int and found >= 0 else None
