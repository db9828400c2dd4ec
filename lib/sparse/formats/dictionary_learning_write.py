"""Saving a dictionary as a crosscoder of science-of-finetuning/dictionary_learning."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lib.sparse.dictionary import Dictionary
from lib.sparse.formats import files
from lib.sparse.formats.dictionary_learning import CLASSES, CONFIG, RANKINGS, WEIGHTS


def write(dictionary: Dictionary, folder: Path) -> str:
    """Save a dictionary of any number of sides; returns what it is there and what changed.

    Their class has one threshold on a N. Exactly expressed are: no thresholds (a ``CrossCoder``),
    thresholds inverse to the summed decoder norms (BatchTopK as trained here), and any positive
    thresholds by measuring each latent in units of its own (N = 1, ranking ``NONE``).

    Raises:
        ValueError: k per token, or a mixture of latents with and without threshold.
    """
    if dictionary.selection == "topk":
        raise ValueError(
            "dictionary-learning crosscoders have no exact k per token (`selection` topk); give the "
            "dictionary thresholds first, or export one side to SAELens"
        )
    norms = dictionary.norms.sum(1)
    writes = norms > 0  # a latent without decoder says nothing about the common threshold
    thresholds = dictionary.thresholds.clamp_min(0)
    products = (thresholds.double() * norms)[writes]
    if not bool((thresholds[writes] > 0).any()):
        return _save(dictionary, folder, None, "CROSSCODER", "a CrossCoder with the same codes")
    if bool(products.max() <= products.min() * (1 + 1e-5)):
        theta, same = float(products.median()), "a BatchTopKCrossCoder with the same codes"
        return _save(dictionary, folder, theta, "CROSSCODER", same)
    free = int((thresholds[writes] == 0).sum())
    if free:
        raise ValueError(
            f"{free} latents fire above 0 and {len(products) - free} above a threshold of their own; "
            "dictionary-learning has one threshold for all, which cannot say both. One side can go to "
            "SAELens"
        )
    theta = float(thresholds[writes].median())
    rescaled = _in_own_units(dictionary, torch.where(writes, theta / thresholds, 1.0))
    changed = (
        "a BatchTopKCrossCoder with the same reconstructions; codes in units of their threshold"
    )
    return _save(rescaled, folder, theta, "NONE", changed)


def _in_own_units(dictionary: Dictionary, factors: Float[Tensor, " latents"]) -> Dictionary:
    """Codes times ``factors``, decoders divided by them: the same reconstructions."""
    made = Dictionary(dictionary.sides, dictionary.d, dictionary.latents, dictionary.k)
    made.encoder = dictionary.encoder * factors
    made.encoder_bias = dictionary.encoder_bias * factors
    made.decoder = dictionary.decoder / factors[:, None, None]
    made.decoder_bias = dictionary.decoder_bias
    if not bool(torch.isfinite(made.decoder).all()):
        raise ValueError(
            "a threshold is too large for float32 to measure its latent in; set it lower"
        )
    return made


def _save(
    dictionary: Dictionary, folder: Path, theta: float | None, ranking: str, note: str
) -> str:
    sides, d = dictionary.sides, dictionary.d
    unknown = torch.full((sides, d), torch.nan)  # their mark of "no normaliser"
    held = {
        "encoder.weight": dictionary.encoder,
        "encoder.bias": dictionary.encoder_bias,
        "decoder.weight": dictionary.decoder.transpose(0, 1),
        "decoder.bias": dictionary.decoder_bias,
        "activation_mean": unknown,
        "activation_std": unknown.clone(),
        "activation_global_scale": torch.ones(sides),
        "target_rms": torch.tensor(1.0),
        "code_normalization_id": torch.tensor(RANKINGS.index(ranking) + 1),
    }
    config: dict[str, Any] = {
        "dict_class": CLASSES[theta is not None],
        "activation_dim": d,
        "dict_size": dictionary.latents,
        "num_layers": sides,
        "code_normalization": ranking,
    }
    if theta is not None:
        held |= {"threshold": torch.tensor(theta), "k": torch.tensor(dictionary.k, dtype=torch.int)}
        config["k"] = dictionary.k
    files.save(folder, WEIGHTS, held, CONFIG, config)
    return note
