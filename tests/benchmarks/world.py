"""Paired activations whose features are known: shared, turned and exclusive ones, and dense change.

Every token holds each sparse feature with that feature's own probability and a size in 0.5..1.5, so
that a typical feature's norm is 1. Beside them the tuned side differs by a dense change of low rank,
part of it a linear map of the base activation and the rest independent of it, as adapters cause.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


class Planted(NamedTuple):
    """An exclusive feature's kind; every kind is planted once for the base and once for tuned."""

    frequency: float
    """Share of tokens."""
    size: float
    """Norm relative to a typical feature's."""


@dataclass(frozen=True)
class World:
    """What is planted; ``seed`` picks directions and tokens."""

    planted: tuple[Planted, ...] = ()
    """Kinds of exclusive features; none makes a null."""
    seed: int = 0
    d: int = 96
    shared: int = 200
    turned: int = 24
    """Of the shared ones, how many point elsewhere in the tuned model (by 53 degrees)."""
    train: int = 65_536
    test: int = 16_384
    dense: float = 0.04
    """E|dense change|^2 over E|base|^2."""
    free: float = 0.5
    """Share of the dense change's energy that does not depend on the base activation."""
    rank: int = 16
    noise: float = 0.02
    """Standard deviation per coordinate, independent on both sides."""


class Tokens(NamedTuple):
    """What a dictionary is trained and judged on."""

    batches: Iterable[Float[Tensor, "tokens sides d"]]
    heldout: Float[Tensor, "tokens sides d"]
    """To set thresholds on."""
    test: Float[Tensor, "tokens sides d"]
    exclusive: Float[Tensor, "sides planted d"] | None
    """Unit directions of the exclusive features of either side; None = unknown."""


def draw(world: World, batch: int) -> Tokens:
    """Directions and tokens of a world, in batches of ``batch`` tokens."""
    generator = torch.Generator().manual_seed(world.seed)
    base, tuned = _shared(world, generator)
    shuffled = torch.randperm(world.shared, generator=generator)
    often = (0.25 / torch.arange(1, world.shared + 1).sqrt()).clamp(0.005, 0.1)[shuffled]
    own = [_directions(len(world.planted), world.d, generator) for _ in range(2)]
    sizes = torch.tensor([p.size for p in world.planted]).view(-1, 1)
    often = torch.cat([often, *[torch.tensor([p.frequency for p in world.planted])] * 2])
    none = torch.zeros_like(own[0])
    tables = [torch.cat([base, own[0] * sizes, none]), torch.cat([tuned, none, own[1] * sizes])]
    adapter = [torch.randn(world.rank, world.d, generator=generator) for _ in range(3)]
    train, heldout, test = (
        _tokens(count, often, tables, adapter, world, generator)
        for count in (world.train, world.test, world.test)
    )
    return Tokens(train.split(batch), heldout, test, torch.stack(own))


def _directions(count: int, d: int, generator: torch.Generator) -> Float[Tensor, "count d"]:
    return normalize(torch.randn(count, d, generator=generator), dim=1)


def _shared(
    world: World, generator: torch.Generator
) -> tuple[Float[Tensor, "shared d"], Float[Tensor, "shared d"]]:
    """Both sides' directions of shared features; the first ``turned`` differ."""
    base = _directions(world.shared, world.d, generator)
    aside = _directions(world.shared, world.d, generator)
    aside = normalize(aside - (aside * base).sum(1, keepdim=True) * base, dim=1)
    tuned = base.clone()
    tuned[: world.turned] = 0.6 * base[: world.turned] + 0.8 * aside[: world.turned]
    return base, tuned


def _tokens(
    count: int,
    often: Float[Tensor, " features"],
    tables: list[Float[Tensor, "features d"]],
    adapter: list[Float[Tensor, "rank d"]],
    world: World,
    generator: torch.Generator,
) -> Float[Tensor, "tokens sides d"]:
    fires = torch.rand(count, len(often), generator=generator) < often
    z = fires * (0.5 + torch.rand(count, len(often), generator=generator))
    base, tuned = (z @ table for table in tables)
    linear = (base @ adapter[0].T) @ adapter[1]
    free = torch.randn(count, world.rank, generator=generator) @ adapter[2]
    for change, part in ((linear, 1 - world.free), (free, world.free)):
        share = part * world.dense * base.square().mean() / change.square().mean()
        tuned = tuned + share.sqrt() * change
    pairs = torch.stack([base, tuned], dim=1)
    return pairs + world.noise * torch.randn(pairs.shape, generator=generator)
