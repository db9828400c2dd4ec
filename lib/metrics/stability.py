"""Is a latent there again when the dictionary is trained with another seed, and is its change?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import betainccinv
from torch import Tensor

from lib.metrics.matching import match, nearest, rows_at_once
from lib.metrics.shapes import refuse_other_length, refuse_shape

_SAMPLED = 1024
_ROUNDING = 1e-6


class Stability(NamedTuple):
    """Dead latents: ``found`` 0, cosines NaN."""

    seeds: int
    """Dictionaries compared, the reference included."""
    found: Int[Tensor, " latents"]
    """In how many of them the latent is, the reference included: 1..seeds for alive ones."""
    cosine: Float[Tensor, " latents"]
    """Best cosine, mean over replicas; -1..1."""
    change: Float[Tensor, " latents"]
    """Cosine of tuned - base of the matched pair, mean over the replicas that have the latent; NaN
    where none has it, for one-sided dictionaries and for changes that are rounding only. A latent
    can be stable while its change is not."""
    random: float
    """``random_cosine`` of the replicas, mean."""
    shuffled: float
    """``shuffled_cosine`` of the replicas, mean."""


def stability(
    reference: Float[Tensor, "latents sides d"],
    replicas: Sequence[Float[Tensor, "_ sides d"]],
    alive: Bool[Tensor, " latents"],
    replicas_alive: Sequence[Bool[Tensor, " _"]],
) -> Stability:
    """Compare a dictionary's decoders, in raw units, with those of other seeds.

    Raises:
        ValueError: no replica, other sides or d than the reference's, values that are not finite, or
            a mask of another length than its dictionary.
    """
    if not replicas or len(replicas) != len(replicas_alive):
        raise ValueError(
            f"stability: {len(replicas)} replicas and {len(replicas_alive)} masks of alive latents; "
            "give one mask per replica, and at least one replica (`sparse.replicas`)"
        )
    refuse_other_length("stability", len(reference), alive=alive)
    pairs = list(zip(replicas, replicas_alive, strict=True))
    for replica, mask in pairs:
        refuse_other_length("stability", len(replica), replicas_alive=mask)
    found, best, change = alive.long().cpu(), [], []
    for replica, replica_alive in pairs:
        matched = match(reference, replica, alive, replica_alive)
        found += matched.partner >= 0
        best.append(matched.best)
        change.append(change_cosine(reference, replica, matched.partner))
    d = reference.shape[2]
    return Stability(
        seeds=1 + len(replicas),
        found=found,
        cosine=torch.stack(best).nanmean(0),
        change=torch.stack(change).nanmean(0),
        random=_mean([random_cosine(int(mask.sum()), d) for _, mask in pairs]),
        shuffled=_mean([shuffled_cosine(reference[alive], r[m]) for r, m in pairs]),
    )


def _mean(values: Sequence[float]) -> float:
    """Over what was measured; NaN if nothing was."""
    known = [v for v in values if v == v]
    return float(np.mean(known)) if known else float("nan")


def change_cosine(
    reference: Float[Tensor, "latents sides d"],
    replica: Float[Tensor, "others sides d"],
    partner: Int[Tensor, " latents"],
) -> Float[Tensor, " latents"]:
    """Cosine of d_tuned - d_base of each latent and its partner; NaN without a partner, without two
    sides, and where either change is below a millionth of its decoder (rounding).

    Raises:
        ValueError: not one partner for each latent, or one that the replica does not have.
    """
    refuse_shape("the cosine of changes", 3, reference=reference, replica=replica)
    refuse_other_length("the cosine of changes", len(reference), partner=partner)
    if len(partner) and int(partner.max()) >= len(replica):
        raise ValueError(
            f"partner {int(partner.max())} is not among the replica's {len(replica)} latents; match "
            "with this replica"
        )
    found = torch.full((len(reference),), torch.nan)
    if reference.shape[1] == 2:
        rows = (partner >= 0).nonzero(as_tuple=True)[0]
        for part in rows.split(rows_at_once(2 * reference.shape[2])):
            one, two = (_change(x) for x in (reference[part], replica[partner[part]]))
            found[part] = (one * two).sum(1).cpu()
    return found


def random_cosine(latents: int, d: int) -> float:
    """Best cosine of a random direction with ``latents`` random others in d dimensions, median.

    d, not sides x d: the two sides of a latent are nearly equal, which adds no dimensions. The
    cosine c of two random directions has (1 + c) / 2 ~ Beta((d - 1) / 2, (d - 1) / 2); NaN for
    no latents.

    Raises:
        ValueError: d < 2, where every two directions are parallel; a negative number of latents.
    """
    if latents < 0:
        raise ValueError(f"random_cosine: a number of latents is at least 0, got {latents}")
    if d < 2:
        raise ValueError(f"random_cosine: needs d of at least 2, got {d}")
    half = (d - 1) / 2
    tail = -np.expm1(np.log(0.5) / latents) if latents else np.nan
    return float(2 * betainccinv(half, half, tail) - 1)


def shuffled_cosine(
    reference: Float[Tensor, "latents sides d"],
    replica: Float[Tensor, "others sides d"],
    seed: int = 0,
) -> float:
    """Best cosine when the replica's coordinates are in another order, mean over latents.

    One order for all latents and both sides: what stays is the replica's own geometry and the
    likeness of its two sides, what goes is that it describes the same activations. On at most
    1,024 latents of the reference, evenly spaced; NaN if either has none.
    """
    refuse_shape("a shuffled cosine", 3, reference=reference, replica=replica)
    if not len(reference) or not len(replica):
        return float("nan")
    order = torch.randperm(reference.shape[2], generator=torch.Generator().manual_seed(seed))
    rows = torch.linspace(0, len(reference) - 1, min(_SAMPLED, len(reference))).long().unique()
    mixed = replica[:, :, order.to(replica.device)]
    return float(nearest(reference, mixed, rows, torch.arange(len(mixed))).values[:, 0].mean())


def _change(decoder: Float[Tensor, "rows 2 d"]) -> Float[Tensor, "rows d"]:
    """Unit vectors of tuned - base; NaN where it is rounding."""
    wide = decoder.float()
    change = wide[:, 1] - wide[:, 0]
    norms = change.norm(dim=1, keepdim=True)
    rounding = norms <= _ROUNDING * wide.flatten(1).norm(dim=1, keepdim=True)
    return (change / norms).masked_fill(rounding, torch.nan)
