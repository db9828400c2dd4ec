"""The internal axis by layer: CKA and displacement everywhere, reconstruction at dictionary depths."""

from typing import Any

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.activations import Stream
from lib.metrics.cka import grouped_cka
from lib.metrics.displacement import displacement
from lib.metrics.reconstruction import bootstrap_ratio, cross_ratio
from lib.models import LoadedModel
from lib.pipeline.dictionaries import trained
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary

IN_SAMPLE_TOKENS = 8_192


def layer_rows(prepared: Prepared, sparse: Stage, loaded: LoadedModel) -> pl.DataFrame:
    """Table ``layer_metric`` on the held-out corpus and neutral text together."""
    heldout = prepared.heldout
    groups = heldout.index()[:, 0]
    at = set(prepared.train.manifest.layers)
    rows = []
    for layer in range(loaded.n_layers):
        x = heldout.whole(layer)
        row: dict[str, Any] = {
            "layer": layer,
            "depth": layer / loaded.n_layers,
            "hook": prepared.experiment.recipe.harvest.hook,
            "n_tokens": len(x),
            **_similarity(x[:, 0], x[:, 1], groups),
        }
        if layer in at:
            row |= _reconstruction(prepared, sparse, layer, x[:, 0], x[:, 1], groups)
        rows.append(row)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    peak = pl.col("ratio").is_not_null() & (pl.col("ratio") == pl.col("ratio").max())
    return frame.with_columns(
        is_peak=pl.when(pl.col("ratio").is_not_null()).then(peak),
        experiment_id=pl.lit(prepared.experiment.id),
    )


def _similarity(
    base: Float[Tensor, "tokens d"],
    tuned: Float[Tensor, "tokens d"],
    groups: Int[Tensor, " tokens"],
) -> dict[str, Any]:
    cka = grouped_cka(base, tuned, groups)
    moved = displacement(base, tuned, groups)
    return {
        "cka": cka.value,
        "cka_low": cka.low,
        "cka_high": cka.high,
        "relative_displacement": moved.relative,
        "relative_displacement_low": moved.low,
        "relative_displacement_high": moved.high,
        "offset_share": moved.offset_share,
    }


@torch.no_grad()
def _reconstruction(
    prepared: Prepared,
    sparse: Stage,
    layer: int,
    base: Float[Tensor, "tokens d"],
    tuned: Float[Tensor, "tokens d"],
    groups: Int[Tensor, " tokens"],
) -> dict[str, Any]:
    """Definition A: base SAE's error on tuned activations over the tuned SAE's own error.

    Centred: the base SAE sees the tuned activations without the mean difference, so that a constant
    offset alone gives 1.
    """
    of_base, _ = trained(sparse, layer, "sae_base")
    of_tuned, _ = trained(sparse, layer, "sae_tuned")
    cross, own = _through(of_base, tuned), _through(of_tuned, tuned)
    ratio = cross_ratio(tuned, cross, own)
    offset = (tuned - base).mean(0)
    shifted = tuned - offset
    centred = cross_ratio(shifted, _through(of_base, shifted), own - offset).ratio
    interval = bootstrap_ratio(tuned, cross, own, groups)
    seen = next(iter(Stream(prepared.train, layer, IN_SAMPLE_TOKENS, seed=1, side=1)), None)
    in_sample = None
    if seen is not None:
        trained_on = seen[:, 0].float()
        in_sample = cross_ratio(
            trained_on, _through(of_base, trained_on), _through(of_tuned, trained_on)
        ).ratio
    return {
        "ratio": ratio.ratio,
        "ratio_low": interval.ratio_low,
        "ratio_high": interval.ratio_high,
        "ratio_centred": centred,
        "ratio_in_sample": in_sample,
        "excess_fvu": ratio.excess_fvu,
        "excess_fvu_low": interval.excess_low,
        "excess_fvu_high": interval.excess_high,
        "fve_self": ratio.fve_self,
        "fve_cross": ratio.fve_cross,
        "ratio_bound": ratio.bound,
    }


def _through(
    dictionary: Dictionary, x: Float[Tensor, "tokens d"], chunk: int = 2048
) -> Float[Tensor, "tokens d"]:
    """Reconstruction of one side by an SAE."""
    parts = [dictionary.decode(dictionary.encode(p[:, None].float()))[:, 0] for p in x.split(chunk)]
    return torch.cat(parts)
