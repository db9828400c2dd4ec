"""Slices of a crosscoder on disk: what a live ablation of one experiment needs besides the adapter.

A bundle is a directory with ``bundle.json``, ``adapter/`` (PEFT) and one ``layer_NN.safetensors``
per measured depth. The pipeline writes it, this module is the only one that knows its layout.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.ablation.arithmetic import DictionarySlice
from lib.ablation.catalogue import REMEDY, BundleInfo, slice_file, with_layer, write_info
from lib.ablation.limits import CLASSES, AblationError


def write_bundle(
    bundle: Path,
    info: BundleInfo,
    layer: int,
    *,
    latents: Int[Tensor, " n"],
    encoder: Float[Tensor, "n sides d"],
    encoder_bias: Float[Tensor, " n"],
    decoder: Float[Tensor, "n sides d"],
    thresholds: Float[Tensor, " n"],
    difference_share: Float[Tensor, " n"],
    frequency: Float[Tensor, " n"],
    role: Int[Tensor, " n"],
    nu_eps: Float[Tensor, " n"] | None = None,
    nu_r: Float[Tensor, " n"] | None = None,
    classes: list[str] | None = None,
) -> None:
    """Write one depth's slice, then name it in ``bundle.json`` (atomically, in this order).

    Weights in raw units: a_j = relu(sum_s x_s . encoder[j, s] + encoder_bias[j]). ``info.layers``
    is ignored: the file names the depths written so far for the same experiment. ``nu_eps``, ``nu_r``
    (lib.metrics.latents.Scaling) and ``classes`` (names of ``limits.CLASSES``) let latents be chosen
    by them; a bundle without them offers the ranking by energy only.

    Raises:
        ValueError: a weight that fp16 cannot hold, ids given twice, not two sides, or no such class.
    """
    if encoder.shape[1] != 2:
        raise ValueError(f"layer {layer}: a live clamp needs 2 sides, got {encoder.shape[1]}")
    if latents.unique().numel() != latents.numel():
        raise ValueError(f"layer {layer}: the slice names a latent twice")
    tensors = {
        "latents": latents.long(),
        "encoder": _half("encoder", layer, encoder),
        "encoder_bias": encoder_bias.float(),
        "decoder": _half("decoder", layer, decoder),
        "thresholds": thresholds.float(),
        "difference_share": difference_share.float(),
        "frequency": frequency.float(),
        "role": role.to(torch.int8),
    }
    scaling = {"nu_eps": nu_eps, "nu_r": nu_r}
    tensors |= {name: value.float() for name, value in scaling.items() if value is not None}
    if classes is not None:
        codes = [CLASSES.index(name) for name in classes]
        tensors["classes"] = torch.tensor(codes, dtype=torch.int8)
    updated = with_layer(bundle, info, layer)
    bundle.mkdir(parents=True, exist_ok=True)
    _save(tensors, slice_file(bundle, layer))
    write_info(bundle, updated)


def _save(tensors: dict[str, Tensor], target: Path) -> None:
    building = target.with_suffix(".building")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, building)
    building.replace(target)


def load_slice(bundle: Path, layer: int, device: torch.device) -> DictionarySlice:
    """One depth's slice in fp32 on ``device``."""
    file = slice_file(bundle, layer)
    if not file.exists():
        raise AblationError(f"{file} is missing though bundle.json names it; {REMEDY}")
    tensors = load_file(file, device=str(device))
    return DictionarySlice(
        latents=tensors["latents"],
        encoder=tensors["encoder"].float(),
        encoder_bias=tensors["encoder_bias"].float(),
        decoder=tensors["decoder"].float(),
        thresholds=tensors["thresholds"],
    )


def _half(name: str, layer: int, weights: Tensor) -> Tensor:
    half = weights.to(torch.float16)
    if not torch.isfinite(half).all():
        raise ValueError(
            f"layer {layer}: {name} does not fit into fp16 (largest {float(weights.abs().max()):g})"
        )
    return half
