"""How many latents the tuned model added: of an experiment, and of its null controls."""

from typing import Any

import numpy as np
import polars as pl
import torch

from lib.metrics.latents import (
    TUNED_ONLY_EPS,
    TUNED_ONLY_R,
    classify_latents,
    delta_norm,
    shares,
)
from lib.pipeline.codes import Codes, active_codes
from lib.pipeline.dictionaries import trained
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary
from lib.sparse.quality import quality

MIN_FIRINGS = 10


def classified(crosscoder: Dictionary, found: Codes) -> pl.DataFrame:
    """Size, class, shares and latent scaling of every latent, also of those that never fire."""
    codes, tokens = found.frame, found.tokens
    summed = codes.group_by("latent").agg(
        firings=pl.len(),
        squared=pl.col("value").cast(pl.Float64).pow(2).sum(),
        max_activation=pl.col("value").max().cast(pl.Float64),
    )
    everyone = pl.DataFrame({"latent": np.arange(crosscoder.latents, dtype=np.int32)})
    frame = (
        everyone.join(summed, on="latent", how="left")
        .sort("latent")
        .with_columns(
            pl.col("firings").fill_null(0).cast(pl.Int64), pl.col("squared").fill_null(0.0)
        )
    )
    norms = crosscoder.norms.double()
    base, tuned = norms[:, 0], norms[:, 1]
    cosine = torch.nn.functional.cosine_similarity(
        crosscoder.decoder[:, 0].double(), crosscoder.decoder[:, 1].double(), dim=1, eps=1e-12
    )
    squared = torch.from_numpy(frame["squared"].to_numpy().copy())
    share = shares(squared, crosscoder.decoder)
    relative = delta_norm(base, tuned)
    firings = torch.from_numpy(frame["firings"].to_numpy().copy())
    return frame.with_columns(
        norm_base=pl.Series(base.numpy()),
        norm_tuned=pl.Series(tuned.numpy()),
        delta_norm=pl.Series(relative.double().numpy()).fill_nan(None),
        cosine=pl.Series(cosine.numpy()),
        frequency=pl.col("firings") / tokens,
        energy=pl.Series(share.energy.numpy()),
        difference_share=pl.Series(share.difference.numpy()),
        nu_eps=pl.Series(found.nu_eps, dtype=pl.Float64).fill_nan(None),
        nu_r=pl.Series(found.nu_r, dtype=pl.Float64).fill_nan(None),
        **{"class": pl.Series(list(classify_latents(relative, firings, MIN_FIRINGS)))},
    ).drop("squared")


def control_counts(control: Prepared, sparse: Stage) -> pl.DataFrame:
    """``latent_count`` of a null control, without the columns that name it: the same code on
    dictionaries of an adapter that learned nothing gives the rate of false findings."""
    rows = []
    for layer in control.train.manifest.layers:
        crosscoder, _ = trained(sparse, layer, "crosscoder")
        frame = classified(crosscoder, active_codes(control, layer, crosscoder))
        measured = quality(crosscoder, control.heldout.whole(layer))
        counts = novel_counts(frame) | {"fve_difference": measured.fve_difference}
        rows.append({"layer": layer, **counts})
    return pl.DataFrame(rows)


def novel_counts(latents: pl.DataFrame) -> dict[str, Any]:
    """What the tuned model added, counted by the definitions of table ``latent_count``.

    Source: Minder et al. 2025, arXiv:2504.02922, sections 2.2 (classes) and 3.1 (strict).
    """
    new = pl.col("class") == "new"
    strict = (
        new & (pl.col("nu_eps") < TUNED_ONLY_EPS) & (pl.col("nu_r") < TUNED_ONLY_R)
    ).fill_null(False)
    unscaled = new & (pl.col("nu_eps").is_null() | pl.col("nu_r").is_null())
    return latents.select(
        alive=(pl.col("class") != "dead").sum(),
        strict=strict.sum(),
        loose=new.sum(),
        leaning=pl.col("class").is_in(["new", "amplified"]).sum(),
        suppressed=(pl.col("class") == "suppressed").sum(),
        eliminated=(pl.col("class") == "eliminated").sum(),
        unscaled=unscaled.sum(),
        energy_strict=pl.col("energy").filter(strict).sum(),
        energy_loose=pl.col("energy").filter(new).sum(),
    ).row(0, named=True)
