"""The thin factors of an adapter, from its files alone: no model is loaded."""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.models import ModelError, check_adapter

_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


class Factors(NamedTuple):
    """The update of one matrix: scale * b @ a."""

    module: str
    """Inside the model, such as ``model.layers.3.self_attn.q_proj``."""
    layer: int | None
    """None for a module outside the blocks."""
    kind: str
    """``q``, ``k``, ``v``, ``o``, ``gate``, ``up``, ``down``, or the module's own last name."""
    a: Float[Tensor, "r inputs"]
    b: Float[Tensor, "outputs r"]
    scale: float
    """alpha / r, or alpha / sqrt(r) with ``use_rslora``."""


class Product(NamedTuple):
    """Singular value decomposition of scale * b @ a, without the zero part."""

    left: Float[Tensor, "outputs rank"]
    size: Float[Tensor, " rank"]
    """Largest first; empty for an update of zero."""
    right: Float[Tensor, "inputs rank"]


def layer_of(module: str) -> int | None:
    """The block that a module belongs to, read off its name."""
    found = _LAYER.search(module)
    return int(found[1]) if found else None


def read(directory: Path) -> list[Factors]:
    """Factors of every adapted module, sorted by layer, then by name.

    Raises:
        ModelError: see ``check_adapter``; a damaged file; weights that are not the A and B of a plain
            LoRA (DoRA, biases, embeddings, saved modules); values that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = check_adapter(directory)
    path = directory / "adapter_model.safetensors"
    try:
        held = load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged: {error}; copy it again") from None
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, weight in held.items():
        found = _KEY.fullmatch(key)
        if not found or weight.ndim != 2:
            raise ModelError(
                f"{path}: {key} {tuple(weight.shape)} is not the A or B of a plain LoRA, so its "
                "update is not a product of two thin factors"
            )
        pairs.setdefault(found[1], {})[found[2]] = weight
    made = [_factors(name, pair, config, path) for name, pair in pairs.items()]
    return sorted(made, key=lambda f: (-1 if f.layer is None else f.layer, f.module))


def product(factors: Factors) -> Product:
    """The update's singular values and vectors, through QR of its thin factors, in float64.

    b = Q_b R_b and a' = Q_a R_a give b a = Q_b (R_b R_a') Q_a': the SVD of an r x r matrix. No change
    of basis between b and a moves it. Directions below rounding are left out, so B = 0 gives none.
    """
    q_b, r_b = torch.linalg.qr(factors.b.double())
    q_a, r_a = torch.linalg.qr(factors.a.double().T)
    left, size, right = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    floor = float(size[:1].sum()) * max(factors.a.shape[1], factors.b.shape[0]) * 2e-16
    rank = int((size > floor).sum())
    if not factors.scale:
        rank = 0
    sign = math.copysign(1.0, factors.scale)
    sizes = size[:rank] * abs(factors.scale)
    return Product(sign * q_b @ left[:, :rank], sizes, q_a @ right.T[:, :rank])


def _factors(name: str, pair: dict[str, Tensor], config: dict[str, Any], path: Path) -> Factors:
    if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
        shapes = {part: tuple(weight.shape) for part, weight in pair.items()}
        raise ModelError(f"{path}: {name} has {shapes}, not an A (r, in) and a B (out, r)")
    for part, weight in pair.items():
        if not torch.isfinite(weight).all():
            raise ModelError(f"{path}: {part} of {name} is not finite; train the adapter again")
    kind = name.rpartition(".")[2]
    scale = _scale(name, pair["A"].shape[0], config)
    return Factors(name, layer_of(name), kind.removesuffix("_proj"), pair["A"], pair["B"], scale)


def _scale(name: str, rank: int, config: dict[str, Any]) -> float:
    """What peft multiplies B A with; ``alpha_pattern`` names modules as peft matches them."""
    alpha = config.get("lora_alpha")
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            alpha = value
            break
    if not isinstance(alpha, int | float):
        raise ModelError(f"adapter_config.json: lora_alpha is {alpha!r}, not a number")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
