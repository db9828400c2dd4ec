"""Which latent of one dictionary is which of another: one-to-one, by the cosine of their decoders.

Pairs compete only where the cosine is at least ``FOUND``; the plain best cosine is reported beside
the pair, but decides nothing. The best cosine alone would let one latent of the other dictionary
vouch for any number of latents here: a feature that this dictionary splits or duplicates would be
found several times although the other one has it once. An optimal assignment of *all* latents errs
the other way: it gives up a good pair for a larger sum over pairs that are no matches anyway.

Source: Paulo & Belrose 2025, arXiv:2501.16615 (SAEs over seeds, optimal assignment); the mean best
cosine is the MMCS of Sharkey, Braun & Millidge 2022.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lib.metrics.artefacts import FOUND
from lib.metrics.shapes import refuse_other_length, refuse_shape

CANDIDATES = 64
"""Best partners kept per latent; only a direction that a dictionary holds more often loses any."""
_CHUNK_BYTES = 256 << 20
_BLOCK = 1 << 24
"""Entries of the largest block that is assigned optimally; a larger one is matched greedily."""


class Match(NamedTuple):
    """What one replica says about every latent of the reference."""

    best: Float[Tensor, " latents"]
    """Largest cosine with any alive latent of the replica, -1..1; NaN for dead latents."""
    partner: Int[Tensor, " latents"]
    """The latent it is paired with, one-to-one and at cosine >= FOUND; -1 without one."""


def match(
    reference: Float[Tensor, "latents sides d"],
    replica: Float[Tensor, "others other_sides other_d"],
    alive: Bool[Tensor, " latents"] | None = None,
    replica_alive: Bool[Tensor, " others"] | None = None,
) -> Match:
    """Pair the alive latents of two dictionaries, both sides' decoders taken as one vector.

    Optimal within every connected group of candidate pairs (the sum of cosines is largest), except
    in groups of more than 4,096 x 4,096, where the highest cosine is taken first. Cosines are
    float32, formed in chunks: besides the decoders, memory holds two copies of the replica's.

    Raises:
        ValueError: other sides or d than the reference's, values that are not finite, or a mask of
            another length than its dictionary.
    """
    refuse_shape("a match", 3, reference=reference, replica=replica)
    if reference.shape[1:] != replica.shape[1:]:
        raise ValueError(
            f"match: decoders of (sides, d) {tuple(reference.shape[1:])} and "
            f"{tuple(replica.shape[1:])}; replicas come from the same layer and both sides"
        )
    rows, columns = _kept(reference, alive), _kept(replica, replica_alive)
    best = torch.full((len(reference),), torch.nan)
    partner = torch.full((len(reference),), -1)
    if len(rows) and len(columns):
        near = nearest(reference, replica, rows, columns)
        best[rows] = near.values[:, 0]
        i, rank = (near.values >= FOUND).nonzero(as_tuple=True)
        edges = (i.numpy(), near.indices[i, rank].numpy(), near.values[i, rank].numpy())
        chosen = torch.from_numpy(_assign(*edges, len(rows), len(columns)))
        partner[rows] = torch.where(chosen >= 0, columns[chosen], -1)
    return Match(best, partner)


def _kept(
    decoder: Float[Tensor, "latents sides d"], alive: Bool[Tensor, " latents"] | None
) -> Int[Tensor, " kept"]:
    """Numbers of the alive latents that have a direction.

    Raises:
        ValueError: the decoder holds NaN or infinity.
    """
    if alive is not None:
        refuse_other_length("a match", len(decoder), alive=alive)
    norms = decoder.flatten(1).norm(dim=1, dtype=torch.float32)
    if not torch.isfinite(norms).all():
        count = int((~torch.isfinite(norms)).sum())
        raise ValueError(
            f"match: {count} of {len(decoder)} decoders hold NaN or infinity; train that dictionary "
            "again"
        )
    usable = norms > 0 if alive is None else (norms > 0) & alive.to(norms.device)
    return usable.nonzero(as_tuple=True)[0].cpu()


def nearest(
    reference: Float[Tensor, "latents sides d"],
    replica: Float[Tensor, "others sides d"],
    rows: Int[Tensor, " rows"],
    columns: Int[Tensor, " columns"],
) -> torch.return_types.topk:
    """The ``CANDIDATES`` largest cosines of each row, and where among ``columns`` they are."""
    target = _unit(replica[columns])
    step = rows_at_once(max(target.shape))
    parts = [
        torch.topk(_unit(reference[part]) @ target.T, min(CANDIDATES, len(target)), dim=1)
        for part in rows.split(step)
    ]
    values, indices = (torch.cat(x).cpu() for x in zip(*parts, strict=True))
    return torch.return_types.topk((values.clamp(-1.0, 1.0), indices))


def _unit(decoder: Float[Tensor, "rows sides d"]) -> Float[Tensor, "rows wide"]:
    return torch.nn.functional.normalize(decoder.flatten(1).float(), dim=1)


def rows_at_once(width: int) -> int:
    """Rows of a chunk with ``width`` float32 columns."""
    return max(1, _CHUNK_BYTES // (4 * width))


def _assign(
    rows: Int[np.ndarray, " edges"],
    columns: Int[np.ndarray, " edges"],
    cosines: Float[np.ndarray, " edges"],
    n_rows: int,
    n_columns: int,
) -> Int[np.ndarray, " rows"]:
    """One-to-one choice among the edges; -1 for a row without one."""
    partner = np.full(n_rows, -1)
    if not len(rows):
        return partner
    size = n_rows + n_columns
    graph = coo_matrix((np.ones(len(rows)), (rows, columns + n_rows)), shape=(size, size))
    group = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    for edges in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(edges) == 1:
            partner[rows[edges]] = columns[edges]
            continue
        (r, i), (c, j) = (np.unique(x[edges], return_inverse=True) for x in (rows, columns))
        if len(r) * len(c) > _BLOCK:
            _take_highest_first(partner, rows[edges], columns[edges], cosines[edges])
            continue
        block = np.zeros((len(r), len(c)))
        block[i, j] = cosines[edges]
        one, other = linear_sum_assignment(block, maximize=True)
        real = block[one, other] > 0
        partner[r[one[real]]] = c[other[real]]
    return partner


def _take_highest_first(
    partner: Int[np.ndarray, " rows"],
    rows: Int[np.ndarray, " edges"],
    columns: Int[np.ndarray, " edges"],
    cosines: Float[np.ndarray, " edges"],
) -> None:
    taken: set[int] = set()
    for edge in np.argsort(-cosines, kind="stable"):
        if partner[rows[edge]] < 0 and columns[edge] not in taken:
            partner[rows[edge]] = columns[edge]
            taken.add(columns[edge])
