"""Which latents of a crosscoder are found again in the crosscoders of other seeds."""

from typing import Any

import polars as pl
import torch

from lib.metrics.stability import stability
from lib.pipeline.dictionaries import trained
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary
from lib.sparse.quality import quality

SCHEMA = {
    "seeds": pl.Int32,
    "seeds_found": pl.Int32,
    "seed_cosine": pl.Float64,
    "change_cosine": pl.Float64,
}
"""Columns of table ``latent``; all null without replicas."""


def seed_columns(
    prepared: Prepared, sparse: Stage, layer: int, crosscoder: Dictionary, latents: pl.DataFrame
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """``SCHEMA`` for every latent, and what table ``dictionary`` says of them together.

    ``latents`` holds class and difference_share in the order of the dictionary. A latent of a
    replica counts when it fires on held-out text.
    """
    replicas = prepared.experiment.recipe.sparse.replicas
    if not replicas:
        empty = pl.DataFrame(schema=SCHEMA).clear(len(latents))
        return empty, {"stable_share": None, "stable_difference": None, "seed_chance": None}
    heldout = prepared.heldout.whole(layer)
    decoders, firing = [], []
    for replica in range(1, replicas + 1):
        other, _ = trained(sparse, layer, "crosscoder", replica)
        firing.append(quality(other, heldout).firing > 0)
        decoders.append(other.decoder)
    alive = torch.from_numpy((latents["class"] != "dead").to_numpy().copy())
    found = stability(crosscoder.decoder, decoders, alive, firing)
    columns = pl.DataFrame(
        {
            "seeds": [found.seeds] * len(latents),
            "seeds_found": found.found.numpy(),
            "seed_cosine": found.cosine.numpy(),
            "change_cosine": found.change.numpy(),
        }
    ).cast(SCHEMA)
    columns = columns.with_columns(pl.col("seed_cosine", "change_cosine").fill_nan(None))
    return columns, summary(columns, alive, latents["difference_share"]) | {
        "seed_chance": max(found.random, found.shuffled)
    }


def summary(
    columns: pl.DataFrame, alive: torch.Tensor, difference: pl.Series
) -> dict[str, float | None]:
    """Shares of the alive latents and of the difference's energy that survive every seed."""
    stable = columns["seeds_found"] == columns["seeds"]
    return {
        "stable_share": float(stable.sum()) / int(alive.sum()) if alive.any() else None,
        "stable_difference": float(difference.filter(stable).sum()),
    }
