"""A loaded model with one experiment's adapter and slices, and its traced forward passes.

The only module that knows nnsight. Traces are not thread-safe (wrong logits without an error), so
every one of them runs under one lock per process.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import models
from lib.ablation import catalogue
from lib.ablation.arithmetic import DictionarySlice
from lib.ablation.bundle import load_slice
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.request import AblationError, AblationRequest

_ONE_TRACE = threading.Lock()

Intervention = Callable[[Float[Tensor, "batch seq d"]], Float[Tensor, "batch seq d"]]
"""Activations of the current run at one depth -> what the model continues with."""


class Forward(NamedTuple):
    """One pass over a prompt."""

    before: dict[int, Float[Tensor, "batch seq d"]]
    """Activations at every hooked depth, as they arrive there in this run."""
    after: dict[int, Float[Tensor, "batch seq d"]]
    """What the model continued with."""
    logits: Float[Tensor, "batch seq vocab"]


@dataclass(frozen=True)
class Session:
    """Everything that outlives one request of one experiment."""

    loaded: models.LoadedModel
    info: BundleInfo
    slices: dict[int, DictionarySlice]
    offered: dict[int, Offered]
    traced: Any
    """nnsight's view of ``loaded.model``."""

    def tokens(self, request: AblationRequest) -> Int[Tensor, "1 seq"]:
        """BOS and the prompt's token ids, as the activations were harvested.

        Raises:
            AblationError: too long, or nothing left after the skipped first tokens.
        """
        tokenizer = self.loaded.tokenizer
        ids = tokenizer(request.prompt, add_special_tokens=False)["input_ids"]
        if len(ids) > request.prompt_limit:
            raise AblationError(
                f"the prompt has {len(ids)} tokens, the limit is {request.prompt_limit}: shorten it"
            )
        if len(ids) < request.skip_first:
            raise AblationError(
                f"the prompt has {len(ids)} tokens; its start is never clamped: write at least "
                f"{request.skip_first}"
            )
        return torch.tensor([[tokenizer.bos_token_id, *ids]], device=self.loaded.device)

    def pieces(self, request: AblationRequest) -> tuple[str, ...]:
        """The text of each token, BOS first; a token that ends inside a character is empty."""
        tokenizer = self.loaded.tokenizer
        coded = tokenizer(request.prompt, add_special_tokens=False, return_offsets_mapping=True)
        ends = [0]
        for _, end in coded["offset_mapping"]:
            ends.append(max(end, ends[-1]))
        cuts = (request.prompt[a:b] for a, b in pairwise(ends))
        return (tokenizer.bos_token, *cuts)

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        layers: tuple[int, ...],
        edits: Mapping[int, Intervention] | None = None,
        *,
        as_base: bool = False,
    ) -> Forward:
        """Run the model through nnsight, saving and optionally replacing the hooked activations."""
        names = {module: name for name, module in self.loaded.model.named_modules()}
        hooks = [
            (layer, self.traced.get(names[self.loaded.hooked(layer, self.info.hook)]))
            for layer in sorted(layers)  # nnsight wants modules in the order in which they run
        ]
        before: dict[int, Tensor] = {}
        after: dict[int, Tensor] = {}
        with (
            _ONE_TRACE,
            torch.no_grad(),
            self.loaded.as_base() if as_base else nullcontext(),
            self.traced.trace(input_ids=ids),
        ):
            for layer, hook in hooks:
                arriving = hook.output
                before[layer] = arriving.float()
                if edits is not None:
                    after[layer] = edits[layer](before[layer])
                    hook.output = after[layer].to(arriving.dtype)
            logits = self.traced.output.logits.save()
        return Forward(before, after if edits is not None else before, logits.float())


def open_session(
    experiment_id: str, *, directory: Path | None = None, device: str | None = None
) -> Session:
    """Load base, adapter and slices of one experiment (fp32; a GPU is used if there is one).

    Raises:
        AblationError: no bundle, or parts that do not belong together.
        lib.models.ModelError: the weights or the adapter are not on this machine.
    """
    bundle = catalogue.bundle_of(experiment_id, directory)
    info = catalogue.read_info(bundle)
    base = models.load(info.base_model, device=device)
    _check_base(info, base, bundle)
    loaded = _wrapped(base, info, bundle / "adapter")
    slices = {layer: load_slice(bundle, layer, loaded.device) for layer in info.layers}
    for layer, part in slices.items():
        if layer >= loaded.n_layers or part.encoder.shape[2] != loaded.d:
            raise AblationError(
                f"{catalogue.slice_file(bundle, layer)} is for width {part.encoder.shape[2]}, "
                f"{info.base_model} has {loaded.n_layers} layers of width {loaded.d}; "
                f"{catalogue.REMEDY}"
            )
    offered = {layer: catalogue.offered(bundle, layer) for layer in info.layers}
    return session_of(loaded, info, slices, offered)


def session_of(
    loaded: models.LoadedModel,
    info: BundleInfo,
    slices: dict[int, DictionarySlice],
    offered: dict[int, Offered],
) -> Session:
    """A session on a model that is already loaded, with its adapter around it."""
    from nnsight import NNsight

    return Session(loaded, info, slices, offered, NNsight(loaded.model))


def _check_base(info: BundleInfo, base: models.LoadedModel, bundle: Path) -> None:
    if info.base_hash and info.base_hash != base.weights_hash:
        raise AblationError(
            f"{bundle} was measured on a base with weights {info.base_hash}, {info.base_model} "
            f"here has {base.weights_hash}: load the same base, or {catalogue.REMEDY}"
        )


def _wrapped(base: models.LoadedModel, info: BundleInfo, adapter: Path) -> models.LoadedModel:
    if not adapter.is_dir():
        raise AblationError(f"{adapter} is missing; {catalogue.REMEDY}")
    loaded = models.with_adapter(base, adapter)
    if info.adapter_hash and info.adapter_hash != models.adapter_hash(adapter):
        raise AblationError(
            f"{adapter} has hash {models.adapter_hash(adapter)}, its dictionaries were trained "
            f"with {info.adapter_hash}; {catalogue.REMEDY}"
        )
    return loaded
