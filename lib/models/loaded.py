"""A loaded model and the facts that the pipeline needs about it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ModelError(ValueError):
    """A model or adapter that cannot be loaded; says what was found and what to do."""


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model, its tokenizer and the facts the pipeline needs about it."""

    name: str
    model: Any
    """A transformers CausalLM, or the PeftModel around it."""
    tokenizer: Any = field(repr=False)  # Gemma's prints a quarter of a million lines
    n_layers: int
    d: int
    """Width of the residual stream, which is also the width of an MLP's output."""
    n_parameters: int
    pretraining_tokens: float | None

    @property
    def device(self) -> torch.device:
        """Where token ids go: that of the embeddings when the model is spread over several; the
        CPU when its blocks are not on this machine."""
        found = next(self.model.parameters()).device
        return torch.device("cpu") if found.type == "meta" else found

    @property
    def dtype(self) -> torch.dtype:
        return self.unembedding.dtype

    @property
    def causal_lm(self) -> nn.Module:
        """The transformers model itself, whether or not an adapter is around it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def block(self, layer: int) -> nn.Module:
        return self.causal_lm.model.layers[layer]

    def mlp(self, layer: int) -> nn.Module:
        return self.block(layer).mlp

    def hooked(self, layer: int, hook: str) -> nn.Module:
        """The module whose output is measured: ``mlp`` (output added to the stream) or ``residual``."""
        return {"mlp": self.mlp, "residual": self.block}[hook](layer)

    @property
    def unembedding(self) -> torch.Tensor:
        return self.causal_lm.get_output_embeddings().weight

    @property
    def final_gain(self) -> torch.Tensor:
        """Factor of the last norm on each coordinate, (d,) in float32.

        Read off the norm itself, as its answer to a constant vector, because families store it
        differently: Llama its weight, Gemma its weight less 1. The constant is large so that the
        norm's epsilon does not count.
        """
        norm = self.causal_lm.model.norm
        return norm(torch.full_like(norm.weight, 1e4)).detach().float()

    @property
    def softcap(self) -> float | None:
        return getattr(self.causal_lm.config, "final_logit_softcapping", None)

    @torch.no_grad()
    def logits(self, hidden: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of normed last hidden states in fp32, as the model itself makes them."""
        logits = self.causal_lm.get_output_embeddings()(hidden).float()
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Run the same weights without the adapter."""
        if not hasattr(self.model, "disable_adapter"):
            yield
            return
        with self.model.disable_adapter():
            yield

    @cached_property
    def weights_hash(self) -> str:
        """sha256 prefix over the base weights' bytes, independent of file format."""
        return self._hash(None)

    @cached_property
    def fp32_hash(self) -> str:
        """``weights_hash`` of the same weights held in float32.

        Equal to that of the same checkpoint loaded in float32 where its weights are half precision
        already, and not where loading rounded them.
        """
        return self._hash(torch.float32)

    def _hash(self, dtype: torch.dtype | None) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self.causal_lm.state_dict().items()):
            if "lora_" not in name:
                wanted = dtype if dtype and value.is_floating_point() else value.dtype
                whole = value.detach().to("cpu", wanted).contiguous()
                digest.update(name.replace(".base_layer", "").encode())
                digest.update(whole.view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]
