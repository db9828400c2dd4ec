"""Traced passes through a model's blocks: read and replace activations, start in the middle.

The only module that knows nnsight. Traces are not thread-safe (wrong logits without an error), so
every one of them runs under one lock per process.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import models
from lib.ablation.limits import AblationError
from lib.models import scaling

ONE_TRACE = threading.Lock()
"""Held around every trace of this process, whatever it runs on."""

Intervention = Callable[[Float[Tensor, "batch seq d"]], Float[Tensor, "batch seq d"]]
"""Activations of the current run at one depth -> what the model continues with."""

Heard = Callable[[], None]
"""Whether to go on: raises where a run was cancelled."""


class Entry(NamedTuple):
    """Where a pass may start: the stream as it enters one block, of a run without an edit."""

    layer: int
    stream: Float[Tensor, "1 seq d"] | None
    """None at block 0, which follows the embeddings."""


class Pass(NamedTuple):
    """One run of the blocks over a batch, without the unembedding."""

    before: dict[int, Float[Tensor, "batch seq d"]]
    """Activations at every hooked depth, as they arrive there in this run."""
    after: dict[int, Float[Tensor, "batch seq d"]]
    """What the model continued with."""
    hidden: Float[Tensor, "batch seq d"]
    """After the final norm, in the model's own precision."""
    entry: Entry | None
    """Of the first hooked block, where a batch of one asked for it."""


@dataclass(frozen=True, kw_only=True)
class How:
    """Everything about a pass but its tokens and edits."""

    layers: tuple[int, ...] = ()
    """Hooked depths."""
    hook: str
    """mlp | residual"""
    as_base: bool = False
    scale: float = 1.0
    """Factor on the adapter in the hooked blocks."""
    start: Entry | None = None
    """Skip the blocks before this one: nothing may differ from the run that it was taken from."""
    keep_entry: bool = False
    cache: Any = None
    """Keys and values of the tokens before these ones, a transformers cache: the pass adds its own."""


def run_pass(
    loaded: models.LoadedModel,
    trunk: Any,
    ids: Int[Tensor, "batch seq"],
    how: How,
    edits: Mapping[int, Intervention] | None = None,
    heard: Heard | None = None,
) -> Pass:
    """Run the blocks through nnsight, saving and optionally replacing the hooked activations.

    Args:
        trunk: nnsight's view of the blocks, ``view(loaded)``.
        heard: called before each block; raising there ends the pass and leaves the model as it was.
    """
    layers = tuple(sorted(how.layers))  # nnsight wants modules in the order in which they run
    names = {module: name for name, module in loaded.causal_lm.model.named_modules()}
    hooks = [(layer, trunk.get(names[loaded.hooked(layer, how.hook)])) for layer in layers]
    first = layers[0] if layers else 0
    before: dict[int, Tensor] = {}
    after: dict[int, Tensor] = {}
    kept: list[Tensor] = []
    with (
        ONE_TRACE,
        torch.no_grad(),
        _listening(loaded, heard),
        loaded.as_base() if how.as_base else nullcontext(),
        scaled_adapter(loaded, layers, how.scale),
        trunk.trace(input_ids=ids, past_key_values=how.cache, use_cache=how.cache is not None),
    ):
        if how.start is not None and how.start.stream is not None:
            stream = how.start.stream.expand(len(ids), -1, -1)
            for layer in range(how.start.layer):
                trunk.layers[layer].skip(stream)
        elif how.keep_entry and first > 0:
            kept.append(trunk.layers[first - 1].output)
        for layer, hook in hooks:
            arriving = hook.output
            before[layer] = arriving.float()
            if edits is not None:
                after[layer] = edits[layer](before[layer])
                hook.output = after[layer].to(arriving.dtype)
        hidden = trunk.output.last_hidden_state.save()
    entry = Entry(first, kept[0] if kept else None) if how.keep_entry else None
    return Pass(before, before if edits is None else after, hidden, entry)


def view(loaded: models.LoadedModel) -> Any:
    """nnsight's view of the blocks, embeddings and final norm, without the unembedding."""
    from nnsight import NNsight

    return NNsight(loaded.causal_lm.model)


@contextmanager
def _listening(loaded: models.LoadedModel, heard: Heard | None) -> Iterator[None]:
    """Blocks that call ``heard`` before they start."""
    if heard is None:
        yield
        return
    ask = heard

    def before(module: torch.nn.Module, given: tuple[Any, ...]) -> None:
        ask()

    blocks = (loaded.block(layer) for layer in range(loaded.n_layers))
    hooks = [block.register_forward_pre_hook(before) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def scaled_adapter(
    loaded: models.LoadedModel, layers: tuple[int, ...], factor: float
) -> Iterator[None]:
    """The adapter at ``factor`` times its strength in these blocks; as it was afterwards.

    Raises:
        AblationError: the adapter changes none of these blocks, so there is nothing to scale.
    """
    if factor == 1:
        yield
        return
    if not any(models.adapted(loaded.block(layer)) for layer in layers):
        raise AblationError(f"the adapter changes nothing at depth {list(layers)}: name others")
    with scaling.scaled_adapter(loaded, factor, layers):
        yield
