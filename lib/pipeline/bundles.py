"""Live bundles: the adapter and the slices of each crosscoder that a live intervention needs."""

import math
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import torch

from lib import paths
from lib.ablation.bundle import write_bundle
from lib.ablation.catalogue import POOL, TOP, BundleInfo, read_info, slice_file
from lib.ablation.request import AblationError
from lib.ablation.slices import digest
from lib.pipeline.dictionaries import trained
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage
from lib.pipeline.texts import base_model


def write_live_bundle(
    prepared: Prepared, sparse: Stage, latents: pl.DataFrame, directory: Path
) -> Path:
    """Make the experiment's bundle anew beside the old one, then put it in its place.

    Args:
        latents: layer, latent, class, difference_share and frequency of every latent; by them it is
            chosen what the bundle carries.
    """
    experiment, recipe = prepared.experiment, prepared.experiment.recipe
    target = paths.live_bundle(experiment.id, directory)
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    shutil.copytree(
        prepared.adapter, building / "adapter", ignore=shutil.ignore_patterns("README.md")
    )
    info = BundleInfo(
        experiment_id=experiment.id,
        base_model=experiment.model,
        hook=recipe.harvest.hook,
        k=recipe.sparse.k,
        n_latents=sparse.manifest()["latents"],
        base_hash=base_model(experiment.model).weights_hash,
        adapter_hash=prepared.adapter_hash,
    )
    for layer in prepared.train.manifest.layers:
        crosscoder, _ = trained(sparse, layer, "crosscoder")
        chosen = pick(latents.filter(layer=layer), recipe.live_latents, recipe.live_controls)
        ids = torch.tensor(chosen["latent"].to_list())
        write_bundle(
            building,
            info,
            layer,
            latents=ids,
            encoder=crosscoder.encoder[:, :, ids].permute(2, 0, 1),
            encoder_bias=crosscoder.encoder_bias[ids],
            decoder=crosscoder.decoder[ids],
            thresholds=crosscoder.thresholds[ids],
            difference_share=torch.tensor(chosen["difference_share"].to_list()),
            frequency=torch.tensor(chosen["frequency"].to_list()),
            role=torch.tensor(chosen["role"].to_list()),
            nu_eps=torch.tensor(chosen["nu_eps"].fill_null(math.nan).to_list()),
            nu_r=torch.tensor(chosen["nu_r"].fill_null(math.nan).to_list()),
            classes=chosen["class"].to_list(),
        )
    shutil.rmtree(target, ignore_errors=True)
    building.rename(target)
    return target


def bundle_is_current(prepared: Prepared, sparse: Stage, directory: Path) -> bool:
    """Whether the published bundle is whole and made from this adapter and these dictionaries.

    One whose slices are not those it names by hash is not, nor is one from before there were hashes.
    """
    bundle = paths.live_bundle(prepared.experiment.id, directory)
    if not (bundle / "bundle.json").exists():
        return False
    try:
        info = read_info(bundle)
    except AblationError:
        return False
    layers = prepared.train.manifest.layers
    return (
        info.adapter_hash == prepared.adapter_hash
        and info.n_latents == sparse.manifest()["latents"]
        and list(info.layers) == layers
        and all(slice_file(bundle, layer).exists() for layer in layers)
        and list(info.slices) == [digest(slice_file(bundle, layer)) for layer in layers]
        and (bundle / "adapter" / "adapter_model.safetensors").exists()
    )


def pick(latents: pl.DataFrame, top: int, controls: int, seed: int = 0) -> pl.DataFrame:
    """The ``top`` largest shares of the difference, and a random pool of other alive latents."""
    alive = latents.filter(pl.col("class") != "dead").sort(
        "difference_share", "latent", descending=[True, False]
    )
    best, rest = alive.head(top), alive.slice(top)
    count = min(controls, len(rest))
    drawn = np.sort(np.random.default_rng(seed).choice(len(rest), count, replace=False))
    return pl.concat(
        [best.with_columns(role=pl.lit(TOP)), rest[drawn.tolist()].with_columns(role=pl.lit(POOL))]
    )
