"""A session whose model runs on NDIF: what is here is its shape, its tokenizer and its unembedding."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lib import models
from lib.ablation import catalogue, remote
from lib.ablation.bundle import load_slices
from lib.ablation.far import Far
from lib.ablation.limits import AblationError
from lib.ablation.session import Session

_UNEMBEDDINGS = ("lm_head.weight", "model.embed_tokens.weight")
"""The first of these that a checkpoint holds; the second one where both are tied."""


def open_far(experiment_id: str, adapter_repo: str, *, directory: Path | None = None) -> Session:
    """The session of an experiment whose base and adapter are on the hub, the base on NDIF too.

    Asks the hub for the model's configuration, tokenizer and unembedding and for the adapter, which
    must be the one that the bundle was measured on. The base weights on NDIF cannot be compared.

    Raises:
        AblationError: no bundle, the remote place is off or does not serve this pair, or the
            published adapter is another one.
        lib.models.ModelError: the model's files are not to be had.
    """
    bundle = catalogue.bundle_of(experiment_id, directory)
    info = catalogue.read_info(bundle)
    if why_not := remote.closed() or remote.refusal(info.base_model, adapter_repo):
        raise AblationError(why_not)
    repo = info.base_model.removeprefix("hf:")
    _check_published(bundle, adapter_repo)
    key = remote.model_key(repo)
    base, tuned = _skeleton(repo, None), _skeleton(repo, adapter_repo)
    module = base._module
    module.set_output_embeddings(_head(repo))
    loaded = models.probed(info.base_model, module, base.tokenizer)
    slices = load_slices(bundle, info, loaded)
    offered = {layer: catalogue.offered(bundle, layer) for layer in info.layers}
    return Session(loaded, info, slices, offered, Far(key, base, tuned))


def _skeleton(repo: str, adapter_repo: str | None) -> Any:
    """nnsight's view of a model without weights."""
    from nnsight.modeling.transformers import TransformersModel
    from transformers import AutoTokenizer

    try:
        # Given, because nnsight finds a tokenizer by itself only for some of the models.
        tokenizer = AutoTokenizer.from_pretrained(repo)
        return TransformersModel(
            repo, task="text-generation", tokenizer=tokenizer, peft=adapter_repo
        )
    except (OSError, ValueError) as problem:
        raise models.ModelError(f"{repo} with {adapter_repo}: {problem}") from None


def _check_published(bundle: Path, adapter_repo: str) -> None:
    config = _file(adapter_repo, "adapter_config.json")
    _file(adapter_repo, "adapter_model.safetensors")
    published, own = models.adapter_hash(config.parent), models.adapter_hash(bundle / "adapter")
    if published != own:
        raise AblationError(
            f"the published adapter {adapter_repo} has hash {published}, the one that {bundle} was "
            f"measured on {own}: name the repository of that one, or run on this machine"
        )


def _head(repo: str) -> torch.nn.Linear:
    """The unembedding, in fp32: of all weights the only ones that are needed here."""
    weights = _unembedding(repo)
    head = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    head.weight = torch.nn.Parameter(weights.float(), requires_grad=False)
    return head


def _unembedding(repo: str) -> Float[Tensor, "vocab d"]:
    import json

    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
    from safetensors import safe_open

    try:
        index = _file(repo, "model.safetensors.index.json")
        where = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        name = next(name for name in _UNEMBEDDINGS if name in where)
        file = _file(repo, where[name])
    except models.ModelError as problem:
        if not isinstance(problem.__cause__, EntryNotFoundError):
            raise
        file, name = _file(repo, "model.safetensors"), ""
    except HfHubHTTPError as problem:
        raise models.ModelError(f"{repo}: {problem}") from None
    with safe_open(file, framework="pt") as tensors:
        held = set(tensors.keys())
        return tensors.get_tensor(name or next(n for n in _UNEMBEDDINGS if n in held))


def _file(repo: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(repo, name))
    except (OSError, HfHubHTTPError, HFValidationError) as problem:
        told = " ".join(str(problem).split())[:200]
        raise models.ModelError(f"{repo} on the hub gives no {name} ({told})") from problem
