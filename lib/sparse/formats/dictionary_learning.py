"""Crosscoders of science-of-finetuning/dictionary_learning: ``config.json``, ``model.safetensors``.

Theirs, per layer s (base 0, tuned 1), with mean m_s and one scale g_s per layer where a normaliser
was given, and eps = 1e-8:

    u_s = g_s (x_s - m_s)
    a = relu(sum_s u_s @ encoder.weight[s] + encoder.bias)
    kept where a N > threshold, N_j = sum_s |decoder.weight[s, j]|  (``CROSSCODER``)
    reconstruction x_s = (a @ decoder.weight[s] + decoder.bias[s]) / (g_s + eps) + m_s

so ours has encoder g_s W_s, encoder bias minus sum_s m_s @ (g_s W_s), decoder and its bias over
g_s + eps, and threshold / N_j. Their ``get_activations`` returns a N, ours returns a.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.sparse.dictionary import Dictionary
from lib.sparse.formats import files

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CLASSES = ("CrossCoder", "BatchTopKCrossCoder")
RANKINGS = ("CROSSCODER", "SAE", "MIXED", "NONE", "DECOUPLED")
"""What multiplies a code before it meets the threshold; stored as the place in this list, from 1."""
EPSILON = 1e-8
NEVER = torch.finfo(torch.float32).max
"""Threshold of a latent that cannot fire."""


class _Sides(NamedTuple):
    mean: Float[Tensor, "sides d"]
    scale: Float[Tensor, " sides"]
    unscale: Float[Tensor, " sides"]


def read(folder: Path, *, k: int | None = None) -> Dictionary:
    """A ``Dictionary`` with the same codes and reconstructions for raw activations.

    Raises:
        ValueError: a file is missing, damaged or does not fit its configuration, or the dictionary
            is of a kind that no ``Dictionary`` expresses.

    Source: ``CrossCoder`` and ``BatchTopKCrossCoder`` of that repository, as saved by
    ``save_pretrained``.
    """
    path, described = folder / WEIGHTS, folder / CONFIG
    config = files.settings(described)
    held = {name.removeprefix("_orig_mod."): t for name, t in files.tensors(path).items()}
    batch = _batch_topk(config, held, described)
    sides, latents, d = _shape(config, held, described, path)
    encoder = _encoder(config, held, (sides, d, latents), path)
    decoder = files.weight(held, "decoder.weight", (sides, latents, d), path)
    bias = files.weight(held, "encoder.bias", (latents,), path)
    decoder_bias = files.weight(held, "decoder.bias", (sides, d), path)
    norm = _normaliser(held, sides, d, path)
    known = files.number(int(held["k"]), "k", path) if batch and "k" in held else None
    made = Dictionary(sides, d, latents, files.mean_active(known, k, latents, path))
    made.encoder = encoder * norm.scale[:, None, None]
    made.encoder_bias = bias - torch.einsum("sd,sdl->l", norm.mean, made.encoder)
    made.decoder = (decoder / norm.unscale[:, None, None]).transpose(0, 1).contiguous()
    made.decoder_bias = decoder_bias / norm.unscale[:, None] + norm.mean
    if batch:
        made.thresholds = _thresholds(config, held, decoder, path)
    return made


def _batch_topk(config: dict[str, Any], held: dict[str, Tensor], described: Path) -> bool:
    named = config.get("dict_class")
    if named is not None and named not in CLASSES:
        raise ValueError(
            f"{described}: dict_class {named!r} cannot be read; supported: {', '.join(CLASSES)}"
        )
    batch = "threshold" in held
    if named is not None and batch != (named == "BatchTopKCrossCoder"):
        there = "a" if batch else "no"
        raise ValueError(f"{described}: dict_class is {named}, but there is {there} threshold")
    return batch


def _shape(
    config: dict[str, Any], held: dict[str, Tensor], described: Path, path: Path
) -> tuple[int, int, int]:
    """Sides, latents and d from the decoder, which must be what the configuration says."""
    found = tuple(held["decoder.weight"].shape) if "decoder.weight" in held else ()
    if len(found) != 3:
        raise ValueError(
            f"{path}: decoder.weight has shape {found}, a crosscoder's is (layers, latents, d); "
            f"supported: {', '.join(CLASSES)}"
        )
    layers = config.get("num_decoder_layers") or config.get("num_layers")
    said = (layers, config.get("dict_size"), config.get("activation_dim"))
    if any(b is not None and a != b for a, b in zip(found, said, strict=True)):
        raise ValueError(
            f"{path}: decoder.weight has shape {found}, but {described.name} says {said} "
            "(num_layers, dict_size, activation_dim)"
        )
    return found


def _encoder(
    config: dict[str, Any], held: dict[str, Tensor], shape: tuple[int, int, int], path: Path
) -> Float[Tensor, "sides d latents"]:
    """A crosscoder may read fewer layers than it writes; the others have zero weights."""
    sides, d, latents = shape
    layers = config.get("encoder_layers")
    if layers is None:
        return files.weight(held, "encoder.weight", shape, path)
    known = [i for i in range(sides) if isinstance(layers, list) and i in layers]
    if layers != known:  # ascending and each once, as their writer leaves them
        raise ValueError(f"{path}: encoder_layers {layers!r}, but there are {sides} layers")
    encoder = torch.zeros(shape)
    encoder[layers] = files.weight(held, "encoder.weight", (len(layers), d, latents), path)
    return encoder


def _normaliser(held: dict[str, Tensor], sides: int, d: int, path: Path) -> _Sides:
    """NaN in every mean and deviation is their way to say: no normaliser."""
    names = ("activation_mean", "activation_std")
    none = _Sides(torch.zeros(sides, d), torch.ones(sides), torch.ones(sides))
    if not any(name in held for name in names):
        return none
    if all(name in held and bool(held[name].isnan().all()) for name in names):
        return none
    mean, _ = (files.weight(held, name, (sides, d), path) for name in names)
    scale = files.weight(held, "activation_global_scale", (sides,), path)
    if not bool((scale > 0).all()):
        raise ValueError(
            f"{path}: activation_global_scale must be positive, found {scale.tolist()}"
        )
    return _Sides(mean, scale, scale + EPSILON)


def _thresholds(
    config: dict[str, Any],
    held: dict[str, Tensor],
    decoder: Float[Tensor, "sides latents d"],
    path: Path,
) -> Float[Tensor, " latents"]:
    norms = _ranking(config, held, decoder, path)
    theta = files.weight(held, "threshold", (), path)
    if theta < 0:
        raise ValueError(
            f"{path}: threshold is {float(theta):g}, so it was never learnt (their trainer starts at "
            "threshold_start_step) and every positive latent would fire; train it for longer"
        )
    return torch.where(norms > 0, theta / norms, NEVER).clamp_max(NEVER)


def _ranking(
    config: dict[str, Any],
    held: dict[str, Tensor],
    decoder: Float[Tensor, "sides latents d"],
    path: Path,
) -> Float[Tensor, " latents"]:
    """N of each latent."""
    stored = held.get("code_normalization_id")
    place = None if stored is None else int(stored)
    if place is not None and not 1 <= place <= len(RANKINGS):
        raise ValueError(f"{path}: code_normalization_id {place}, expected 1..{len(RANKINGS)}")
    by_id = RANKINGS[place - 1] if place else None
    named = str(config.get("code_normalization") or by_id or "CROSSCODER").upper()
    if named not in RANKINGS[:-1] or by_id not in (None, named):
        raise ValueError(
            f"{path}: code_normalization {named} (stored with the weights: {by_id}); supported: "
            f"{', '.join(RANKINGS[:-1])}, the same in both places"
        )
    summed, joint = decoder.norm(dim=2).sum(0), decoder.norm(dim=(0, 2))
    if named == "MIXED":
        by_joint = float(config.get("code_normalization_alpha_sae", 1.0))
        return by_joint * joint + float(config.get("code_normalization_alpha_cc", 0.1)) * summed
    return {"CROSSCODER": summed, "SAE": joint, "NONE": torch.ones_like(summed)}[named]
