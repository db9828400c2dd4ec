"""Delta activations: tuned minus base at one place and token, from two whole forward passes.

h_delta = h_tuned - h_base at the residual stream or the MLP output. Everything upstream has changed as
well and passed through attention, norms and gates, so h_delta is NOT (alpha/r) B A x, which
arXiv:2605.28896 writes for it and which holds for the output of one adapted matrix alone: that is
``lib.geometry.contribution``.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.activations import Recorder, batches, windows
from lib.corpora import Document
from lib.metrics.inputs import refuse_not_finite
from lib.models import LoadedModel


class Place(NamedTuple):
    """Where activations are read."""

    hook: Literal["mlp", "residual"]
    """mlp = what the MLP adds to the residual stream; residual = the block's output."""
    layer: int


class TokenBatch(NamedTuple):
    """A padded batch of windows, and which of its tokens count."""

    ids: Int[Tensor, "rows seq"]
    mask: Int[Tensor, "rows seq"]
    keep: Bool[Tensor, "rows seq"]
    documents: Int[Tensor, " tokens"]
    """Index into the document list, of every kept token."""


class DeltaBatch(NamedTuple):
    """Both models at every place of one batch, kept tokens only, float32 or wider."""

    documents: Int[Tensor, " tokens"]
    base: dict[Place, Float[Tensor, "tokens d"]]
    delta: dict[Place, Float[Tensor, "tokens d"]]
    """Tuned minus base."""


@dataclass(frozen=True)
class Deltas:
    """Deltas of a text, in memory on the CPU; 4 bytes x tokens x d a place, twice with the base."""

    documents: Int[Tensor, " tokens"]
    base: dict[Place, Float[Tensor, "tokens d"]]
    """Empty where it was not kept."""
    delta: dict[Place, Float[Tensor, "tokens d"]]


def token_batches(
    loaded: LoadedModel, documents: list[Document], *, window: int, drop_first: int
) -> Iterator[TokenBatch]:
    """The windows, batches and kept tokens of a harvest, in its unshuffled order.

    Kept are window positions >= ``drop_first`` (BOS = 0): massive activations live before.
    """
    cut, _ = windows(loaded.tokenizer, documents, window)
    bos, end = loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id
    for group, ids, mask in batches(cut, bos, end):
        keep = mask.bool()
        keep[:, :drop_first] = False
        row = keep.nonzero(as_tuple=True)[0]
        found = torch.tensor([w.document for w in group])[row]
        device = loaded.device
        yield TokenBatch(ids.to(device), mask.to(device), keep.to(device), found)


def forward(loaded: LoadedModel, batch: TokenBatch) -> None:
    """One pass without the output head; hooks see what they want of it."""
    loaded.causal_lm.model(batch.ids, attention_mask=batch.mask, use_cache=False)


@torch.no_grad()
def stream(
    loaded: LoadedModel,
    documents: list[Document],
    places: Collection[Place],
    *,
    window: int,
    drop_first: int,
    base: Mapping[Place, Float[Tensor, "tokens d"]] | None = None,
) -> Iterator[DeltaBatch]:
    """Deltas batch by batch: two passes a batch, whatever the number of hooks and layers; one where the
    base's activations of this text are known.

    The difference is formed before anything is rounded further. Run the model in float32: in bfloat16
    a delta of 1 % of the activation keeps one digit. Exactly 0 where every B is 0.

    Args:
        base: the base's activations of this text at these places, in this order, from a pass before.

    Raises:
        ValueError: no place, or a layer that the model does not have.
    """
    _check(loaded, places)
    by_hook: dict[str, list[int]] = {}
    for place in dict.fromkeys(places):
        by_hook.setdefault(place.hook, []).append(place.layer)
    with ExitStack() as stack:
        recorders = {
            hook: stack.enter_context(Recorder(loaded, layers, hook))
            for hook, layers in by_hook.items()
        }
        at = 0
        for batch in token_batches(loaded, documents, window=window, drop_first=drop_first):
            tuned = _run(loaded, batch, recorders)
            if base is None:
                with loaded.as_base():
                    before = _run(loaded, batch, recorders)
            else:
                rows = slice(at, at + len(batch.documents))
                before = {p: base[p][rows].to(x.device) for p, x in tuned.items()}
            at += len(batch.documents)
            yield DeltaBatch(batch.documents, before, {p: tuned[p] - before[p] for p in tuned})


def record(
    loaded: LoadedModel,
    documents: list[Document],
    places: Collection[Place],
    *,
    window: int,
    drop_first: int,
    keep_base: bool = True,
    known: Deltas | None = None,
) -> Deltas:
    """All of ``stream`` in memory.

    Args:
        keep_base: also keep the base's activations, which ``fits.subtracted`` needs.
        known: of another adapter of the same base on the same text, base kept: that side is not run
            again, and the result shares its memory.

    Raises:
        ValueError: see ``stream``; a text without tokens past ``drop_first``; values that are not
            finite; ``known`` of another text, or without the base at a place.
    """
    if known is not None and not set(places) <= set(known.base):
        raise ValueError("`known` lacks the base's activations at some place; record it with them")
    found: list[Tensor] = []
    base: dict[Place, list[Tensor]] = {place: [] for place in places}
    delta: dict[Place, list[Tensor]] = {place: [] for place in places}
    run = stream(
        loaded,
        documents,
        places,
        window=window,
        drop_first=drop_first,
        base=known.base if known else None,
    )
    for batch in run:
        found.append(batch.documents)
        for place, x in batch.delta.items():
            refuse_not_finite("the delta", f"{place.hook} of layer {place.layer}", x)
            delta[place].append(x.cpu())
            if keep_base and known is None:
                base[place].append(batch.base[place].cpu())
    if not sum(len(x) for x in found):
        raise ValueError(
            f"the text of {len(documents)} documents has no token past the first {drop_first} of a "
            "window; use more text or a smaller `text.drop_first`"
        )
    documents_of = torch.cat(found)
    if known is not None and not torch.equal(documents_of, known.documents):
        raise ValueError(
            f"`known` has {len(known.documents)} tokens, this text {len(documents_of)}, or they belong "
            "to other documents; give deltas of the same text and window"
        )
    kept = {place: torch.cat(parts) for place, parts in base.items() if parts}
    if known is not None and keep_base:
        kept = {place: known.base[place] for place in dict.fromkeys(places)}
    return Deltas(documents_of, kept, {p: torch.cat(parts) for p, parts in delta.items()})


def _run(
    loaded: LoadedModel, batch: TokenBatch, recorders: dict[str, Recorder]
) -> dict[Place, Float[Tensor, "tokens d"]]:
    forward(loaded, batch)
    seen: dict[Place, Tensor] = {}
    for hook, recorder in recorders.items():
        for layer, x in recorder.seen.items():
            kept = x[batch.keep.to(x.device)]
            seen[Place(hook, layer)] = kept if kept.dtype == torch.float64 else kept.float()
        recorder.seen = {}
    return seen


def _check(loaded: LoadedModel, places: Collection[Place]) -> None:
    if not places:
        raise ValueError("deltas need at least one place; give hooks and layers")
    for place in places:
        if not 0 <= place.layer < loaded.n_layers:
            raise ValueError(
                f"{loaded.name} has layers 0..{loaded.n_layers - 1}, not {place.layer}; change the "
                "depths"
            )
