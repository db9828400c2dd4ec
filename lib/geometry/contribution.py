"""The exact linear contribution (alpha/r) B A x of every adapted module.

x is that module's own input in the *tuned* run, so upstream changes are inside x, and the contribution
is what the module's output would lack if this one adapter matrix were taken away at that input: exact,
not an approximation. It is not the delta of activations (``lib.geometry.deltas``), which also holds
W_0 (x_tuned - x_base) and every nonlinearity in between. Of q, k and v it does not even lie in the
residual stream; only o_proj and down_proj write there.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.corpora import Document
from lib.geometry.deltas import TokenBatch, forward, token_batches
from lib.geometry.factors import layer_of
from lib.models import LoadedModel, ModelError


class Contribution(NamedTuple):
    """What one adapted module gives at the inputs of a tuned pass."""

    added: Float[Tensor, "tokens out"]
    """(alpha / r) B A x."""
    without: Float[Tensor, "tokens out"]
    """W x (and bias): its output less that."""
    inputs: Float[Tensor, "tokens in"]
    """x."""


class ContributionBatch(NamedTuple):
    """Contributions of one batch, kept tokens only."""

    documents: Int[Tensor, " tokens"]
    modules: dict[str, Float[Tensor, "tokens out"]]
    """By the module's name inside the model, such as ``model.layers.3.self_attn.q_proj``."""


def linear_update(module: Any, x: Float[Tensor, "*tokens inputs"]) -> Float[Tensor, "*tokens out"]:
    """(alpha / r) B A x of a peft LoRA module, summed over its active adapters.

    In float32 or wider. Dropout counts as off, as in evaluation. Exactly 0 where B is 0.

    Raises:
        ModelError: a variant for which this is not what the module adds (DoRA, biases, embeddings,
            convolutions).
    """
    total: Tensor | None = None
    for name in module.active_adapters:
        if name not in module.lora_A:
            continue
        a, b = module.lora_A[name], module.lora_B[name]
        if name in module.lora_variant or not _plain(a) or not _plain(b):
            raise ModelError(
                f"the adapter {name!r} adds more than (alpha/r) B A x to a module (DoRA, a bias, an "
                "embedding or a convolution); only plain LoRA has an exact linear contribution"
            )
        wide = torch.promote_types(a.weight.dtype, torch.float32)
        part = x.to(wide) @ a.weight.to(wide).T @ b.weight.to(wide).T * module.scaling[name]
        total = part if total is None else total + part
    if total is None:
        raise ModelError("a module has no active LoRA adapter; load one with `with_adapter`")
    return total


def adapted(loaded: LoadedModel, layers: Collection[int] | None = None) -> dict[str, nn.Module]:
    """Modules that carry an adapter, by name; of these layers only, or of all.

    Raises:
        ModelError: there is none.
    """
    found = {
        name: module
        for name, module in loaded.causal_lm.named_modules()
        if hasattr(module, "lora_A") and (layers is None or layer_of(name) in layers)
    }
    if not found:
        where = "it" if layers is None else f"layers {sorted(layers)}"
        raise ModelError(
            f"{loaded.name}: {where} has no module with a LoRA; load one with `with_adapter`"
        )
    return found


@torch.no_grad()
def contributions(
    loaded: LoadedModel,
    documents: list[Document],
    *,
    window: int,
    drop_first: int,
    layers: Collection[int] | None = None,
) -> Iterator[ContributionBatch]:
    """Contributions batch by batch, one pass of the tuned model each; tokens as ``deltas.stream``.

    A batch holds tokens x out numbers for every module: name the layers on large models.

    Raises:
        ModelError: see ``adapted`` and ``linear_update``.
    """
    modules = adapted(loaded, layers)
    for batch in token_batches(loaded, documents, window=window, drop_first=drop_first):
        with listening(modules, batch) as heard:
            forward(loaded, batch)
        yield ContributionBatch(batch.documents, {name: one.added for name, one in heard.items()})


@contextmanager
def listening(
    modules: Mapping[str, nn.Module], batch: TokenBatch
) -> Iterator[dict[str, Contribution]]:
    """What each module adds in the tuned pass that is made inside, by name; kept tokens only."""
    heard: dict[str, Contribution] = {}
    handles = [m.register_forward_hook(_keep(name, batch, heard)) for name, m in modules.items()]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _keep(name: str, batch: TokenBatch, heard: dict[str, Contribution]) -> Any:
    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept = batch.keep.to(output.device)
        x = inputs[0][kept]
        added = linear_update(module, x)
        heard[name] = Contribution(added, output[kept] - added, x)

    return keep


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.bias is None
