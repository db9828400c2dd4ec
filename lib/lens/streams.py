"""Block outputs of both models on the same tokens, and which tokens are ordinary."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.activations import Recorder
from lib.models import LoadedModel


class Paired(NamedTuple):
    """Streams of some texts on both sides, by layer."""

    base: dict[int, Float[Tensor, "texts seq d"]]
    tuned: dict[int, Float[Tensor, "texts seq d"]]


class Limits(NamedTuple):
    """Largest norms of ordinary tokens after one block."""

    base: float
    tuned: float


def paired(
    loaded: LoadedModel, ids: Int[Tensor, "texts seq"], layers: Sequence[int], batch: int = 32
) -> Iterator[Paired]:
    """Block outputs of both sides on whole texts, batch by batch; blocks past the last are not run."""
    with Recorder(loaded, list(layers), "residual") as recorder, _up_to(loaded, max(layers)):
        for part in ids.split(batch):
            with loaded.as_base():
                base = _pass(loaded, recorder, part)
            yield Paired(base, _pass(loaded, recorder, part))


def streams(
    loaded: LoadedModel, ids: Int[Tensor, "texts seq"], layers: Sequence[int], batch: int = 32
) -> Iterator[dict[int, Float[Tensor, "texts seq d"]]]:
    """Block outputs of the model as it stands, batch by batch."""
    with Recorder(loaded, list(layers), "residual") as recorder, _up_to(loaded, max(layers)):
        for part in ids.split(batch):
            yield _pass(loaded, recorder, part)


def single_differences(
    loaded: LoadedModel,
    ids: Int[Tensor, "texts seq"],
    layer: int,
    limits: Limits | None = None,
    batch: int = 32,
) -> Float[Tensor, "texts seq d"]:
    """Tuned - base after block ``layer`` at every position, BOS included, in double precision.

    NaN at massive tokens, where limits are given.
    """
    parts = []
    for both in paired(loaded, ids, [layer], batch):
        moved = both.tuned[layer].double() - both.base[layer].double()
        if limits is not None:
            moved = blanked(moved, ordinary(both, layer, limits))
        parts.append(moved.cpu())
    return torch.cat(parts)


def ordinary(both: Paired, layer: int, limits: Limits) -> Bool[Tensor, "texts seq"]:
    """False for massive tokens; BOS is a place of its own and always true."""
    base, tuned = (side[layer].double().norm(dim=2) for side in both)
    kept = (base <= limits.base) & (tuned <= limits.tuned)
    kept[:, 0] = True
    return kept.cpu()


def blanked(
    values: Float[Tensor, "texts seq d"], kept: Bool[Tensor, "texts seq"]
) -> Float[Tensor, "texts seq d"]:
    """NaN where a token is not kept."""
    return values.masked_fill(~kept[..., None].to(values.device), torch.nan)


@torch.no_grad()
def _pass(loaded: LoadedModel, recorder: Recorder, ids: Tensor) -> dict[int, Tensor]:
    loaded.causal_lm.model(ids.to(loaded.device), use_cache=False)
    seen, recorder.seen = recorder.seen, {}
    return seen


@contextmanager
def _up_to(loaded: LoadedModel, layer: int) -> Iterator[None]:
    """Cut off the blocks after ``layer``: they cannot change what is recorded."""
    trunk = loaded.causal_lm.model
    blocks = trunk.layers
    trunk.layers = nn.ModuleList(blocks[: layer + 1])
    try:
        yield
    finally:
        trunk.layers = blocks
