"""Differences of activations over probe text: the first tokens of unrelated documents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.corpora import Document
from lib.lens.difference import MeanDifference, PositionDifference
from lib.lens.streams import Limits, blanked, ordinary, paired
from lib.metrics.massive import FACTOR
from lib.models import LoadedModel

ETA_SKIPPED = 3
"""First positions left out of eta, besides BOS (arXiv:2510.13900)."""
NORM_TEXTS = 32
NORM_TOKENS = 32

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """The progress nobody looks at."""


@dataclass(frozen=True)
class Probed:
    """What the probe text gave, by layer. Position 0 is the first token after BOS."""

    differences: dict[int, PositionDifference]
    bos: dict[int, Float[Tensor, " d"]]
    """Difference at BOS itself, which no text can change."""
    raw: dict[int, Float[Tensor, "texts positions d"]]
    """Tuned - base of every text in float32, for the layers asked to keep; NaN where it is massive."""
    eta: dict[int, float]
    """Mean norm of the tuned stream past the first positions; NaN where the texts end before."""
    limits: dict[int, Limits]
    """Norms from which a token counts as massive and is left out of everything but ``bos``."""
    texts: int
    positions: int


def first_tokens(
    tokenizer: Any, documents: Sequence[Document], positions: int
) -> Int[Tensor, "texts seq"]:
    """[BOS, the first ``positions`` tokens] of every document that has as many: seq = positions + 1.

    Shorter documents are left out; ``len(documents) - len(ids)`` counts them. BOS is put in front here
    whatever the tokenizer does by itself, as in every other measurement.

    Raises:
        ValueError: no document is long enough.
    """
    coded = tokenizer([d.text for d in documents], add_special_tokens=False).input_ids
    long = [ids[:positions] for ids in coded if len(ids) >= positions]
    if not long:
        most = max(map(len, coded), default=0)
        raise ValueError(
            f"none of {len(coded)} documents has {positions} tokens (the longest: {most}); take "
            "longer probe text or fewer positions"
        )
    return torch.tensor([[tokenizer.bos_token_id, *ids] for ids in long])


@torch.no_grad()
def differences(
    loaded: LoadedModel,
    ids: Int[Tensor, "texts seq"],
    *,
    positions: int,
    layers: Sequence[int] | None = None,
    keep: Sequence[int] = (),
    batch: int = 32,
    factor: float = FACTOR,
    progress: Progress = silent,
) -> Probed:
    """Mean differences of the block outputs at the first positions, one pass per side and batch.

    Massive tokens (lib/metrics/massive.py) are left out, position by position: a handful of texts whose
    first token is an attention sink would otherwise be the mean. ``n`` says how many texts remain.

    Args:
        ids: ``first_tokens``. Only BOS and ``positions`` tokens of each are run, so longer ones cost
            nothing; the norms (eta, and what is massive) come from ``NORM_TOKENS`` tokens of the first
            ``NORM_TEXTS`` texts, as many as there are.
        layers: default all.
        keep: layers whose single differences are kept.
        factor: times the median norm of its side = massive; infinity leaves nothing out.

    Raises:
        ValueError: texts shorter than ``positions``, or no position.
    """
    if not 1 <= positions < ids.shape[1]:
        raise ValueError(
            f"{positions} positions of texts with {ids.shape[1] - 1} tokens after BOS; take between 1 "
            "and as many as the texts have"
        )
    wanted = sorted({*(range(loaded.n_layers) if layers is None else layers), *keep})
    eta, limits = _norms(loaded, ids[:NORM_TEXTS, : NORM_TOKENS + 1], wanted, batch, factor)
    sums = {layer: MeanDifference(positions + 1, loaded.d) for layer in wanted}
    kept: dict[int, list[Tensor]] = {layer: [] for layer in keep}
    done = 0
    for both in paired(loaded, ids[:, : positions + 1], wanted, batch):
        for layer in wanted:
            mask = ordinary(both, layer, limits[layer])
            sums[layer].update(both.base[layer], both.tuned[layer], mask)
            if layer in kept:
                moved = both.tuned[layer].float() - both.base[layer].float()
                kept[layer].append(blanked(moved, mask)[:, 1:].cpu())
        done += len(both.base[wanted[0]])
        progress(done, len(ids))
    whole = {layer: stream.value() for layer, stream in sums.items()}
    return Probed(
        differences={k: PositionDifference(*(field[1:] for field in v)) for k, v in whole.items()},
        bos={layer: value.mean[0] for layer, value in whole.items()},
        raw={layer: torch.cat(parts) for layer, parts in kept.items()},
        eta=eta,
        limits=limits,
        texts=len(ids),
        positions=positions,
    )


def _norms(
    loaded: LoadedModel, ids: Int[Tensor, "texts seq"], layers: list[int], batch: int, factor: float
) -> tuple[dict[int, float], dict[int, Limits]]:
    """Eta, and what is massive: by the median norm of each side over all tokens after BOS."""
    parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for both in paired(loaded, ids, layers, batch):
        for layer in layers:
            sides = torch.stack([both.base[layer], both.tuned[layer]])[:, :, 1:]
            parts[layer].append(sides.double().norm(dim=3).cpu())
    eta, limits = {}, {}
    for layer, found in parts.items():
        norms = torch.cat(found, dim=1)
        limits[layer] = Limits(*(factor * float(side.median()) for side in norms))
        late = norms[1, :, ETA_SKIPPED:]
        eta[layer] = float(late[late <= limits[layer].tuned].mean())
    return eta, limits
