"""How much every adapted matrix adds, and how much of the stream's change was written there directly.

The change of the residual stream after block L is a sum: what adapted matrices that write to the stream
(o_proj, down_proj) added in blocks 0..L, their *direct writes*, and what everything else became because
its inputs had changed: the *carried* rest. Taking h_delta for B A x (arXiv:2605.28896) is taking the
rest for nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.activations import Recorder
from lib.corpora import Document
from lib.geometry.contribution import Contribution, adapted, listening
from lib.geometry.deltas import TokenBatch, forward, token_batches
from lib.geometry.factors import layer_of
from lib.metrics.intervals import Interval, bootstrap, sums_by_group
from lib.models import LoadedModel

WRITERS = ("o_proj", "down_proj")
"""The matrices of a block whose outputs are added to the stream, where no norm stands behind them."""
_SUM = 1e-3
"""Relative error up to which their outputs add up to what the block changes; far above rounding."""


class Added(NamedTuple):
    """One adapted matrix."""

    module: str
    layer: int | None
    kind: str
    """Last part of its name, such as ``q_proj``."""
    relative: Interval
    """Root mean square of (alpha/r) B A x over that of W x, at the inputs of the tuned run."""
    chance: float
    """The same of an update with the same Frobenius norm and independent Gaussian entries, its root
    mean square over draws: |dW| rms(x) / sqrt(inputs) over rms(W x), exact."""


class Written(NamedTuple):
    """The residual stream after one block."""

    layer: int
    direct: Interval
    """Share of the sum of squares of h_delta that the direct writes up to here account for:
    1 - |h_delta - writes|^2 / |h_delta|^2; 1 = all of it, below 0 = writing nothing is nearer."""
    size: Interval
    """Root mean square of the direct writes over that of h_delta."""
    moved: float
    """``direct`` of the same writes given to other tokens of the batch: what a constant one reaches."""


class Measured(NamedTuple):
    """Of one adapter on one text."""

    tokens: int
    added: list[Added]
    written: list[Written]
    """Of blocks after which anything has changed. Empty where the writers' outputs are not what the
    blocks add to the stream (Gemma's pass a norm first), so that there is nothing to sum."""


@torch.no_grad()
def measure(
    loaded: LoadedModel, documents: list[Document], *, window: int, drop_first: int, seed: int = 0
) -> Measured:
    """Two passes over the text; tokens as ``deltas.stream``. Intervals: 95 %, over documents.

    Raises:
        ModelError: see ``contribution.adapted`` and ``linear_update``.
        ValueError: a text without tokens, or deltas of exactly 0 (is every B of the adapter 0?).
    """
    modules = adapted(loaded)
    matrices: list[Float[np.ndarray, "tokens columns"]] = []
    streams: list[Float[np.ndarray, "tokens columns"]] = []
    groups: list[Tensor] = []
    straight = None
    with Recorder(loaded, list(range(loaded.n_layers)), "residual") as recorder:
        for batch in token_batches(loaded, documents, window=window, drop_first=drop_first):
            with loaded.as_base():
                forward(loaded, batch)
            base, recorder.seen = recorder.seen, {}
            if straight is None:
                straight = writes_straight(loaded, batch)
            with listening(modules, batch) as heard:
                forward(loaded, batch)
            groups.append(batch.documents.cpu())
            matrices.append(_squares([part for one in heard.values() for part in one]))
            if straight:
                streams.append(_stream(batch, base, recorder.seen, heard))
            recorder.seen = {}
    if not sum(len(part) for part in groups):
        raise ValueError("contributions are not defined without tokens; check the text")
    documents_of = torch.cat(groups).numpy()
    sums = sums_by_group(np.concatenate(matrices), documents_of)
    added = [
        _added(name, module, sums[:, 3 * at : 3 * at + 3], seed)
        for at, (name, module) in enumerate(modules.items())
    ]
    written = []
    if streams:
        totals = sums_by_group(np.concatenate(streams), documents_of)
        written = [
            _written(layer, totals[:, 4 * layer : 4 * layer + 4], seed)
            for layer in range(loaded.n_layers)
            if totals[:, 4 * layer].sum() > 0  # nothing has changed before the first adapted block
        ]
        if not written:
            raise ValueError(
                "direct writes have no share because the stream does not change anywhere; is every B "
                "of the adapter 0?"
            )
    return Measured(len(documents_of), added, written)


def writes_straight(loaded: LoadedModel, batch: TokenBatch) -> bool:
    """Whether the ``WRITERS`` of the middle block add up to what that block changes in the stream.

    Measured, not read off the architecture: norms behind them, scaled residuals, parallel blocks and
    other names all end here.
    """
    block = loaded.block(loaded.n_layers // 2)
    named = {name.rpartition(".")[2]: module for name, module in block.named_modules()}
    if not set(WRITERS) <= set(named):
        return False
    with _outputs([block, *(named[name] for name in WRITERS)]) as found:
        forward(loaded, batch)
    (before, after), *writers = found
    changed = after - before
    rest = changed - sum(output for _, output in writers)
    return float(rest.norm()) < _SUM * float(changed.norm())


@contextmanager
def _outputs(modules: list[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """First input and output of each module in the pass made inside, in the order given."""
    found: list[Any] = [None] * len(modules)

    def keep(at: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            found[at] = (inputs[0], output[0] if isinstance(output, tuple) else output)

        return hook

    handles = [module.register_forward_hook(keep(at)) for at, module in enumerate(modules)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _stream(
    batch: TokenBatch,
    base: dict[int, Tensor],
    tuned: dict[int, Tensor],
    heard: dict[str, Contribution],
) -> Float[np.ndarray, "tokens columns"]:
    """By layer: squares of delta, of delta less writes, of the writes, of delta less moved writes."""
    parts: list[Tensor] = []
    writes: Tensor | None = None
    for layer in range(len(tuned)):
        kept = batch.keep.to(tuned[layer].device)
        delta = tuned[layer][kept].double() - base[layer][kept].double()
        for name, one in heard.items():
            if layer_of(name) == layer and name.rpartition(".")[2] in WRITERS:
                now = one.added.double()
                writes = now if writes is None else writes.to(now.device) + now
        here = torch.zeros_like(delta) if writes is None else writes.to(delta.device)
        moved = here.roll(max(1, len(here) // 2), 0)
        parts += [delta, delta - here, here, delta - moved]
    return _squares(parts)


def _squares(parts: list[Tensor]) -> Float[np.ndarray, "tokens columns"]:
    columns = [part.double().square().sum(1).cpu() for part in parts]
    return torch.stack(columns, dim=1).numpy()


def _added(name: str, module: Any, sums: Float[np.ndarray, "documents 3"], seed: int) -> Added:
    """From squares of what is added, of the output without it, and of the input."""
    updates = [module.get_delta_weight(one).double() for one in module.active_adapters]
    update = torch.stack(updates).sum(0)
    _, without, inputs = sums.sum(0)
    chance = float(update.norm()) * (inputs / update.shape[1] / without) ** 0.5
    kind = name.rpartition(".")[2]
    return Added(name, layer_of(name), kind, _ratio(sums[:, :2], seed), float(chance))


def _ratio(sums: Float[np.ndarray, "documents 2"], seed: int) -> Interval:
    return bootstrap(lambda t: np.sqrt(t[:, 0] / t[:, 1]), sums, seed=seed)


def _written(layer: int, sums: Float[np.ndarray, "documents 4"], seed: int) -> Written:
    return Written(
        layer,
        bootstrap(lambda t: 1 - t[:, 1] / t[:, 0], sums, seed=seed),
        _ratio(sums[:, [2, 0]], seed),
        float(1 - sums[:, 3].sum() / sums[:, 0].sum()),
    )
