"""The internal axis by layer: CKA and displacement everywhere, reconstruction at dictionary depths.

Massive-activation tokens are left out layer by layer, and the documents are resampled jointly for
every number that combines layers (table ``profile``).
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.activations import Stream
from lib.metrics.cka import LeftOut, cka_interval, document_blocks, jackknife_cka
from lib.metrics.displacement import displacement
from lib.metrics.intervals import jackknife_interval
from lib.metrics.massive import massive_tokens
from lib.metrics.peak import peak_of_sums
from lib.metrics.profile import late_minus_mid, late_part
from lib.metrics.reconstruction import bootstrap_ratio, cross_ratio, error_sums
from lib.models import LoadedModel
from lib.pipeline.dictionaries import trained
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary

IN_SAMPLE_TOKENS = 8_192


class LayerParts(NamedTuple):
    layers: pl.DataFrame
    """Table ``layer_metric``."""
    profile: pl.DataFrame
    """Table ``profile``, one row."""


class _Views(NamedTuple):
    """One layer's held-out activations without massive tokens."""

    base: Float[Tensor, "tokens d"]
    tuned: Float[Tensor, "tokens d"]
    groups: Int[Tensor, " tokens"]


def layer_parts(prepared: Prepared, sparse: Stage, loaded: LoadedModel) -> LayerParts:
    """Measured on the held-out corpus and neutral text together."""
    heldout = prepared.heldout
    groups = heldout.index()[:, 0]
    blocks, documents = document_blocks(groups), groups.unique().numpy()
    rows, left_out, errors = [], [], {}
    for layer in range(loaded.n_layers):
        x = heldout.whole(layer)
        massive = massive_tokens(x[:, 0], x[:, 1])
        keep = massive.keep
        views = _Views(x[keep, 0], x[keep, 1], groups[keep])
        left_out.append(jackknife_cka(views.base, views.tuned, blocks[keep]))
        row: dict[str, Any] = {
            "layer": layer,
            "depth": layer / loaded.n_layers,
            "hook": prepared.experiment.recipe.harvest.hook,
            "n_tokens": len(views.base),
            "massive_dropped": massive.dropped,
            "massive_base": massive.base,
            "massive_tuned": massive.tuned,
            "massive_energy_base": massive.energy_base,
            "massive_energy_tuned": massive.energy_tuned,
            **_similarity(views, left_out[-1]),
        }
        if layer in prepared.train.manifest.layers:
            found, errors[layer] = _reconstruction(prepared, sparse, layer, views, documents)
            row |= found
        rows.append(row)
    peak = peak_of_sums(np.stack(list(errors.values()), axis=1))
    if peak.shares is not None:
        for layer, share in zip(errors, peak.shares.tolist(), strict=True):
            rows[layer]["peak_share"] = share
    return _frames(
        prepared, rows, {**_ends("peak_ratio", peak.value, peak.low, peak.high), **_late(left_out)}
    )


def _frames(
    prepared: Prepared, rows: list[dict[str, Any]], profile: dict[str, float | None]
) -> LayerParts:
    name = pl.lit(prepared.experiment.id)
    ratio = pl.col("ratio")
    layers = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        is_peak=pl.when(ratio.is_not_null()).then(ratio == ratio.max()), experiment_id=name
    )
    return LayerParts(layers, pl.DataFrame([profile]).with_columns(experiment_id=name))


def _similarity(views: _Views, left_out: LeftOut) -> dict[str, Any]:
    cka = cka_interval(left_out)
    moved = displacement(*views)
    return {
        **_ends("cka", *cka),
        **_ends("relative_displacement", moved.relative, moved.low, moved.high),
        "offset_share": moved.offset_share,
    }


def _late(left_out: list[LeftOut]) -> dict[str, float | None]:
    """Late share and late-minus-mid contrast, with the same blocks left out of all layers."""
    moved = 1 - np.array([[layer.value, *layer.without] for layer in left_out]).T
    numbers = np.stack([late_part(moved), late_minus_mid(moved)], axis=1)
    ends = jackknife_interval(numbers[0], numbers[1:]) if len(numbers) > 2 else [(None, None)] * 2
    (share, contrast), ((share_low, share_high), (low, high)) = numbers[0], ends
    return {
        **_ends("late_share", share, share_low, share_high),
        **_ends("late_minus_mid", contrast, low, high),
    }


def _ends(
    name: str, value: float, low: float | None = None, high: float | None = None
) -> dict[str, float | None]:
    """Three columns; NaN, which stands for "not defined", is stored as NULL."""
    found = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {k: None if v is None or np.isnan(v) else float(v) for k, v in found.items()}


@torch.no_grad()
def _reconstruction(
    prepared: Prepared,
    sparse: Stage,
    layer: int,
    views: _Views,
    documents: Int[np.ndarray, " documents"],
) -> tuple[dict[str, Any], Float[np.ndarray, "documents 3"]]:
    """Definition A: base SAE's error on tuned activations over the tuned SAE's own error.

    Centred: the base SAE sees the tuned activations without the mean difference, so that a constant
    offset alone gives 1. Second: the errors' sums by document, for the peak over layers.
    """
    base, tuned, groups = views
    of_base, _ = trained(sparse, layer, "sae_base")
    of_tuned, _ = trained(sparse, layer, "sae_tuned")
    cross, own = through(of_base, tuned), through(of_tuned, tuned)
    ratio = cross_ratio(tuned, cross, own)
    offset = (tuned - base).mean(0)
    shifted = tuned - offset
    centred = cross_ratio(shifted, through(of_base, shifted), own - offset).ratio
    interval = bootstrap_ratio(tuned, cross, own, groups)
    seen = next(iter(Stream(prepared.train, layer, IN_SAMPLE_TOKENS, seed=1, side=1)), None)
    in_sample = None
    if seen is not None:
        trained_on = seen[:, 0].float()
        in_sample = cross_ratio(
            trained_on, through(of_base, trained_on), through(of_tuned, trained_on)
        ).ratio
    return {
        **_ends("ratio", ratio.ratio, interval.ratio_low, interval.ratio_high),
        "ratio_centred": centred,
        "ratio_in_sample": in_sample,
        **_ends("excess_fvu", ratio.excess_fvu, interval.excess_low, interval.excess_high),
        "fve_self": ratio.fve_self,
        "fve_cross": ratio.fve_cross,
        "ratio_bound": ratio.bound,
    }, error_sums(tuned, cross, own, groups, documents)


def through(
    dictionary: Dictionary, x: Float[Tensor, "tokens d"], chunk: int = 2048
) -> Float[Tensor, "tokens d"]:
    """Reconstruction of one side by an SAE."""
    parts = [dictionary.decode(dictionary.encode(p[:, None].float()))[:, 0] for p in x.split(chunk)]
    return torch.cat(parts)
