"""SAEs in SAELens format: ``cfg.json`` and ``sae_weights.safetensors``, one side.

Theirs, with s = 1 unless activations were scaled to a mean norm of sqrt(d) before the SAE:

    z = (s x - b) @ W_enc + b_enc     b = b_dec where ``apply_b_dec_to_input``, else 0
    code = relu(z), kept where z > threshold (jumprelu) or among the k largest (topk)
    reconstruction = (code @ W_dec + b_dec) / s

so ours has encoder s W_enc, encoder bias b_enc - b @ W_enc, decoder W_dec / s and decoder bias
b_dec / s; codes and thresholds are the same numbers.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.sparse.dictionary import Dictionary
from lib.sparse.formats import files

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SUPPORTED = ("standard", "jumprelu", "topk")
VERSION = "6.0.0"
"""The layout that is written; a reader takes a file without a version for an older one."""
ACTIVE = "mean_active_latents"
"""Our own key in their metadata, which keeps keys it does not know."""


class Parts(NamedTuple):
    """The tensors of a one-sided dictionary in their axes, float32."""

    encoder: Float[Tensor, "d latents"]
    encoder_bias: Float[Tensor, " latents"]
    decoder: Float[Tensor, "latents d"]
    decoder_bias: Float[Tensor, " d"]
    thresholds: Float[Tensor, " latents"]

    def dictionary(self, k: int, *, centred: bool, scale: float = 1.0) -> Dictionary:
        """Folded as at the top of this file; ``centred`` = b_dec is taken from the input."""
        d, latents = self.encoder.shape
        made = Dictionary(1, d, latents, k)
        shift = self.decoder_bias @ self.encoder if centred else 0.0
        made.encoder = (self.encoder * scale)[None].contiguous()
        made.encoder_bias = self.encoder_bias - shift
        made.decoder = (self.decoder / scale)[:, None].contiguous()
        made.decoder_bias = (self.decoder_bias / scale)[None]
        made.thresholds = self.thresholds
        return made


def read(folder: Path, *, k: int | None = None, input_scale: float | None = None) -> Dictionary:
    """A ``Dictionary`` with the same codes and reconstructions for raw activations.

    Args:
        k: mean active latents per token, where the files do not say it.
        input_scale: s, for ``expected_average_only_in`` where no ``activation_scaler.json`` lies
            beside the weights.

    Raises:
        ValueError: a file is missing, damaged or does not fit its configuration, or the SAE is of a
            kind that no ``Dictionary`` expresses.

    Source: SAELens 6.54, ``sae_lens/saes`` and ``handle_pre_6_0_config`` for older keys.
    """
    path = folder / CONFIG
    config = files.settings(path)
    architecture, known = _architecture(config, path, k)
    scale = _scale(config, folder, input_scale)
    parts = _parts(folder / WEIGHTS, config, architecture, path)
    if config.get("rescale_acts_by_decoder_norm"):
        parts = _ranked_by_norm(parts, folder)
    active = files.mean_active(known, k, parts.encoder.shape[1], path)
    made = parts.dictionary(active, centred=_applied(config, path), scale=scale)
    made.selection = "topk" if architecture == "topk" else "threshold"
    return made


def write(dictionary: Dictionary, folder: Path) -> str:
    """Save a one-sided dictionary; returns what kind of SAE it is there. Always exact.

    Raises:
        ValueError: more than one side.
    """
    if dictionary.sides != 1:
        raise ValueError(
            f"SAELens holds one side, this dictionary has {dictionary.sides}; a crosscoder goes to "
            "dictionary-learning"
        )
    jumps = bool((dictionary.thresholds > 0).any())
    architecture = "topk" if dictionary.selection == "topk" else ("standard", "jumprelu")[jumps]
    held = {
        "W_enc": dictionary.encoder[0],
        "b_enc": dictionary.encoder_bias,
        "W_dec": dictionary.decoder[:, 0],
        "b_dec": dictionary.decoder_bias[0],
    }
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": dictionary.d,
        "d_sae": dictionary.latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": VERSION, ACTIVE: dictionary.k},
    }
    if architecture == "topk":
        config["k"] = dictionary.k
    if architecture == "jumprelu":
        held["threshold"] = dictionary.thresholds.clamp_min(0)
    files.save(folder, WEIGHTS, held, CONFIG, config)
    return f"a {architecture} SAE with the same codes"


def _architecture(config: dict[str, Any], path: Path, k: int | None) -> tuple[str, int | None]:
    """Kind and k; before version 6 a topk SAE was a standard one with another activation."""
    named = config.get("architecture", "standard")
    function = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    inner = config.get("activation_fn_kwargs") or {}
    if named == "standard" and function == "topk":
        named = "topk"
    if named not in SUPPORTED or "d_out" in config:
        raise ValueError(
            f"{path}: architecture {named!r} cannot be a Dictionary; supported: "
            f"{', '.join(SUPPORTED)} (a trained batchtopk SAE saved for inference is a jumprelu one)"
        )
    if function not in ("relu", "topk"):
        raise ValueError(f"{path}: activation {function!r}; supported: relu, topk")
    if named == "topk":
        kept = config.get("k", inner.get("k"))
        if kept is None and k is None:
            raise ValueError(f"{path}: a topk SAE without k; give it with --k")
        return named, k if kept is None else files.number(kept, "k", path)
    noted = (config.get("metadata") or {}).get(ACTIVE)
    return named, None if noted is None else files.number(noted, ACTIVE, path)


def _applied(config: dict[str, Any], path: Path) -> bool:
    applied = config.get("apply_b_dec_to_input", True)
    if not isinstance(applied, bool):
        raise ValueError(f"{path}: apply_b_dec_to_input is {applied!r}, expected true or false")
    return applied


def _scale(config: dict[str, Any], folder: Path, given: float | None) -> float:
    normalised = config.get("normalize_activations") or "none"
    if normalised is True:  # the name it had before there were several
        normalised = "expected_average_only_in"
    if normalised == "none":
        if given is not None:
            raise ValueError(f"{folder}: normalize_activations is none; leave the input scale out")
        return 1.0
    if normalised != "expected_average_only_in":
        raise ValueError(
            f"{folder / CONFIG}: normalize_activations {normalised!r} is no common factor on all "
            "activations and cannot be folded into the weights; supported: none, "
            "expected_average_only_in"
        )
    beside = folder / "activation_scaler.json"
    if given is None and beside.is_file():
        given = files.settings(beside).get("scaling_factor")
    if not isinstance(given, int | float) or not 0 < given < float("inf"):
        raise ValueError(
            f"{folder}: trained on activations scaled to mean norm sqrt(d), and the files do not hold "
            f"the factor (found {given!r}); pass it as --input-scale, sqrt(d) over the mean norm of "
            "the training activations"
        )
    return float(given)


def _parts(path: Path, config: dict[str, Any], architecture: str, described: Path) -> Parts:
    held = files.tensors(path)
    d = files.number(config.get("d_in"), "d_in", described)
    latents = files.number(config.get("d_sae"), "d_sae", described)
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        if name in held and not bool((held[name] == 1).all()):
            raise ValueError(f"{path}: {name} differs from 1; fold it into W_dec before converting")
    if architecture == "jumprelu":
        thresholds = files.weight(held, "threshold", (latents,), path)
    else:
        thresholds = torch.zeros(latents)
    return Parts(
        files.weight(held, "W_enc", (d, latents), path),
        files.weight(held, "b_enc", (latents,), path),
        files.weight(held, "W_dec", (latents, d), path),
        files.weight(held, "b_dec", (d,), path),
        thresholds,
    )


def _ranked_by_norm(parts: Parts, folder: Path) -> Parts:
    """Their codes are then z |W_dec| and their decoder rows unit vectors: the same SAE, rescaled."""
    norms = parts.decoder.norm(dim=1)
    if not bool((norms > 0).all()):
        raise ValueError(f"{folder}: rescale_acts_by_decoder_norm, but a decoder row is zero")
    return parts._replace(
        encoder=parts.encoder * norms,
        encoder_bias=parts.encoder_bias * norms,
        decoder=parts.decoder / norms[:, None],
    )
