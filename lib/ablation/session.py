"""A loaded model with one experiment's adapter and slices, and its forward passes."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib import models
from lib.ablation import catalogue, passes
from lib.ablation.arithmetic import DictionarySlice
from lib.ablation.bundle import load_slices
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.far import Far
from lib.ablation.limits import AblationError
from lib.ablation.passes import Heard, How, Intervention, Pass
from lib.ablation.places import NDIF, kind
from lib.ablation.request import AblationRequest

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


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
    trunk: Any
    """nnsight's view of the model's blocks, ``passes.view``; on NDIF ``far.Far``."""

    @property
    def place(self) -> str:
        """The kind of place, as ``places.kind`` names it."""
        if isinstance(self.trunk, Far):
            return NDIF
        names = {dtype: name for name, dtype in DTYPES.items()}
        dtype = self.loaded.dtype
        return kind(str(self.loaded.device), names.get(dtype, str(dtype)))

    @property
    def device(self) -> str:
        """For the reader."""
        return NDIF if isinstance(self.trunk, Far) else str(self.loaded.device)

    @property
    def weights(self) -> str:
        """Hash of the base weights in fp32; on NDIF those that run cannot be compared."""
        if isinstance(self.trunk, Far):
            return "as NDIF has them"
        return self.info.base_hash or self.loaded.fp32_hash

    def tokens(self, request: AblationRequest) -> Int[Tensor, "1 seq"]:
        """BOS and the prompt's token ids, as the activations were harvested.

        Raises:
            AblationError: too long, or fewer than two tokens after the skipped first ones.
        """
        ids = self.encode(request.prompt)
        if len(ids) > request.prompt_limit:
            raise AblationError(
                f"the prompt has {len(ids)} tokens, the limit is {request.prompt_limit}: shorten it"
            )
        return self.begun(ids, request.skip_first, "the prompt")

    def encode(self, text: str) -> list[int]:
        """Token ids without BOS."""
        return self.loaded.tokenizer(text, add_special_tokens=False)["input_ids"]

    def begun(self, ids: list[int], skip_first: int, what: str) -> Int[Tensor, "1 seq"]:
        """With BOS before; refuses a text of which fewer than two positions would be scored."""
        if len(ids) <= skip_first:
            raise AblationError(
                f"{what} has {len(ids)} tokens; its start is never edited: give at least "
                f"{skip_first + 1}"
            )
        bos = self.loaded.tokenizer.bos_token_id
        return torch.tensor([[bos, *ids]], device=self.loaded.device)

    def pieces(self, request: AblationRequest) -> tuple[str, ...]:
        """The text of each token, BOS first; a token that ends inside a character is empty."""
        tokenizer = self.loaded.tokenizer
        coded = tokenizer(request.prompt, add_special_tokens=False, return_offsets_mapping=True)
        ends = [0]
        for _, end in coded["offset_mapping"]:
            ends.append(max(end, ends[-1]))
        cuts = (request.prompt[a:b] for a, b in pairwise(ends))
        return (tokenizer.bos_token, *cuts)

    def run(
        self,
        ids: Int[Tensor, "batch seq"],
        how: How,
        edits: Mapping[int, Intervention] | None = None,
        heard: Heard | None = None,
    ) -> Pass:
        """One pass through the blocks, without logits; ``heard`` as in ``passes.run_pass``."""
        if isinstance(self.trunk, Far):
            return self.trunk.run(ids, how, edits)
        return passes.run_pass(self.loaded, self.trunk, ids, how, edits, heard)

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        layers: tuple[int, ...],
        edits: Mapping[int, Intervention] | None = None,
        *,
        as_base: bool = False,
    ) -> Forward:
        """Run the model, saving and optionally replacing the activations at the bundle's hook."""
        how = How(layers=layers, hook=self.info.hook, as_base=as_base)
        done = self.run(ids, how, edits)
        return Forward(done.before, done.after, self.loaded.logits(done.hidden))


def open_session(
    experiment_id: str,
    *,
    directory: Path | None = None,
    device: str | None = None,
    dtype: str = "fp32",
) -> Session:
    """Load base, adapter and slices of one experiment.

    Args:
        device: as ``lib.models.load``: None = a GPU if there is one, ``auto`` = over all GPUs.
        dtype: fp32 | bf16, of the base; adapter, slices and scores are in fp32 either way.

    Raises:
        AblationError: no bundle, or parts that do not belong together.
        lib.models.ModelError: the weights, the adapter or the device are not on this machine.
    """
    bundle = catalogue.bundle_of(experiment_id, directory)
    info = catalogue.read_info(bundle)
    base = models.load(info.base_model, dtype=DTYPES[dtype], device=device)
    _check_base(info, base, bundle)
    loaded = _wrapped(base, info, bundle / "adapter")
    slices = load_slices(bundle, info, loaded)
    offered = {layer: catalogue.offered(bundle, layer) for layer in info.layers}
    return session_of(loaded, info, slices, offered)


def session_of(
    loaded: models.LoadedModel,
    info: BundleInfo,
    slices: dict[int, DictionarySlice],
    offered: dict[int, Offered],
) -> Session:
    """A session on a model that is already loaded, with its adapter around it."""
    return Session(loaded, info, slices, offered, passes.view(loaded))


def _check_base(info: BundleInfo, base: models.LoadedModel, bundle: Path) -> None:
    """Bundles name the hash of the weights in fp32; rounded ones are compared before rounding."""
    if info.base_hash in ("", base.fp32_hash):
        return
    found = base.fp32_hash
    if base.dtype != torch.float32:
        found = models.load(info.base_model, device="cpu").weights_hash
    if info.base_hash != found:
        raise AblationError(
            f"{bundle} was measured on a base with weights {info.base_hash}, {info.base_model} "
            f"here has {found}: load the same base, or {catalogue.REMEDY}"
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
