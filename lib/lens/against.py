"""The swap against its controls: rank p and an interval over documents and control draws. No torch."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lib.metrics.intervals import percentiles, resample_counts

DIFFERENCE, RANDOM, RANDOM_DIFFERENCE = "difference", "random", "random_difference"
DRAWS = 2000
BOTH = "both"


class Row(NamedTuple):
    """One direction on one text: a row of the table lens_swap."""

    direction: str
    """difference | random | random_difference"""
    position: int
    """Of the mean difference, 0 = first token after BOS; -1 for controls."""
    draw: int
    text: str
    change: float
    """Of the tuned model's loss, nats per token; positive = worse."""
    tuned_loss: float
    base_loss: float
    document_change: tuple[float, ...]
    """Sum over each document's tokens, nats."""
    document_tokens: tuple[int, ...]


class Against(NamedTuple):
    """One position's direction on one text against one kind of control, nats per token."""

    text: str
    position: int
    control: str
    """random | random_difference | both"""
    change: float
    """Of the tuned model's loss; positive = worse without this direction."""
    low: float | None
    high: float | None
    """95 % over documents; None with a single one."""
    control_change: float
    """Mean over the control's draws."""
    excess: float
    """change - control_change."""
    excess_low: float | None
    excess_high: float | None
    """95 %, documents and control draws drawn anew (paired over documents)."""
    p: float
    """(1 + draws that change at least as much) / (draws + 1), one-sided: is it worse than without
    another direction? Not corrected for the number of positions."""
    p_min: float
    """The smallest that so many draws can give."""
    draws: int
    documents: int


def against(rows: Sequence[Row], *, resamples: int = DRAWS, seed: int = 0) -> list[Against]:
    """Every position on every text against every control, and against both together.

    Both together gives the smaller p: 16 draws of one kind reach 1/17 at best.

    Raises:
        ValueError: rows of one text that did not score the same tokens.
    """
    found = []
    for text in dict.fromkeys(row.text for row in rows):
        own = [row for row in rows if row.text == text]
        tokens = np.array(own[0].document_tokens, dtype=np.float64)
        if any(list(row.document_tokens) != list(own[0].document_tokens) for row in own):
            raise ValueError(f"rows of {text} did not score the same tokens; run the swap again")
        counts = np.concatenate(
            [np.ones((1, len(tokens))), resample_counts(len(tokens), resamples, seed)]
        )
        means = {id(row): counts @ row.document_change / (counts @ tokens) for row in own}
        controls = _controls(own)
        for row in (r for r in own if r.position >= 0):
            for name, members in controls.items():
                table = np.stack([means[id(member)] for member in members])
                found.append(_against(row, name, means[id(row)], table, seed))
    return found


def _controls(rows: Sequence[Row]) -> dict[str, list[Row]]:
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row.position < 0:
            kinds.setdefault(row.direction, []).append(row)
    everything = [row for members in kinds.values() for row in members]
    return kinds | ({BOTH: everything} if len(kinds) > 1 else {})


def _against(
    row: Row,
    control: str,
    change: Float[np.ndarray, " rows"],
    table: Float[np.ndarray, "draws rows"],
    seed: int,
) -> Against:
    n, many = table.shape
    rng = np.random.default_rng([seed, zlib.crc32(control.encode())])
    again = rng.multinomial(n, np.full(n, 1 / n), size=many) / n
    again[0] = 1 / n
    control_change = (table.T * again).sum(1)
    excess = change - control_change
    alone = len(row.document_tokens) < 2
    return Against(
        row.text,
        row.position,
        control,
        float(change[0]),
        *((None, None) if alone else percentiles(change[1:])),
        float(control_change[0]),
        float(excess[0]),
        *((None, None) if alone else percentiles(excess[1:])),
        p=(1 + int((table[:, 0] >= change[0]).sum())) / (n + 1),
        p_min=1 / (n + 1),
        draws=n,
        documents=len(row.document_tokens),
    )
