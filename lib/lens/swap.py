"""Does the difference's direction carry the fine-tune? Base activations along it, tuned ones elsewhere.

h <- P h_base + (1 - P) h_tuned at every position of one block, P = projection on a direction. If the
tuned model gets worse at the fine-tuning text by more than with other directions, it uses this one.

Source: arXiv:2510.13900 (causal effect), with its two controls: random vectors, and differences of the
base's streams at two random tokens. The latter lie where activations vary, and are the fairer ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.lens.against import DIFFERENCE, RANDOM, RANDOM_DIFFERENCE, Row
from lib.lens.passes import run_after
from lib.lens.probe import Progress, silent
from lib.lens.streams import paired
from lib.models import LoadedModel

NEUTRAL = "neutral"
_LOGIT_BYTES = 64 << 20


@dataclass(frozen=True)
class Swap:
    """A direction of length 0 has no rows: there is nothing to project on."""

    rows: tuple[Row, ...]
    undefined: tuple[int, ...]
    """Positions whose mean difference is 0 or NaN."""


class _Sides(NamedTuple):
    """One text after the block, and what each model loses on it."""

    ids: Int[Tensor, "documents seq"]
    base: Float[Tensor, "documents seq d"]
    tuned: Float[Tensor, "documents seq d"]
    base_loss: Float[Tensor, " documents"]
    tuned_loss: Float[Tensor, " documents"]


@torch.no_grad()
def swap(
    loaded: LoadedModel,
    differences: Float[Tensor, "positions d"],
    texts: Mapping[str, Int[Tensor, "documents seq"]],
    *,
    layer: int,
    draws: int = 16,
    seed: int = 0,
    batch: int = 32,
    progress: Progress = silent,
) -> Swap:
    """Change of the tuned model's loss for the mean difference of every position, and for controls.

    Every token after BOS is scored. Directions run one after the other, in the same batches as the
    plain tuned model, so an edit that changes nothing changes the loss by exactly 0.

    Args:
        differences: mean differences after block ``layer``.
        texts: ids by name, each ``lib.lens.probe.first_tokens``; the random differences are drawn from
            the base's streams on ``neutral``.
        draws: directions of each of the two controls; 0 = none.

    Raises:
        ValueError: controls are wanted and there is no neutral text, or one of a single document.
    """
    sides = {name: _both(loaded, ids, layer, batch) for name, ids in texts.items()}
    directions = list(_directions(differences))
    undefined = sorted(
        set(range(len(differences))) - {position for _, position, _, _ in directions}
    )
    if draws:
        if NEUTRAL not in sides:
            raise ValueError(
                f"the controls of the swap need text named {NEUTRAL!r}; got {sorted(sides)}: add it, "
                "or set draws=0"
            )
        directions += _controls(sides[NEUTRAL].base, draws, seed)
    rows: list[Row] = []
    for direction, position, draw, vector in directions:
        for text, both in sides.items():
            edited = swapped(both.base, both.tuned, vector[None])
            change = _loss(loaded, both.ids, edited, layer, batch) - both.tuned_loss
            rows.append(_row(direction, position, draw, text, change, both))
            progress(len(rows), len(directions) * len(sides))
    return Swap(tuple(rows), tuple(undefined))


def swapped(
    base: Float[Tensor, "*batch d"],
    tuned: Float[Tensor, "*batch d"],
    basis: Float[Tensor, "directions d"],
) -> Float[Tensor, "*batch d"]:
    """Base inside the span of orthonormal directions, tuned outside; float32 at least inside.

    No direction gives ``tuned``, d of them give ``base``.
    """
    if not len(basis):
        return tuned
    dtype = torch.promote_types(tuned.dtype, torch.float32)
    axes = basis.to(tuned.device, dtype)
    moved = base.to(dtype) - tuned.to(dtype)
    return (tuned.to(dtype) + (moved @ axes.T) @ axes).to(tuned.dtype)


def _directions(
    differences: Float[Tensor, "positions d"],
) -> Iterator[tuple[str, int, int, Float[Tensor, " d"]]]:
    for position, vector in enumerate(differences.double()):
        if vector.norm() > 0:
            yield DIFFERENCE, position, 0, vector / vector.norm()


def _controls(
    streams: Float[Tensor, "documents seq d"], draws: int, seed: int
) -> Iterator[tuple[str, int, int, Float[Tensor, " d"]]]:
    """Gaussian directions, and differences of two documents' tokens (BOS left out: it is a sink)."""
    documents, seq, d = streams.shape
    if documents < 2 or seq < 2:
        raise ValueError(
            f"random differences need two neutral documents, got {documents}; add one, or set draws=0"
        )
    drawn = torch.Generator().manual_seed(seed)
    for draw, vector in enumerate(torch.randn(draws, d, generator=drawn, dtype=torch.float64)):
        yield RANDOM, -1, draw, vector / vector.norm()
    for draw in range(draws):
        one, other = torch.randperm(documents, generator=drawn)[:2].tolist()
        at, there = (1 + torch.randint(seq - 1, (2,), generator=drawn)).tolist()
        vector = (streams[one, at].double() - streams[other, there].double()).cpu()
        yield RANDOM_DIFFERENCE, -1, draw, vector / vector.norm()


def _both(loaded: LoadedModel, ids: Tensor, layer: int, batch: int) -> _Sides:
    parts = list(paired(loaded, ids, [layer], batch))
    base, tuned = (torch.cat([part[side][layer] for part in parts]) for side in (0, 1))
    with loaded.as_base():
        base_loss = _loss(loaded, ids, base, layer, batch)
    return _Sides(ids, base, tuned, base_loss, _loss(loaded, ids, tuned, layer, batch))


def _loss(
    loaded: LoadedModel,
    ids: Int[Tensor, "documents seq"],
    stream: Float[Tensor, "documents seq d"],
    layer: int,
    batch: int,
) -> Float[Tensor, " documents"]:
    """Each document's sum of negative log likelihoods when this is the stream after the block."""
    sums = []
    for part, targets in zip(stream.split(batch), ids.split(batch), strict=True):
        hidden = run_after(loaded, layer, part)[:, :-1].flatten(0, 1)
        wanted = targets[:, 1:].flatten().to(hidden.device)
        rows = max(1, _LOGIT_BYTES // (4 * len(loaded.unembedding)))
        nll = [
            torch.nn.functional.cross_entropy(loaded.logits(h), t, reduction="none").double()
            for h, t in zip(hidden.split(rows), wanted.split(rows), strict=True)
        ]
        sums.append(torch.cat(nll).reshape(len(part), -1).sum(1).cpu())
    return torch.cat(sums)


def _row(direction: str, position: int, draw: int, text: str, change: Tensor, both: _Sides) -> Row:
    documents, tokens = len(both.ids), both.ids.shape[1] - 1
    total = documents * tokens
    return Row(
        direction=direction,
        position=position,
        draw=draw,
        text=text,
        change=float(change.sum()) / total,
        tuned_loss=float(both.tuned_loss.sum()) / total,
        base_loss=float(both.base_loss.sum()) / total,
        document_change=tuple(change.tolist()),
        document_tokens=(tokens,) * documents,
    )
