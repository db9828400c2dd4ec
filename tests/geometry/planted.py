"""Worlds with known answers: frames, planted dictionaries, LoRAs around tiny-llama."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from lib import models
from lib.corpora import Document
from lib.models import LoadedModel
from lib.sparse import Dictionary

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
TEXTS = [Document(f"d{i}", text) for i, text in enumerate(("A quiet mind. " * 9, "Buy now! " * 5))]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def frame(d: int, seed: int = 0) -> torch.Tensor:
    """Orthonormal rows."""
    return torch.linalg.qr(normal(d, d, seed=seed))[0].T


def dictionary(rows: torch.Tensor, k: int, *, bias: float = 0.0) -> Dictionary:
    """Decoder rows as given, encoder their transpose, and an encoder bias for every latent."""
    made = Dictionary(1, rows.shape[1], len(rows), k)
    made.decoder = rows.float()[:, None].contiguous()
    made.encoder = rows.float().T[None].contiguous()
    made.encoder_bias = torch.full((len(rows),), bias)
    return made


def sparse_sums(rows: torch.Tensor, tokens: int, k: int, seed: int = 0) -> torch.Tensor:
    """Each token: ``k`` of the rows, with coefficients in 1..2."""
    draw = torch.Generator().manual_seed(seed)
    picked = torch.rand(tokens, len(rows), generator=draw).topk(k, dim=1).indices
    sizes = 1 + torch.rand(tokens, k, generator=draw)
    return torch.zeros(tokens, len(rows)).scatter(1, picked, sizes) @ rows.float()


def save_lora(
    folder: Path,
    *,
    rank: int = 4,
    seed: int = 3,
    zero: bool = False,
    alpha: int = 8,
    **more: object,
) -> Path:
    """A LoRA for tiny-llama, as peft saves it; B is random unless ``zero``."""
    base = models.load("tiny-llama", device="cpu")
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(more.pop("targets", ATTENTION)),
        init_lora_weights=zero,
        **more,
    )
    get_peft_model(base.model, config).save_pretrained(str(folder))
    return folder


def tuned(folder: Path, dtype: torch.dtype = torch.float64) -> LoadedModel:
    loaded = models.with_adapter(models.load("tiny-llama", dtype=dtype, device="cpu"), folder)
    loaded.model.to(dtype)
    return loaded


def adapted_factors(loaded: LoadedModel, factors: list) -> list:
    """The modules that the factors belong to."""
    modules = dict(loaded.causal_lm.named_modules())
    return [modules[f.module] for f in factors]
