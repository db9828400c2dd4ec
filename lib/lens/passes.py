"""Passes through the blocks with an edit at one of them, or from one of them on.

Plain PyTorch hooks: the lens reads and writes one place at a time and needs no tracing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.models import LoadedModel

Edit = Callable[[Float[Tensor, "batch seq d"]], Float[Tensor, "batch seq d"]]
"""The residual stream after a block -> what the model continues with."""


@contextmanager
def edited(loaded: LoadedModel, layer: int, edit: Edit) -> Iterator[None]:
    """Within, the output of block ``layer`` is replaced by ``edit`` of it, in every pass."""

    def change(module: object, inputs: object, output: object) -> object:
        if isinstance(output, tuple):
            return (edit(output[0]), *output[1:])
        return edit(output)

    handle = loaded.block(layer).register_forward_hook(change)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def run_after(
    loaded: LoadedModel,
    layer: int,
    stream: Float[Tensor, "batch seq d"],
    mask: Int[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "batch seq d"]:
    """Normed last hidden states when the stream after block ``layer`` is ``stream``.

    Blocks up to ``layer`` are not run. They are replaced, not cut off, because some families take each
    block's kind of attention from its place in the list.
    """
    trunk = loaded.causal_lm.model
    blocks = trunk.layers
    trunk.layers = nn.ModuleList([*(_Skip() for _ in range(layer + 1)), *blocks[layer + 1 :]])
    try:
        run = trunk(inputs_embeds=stream, attention_mask=mask, use_cache=False)
        return run.last_hidden_state
    finally:
        trunk.layers = blocks


class _Skip(nn.Module):
    def forward(self, stream: Tensor, *_: object, **__: object) -> Tensor:
        return stream
