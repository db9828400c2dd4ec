"""Slices of a crosscoder on disk: what a live ablation of one experiment needs besides the adapter.

A bundle is a directory with ``bundle.json``, ``adapter/`` (PEFT) and one ``layer_NN.safetensors``
per measured depth. The pipeline writes it, this module is the only one that knows its layout.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from lib.ablation import catalogue
from lib.ablation.arithmetic import DictionarySlice
from lib.ablation.catalogue import REMEDY, BundleInfo, slice_file, with_layer, write_info
from lib.ablation.limits import CLASSES, AblationError
from lib.models import LoadedModel


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
    """Write one depth's slice, then name it in ``bundle.json`` with its hash (atomically, in this
    order).

    Weights in raw units: a_j = relu(sum_s x_s . encoder[j, s] + encoder_bias[j]). ``info.layers``
    and ``info.slices`` are ignored: the file names the depths written so far for the same
    experiment. ``nu_eps``, ``nu_r`` (lib.metrics.latents.Scaling) and ``classes`` (names of
    ``limits.CLASSES``) let latents be chosen by them; a bundle without them offers the ranking by
    energy only.

    Raises:
        ValueError: a value that is not finite, a weight that fp16 cannot hold, ids given twice, not
            two sides, or no such class.
    """
    if encoder.shape[1] != 2:
        raise ValueError(f"layer {layer}: a live clamp needs 2 sides, got {encoder.shape[1]}")
    if latents.unique().numel() != latents.numel():
        raise ValueError(f"layer {layer}: the slice names a latent twice")
    tensors = {
        "latents": latents.long(),
        "encoder": _half("encoder", layer, encoder),
        "encoder_bias": _finite("encoder_bias", layer, encoder_bias),
        "decoder": _half("decoder", layer, decoder),
        "thresholds": _finite("thresholds", layer, thresholds),
        "difference_share": _finite("difference_share", layer, difference_share),
        "frequency": _finite("frequency", layer, frequency),
        "role": role.to(torch.int8),
    }
    scaling = {"nu_eps": nu_eps, "nu_r": nu_r}
    tensors |= {name: value.float() for name, value in scaling.items() if value is not None}
    if classes is not None:
        codes = [CLASSES.index(name) for name in classes]
        tensors["classes"] = torch.tensor(codes, dtype=torch.int8)
    bundle.mkdir(parents=True, exist_ok=True)
    _save(tensors, slice_file(bundle, layer))
    write_info(bundle, with_layer(bundle, info, layer))


def _save(tensors: dict[str, Tensor], target: Path) -> None:
    building = target.with_suffix(".building")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, building)
    building.replace(target)


def load_slice(bundle: Path, layer: int, device: torch.device) -> DictionarySlice:
    """One depth's slice in fp32 on ``device``.

    Raises:
        AblationError: as ``slices.read``.
    """
    found = catalogue.tensors(bundle, layer)
    parts = {name: torch.tensor(found[name], device=device) for name in DictionarySlice._fields}
    return DictionarySlice(
        latents=parts["latents"],
        encoder=parts["encoder"].float(),
        encoder_bias=parts["encoder_bias"].float(),
        decoder=parts["decoder"].float(),
        thresholds=parts["thresholds"],
    )


def load_slices(bundle: Path, info: BundleInfo, loaded: LoadedModel) -> dict[int, DictionarySlice]:
    """Every slice of a bundle, on the model's device.

    Raises:
        AblationError: a slice that cannot be read, or that is of a model of another size.
    """
    found = {layer: load_slice(bundle, layer, loaded.device) for layer in info.layers}
    for layer, part in found.items():
        if layer >= loaded.n_layers or part.encoder.shape[2] != loaded.d:
            raise AblationError(
                f"{slice_file(bundle, layer)} is for width {part.encoder.shape[2]}, "
                f"{info.base_model} has {loaded.n_layers} layers of width {loaded.d}; {REMEDY}"
            )
    return found


def _finite(name: str, layer: int, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    if not torch.isfinite(values).all():
        raise ValueError(f"layer {layer}: {name} holds values that are not finite")
    return values.float()


def _half(name: str, layer: int, weights: Tensor) -> Tensor:
    half = weights.to(torch.float16)
    if not torch.isfinite(half).all():
        raise ValueError(
            f"layer {layer}: {name} does not fit into fp16 (largest {float(weights.abs().max()):g})"
        )
    return half
