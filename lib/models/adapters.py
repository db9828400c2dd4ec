"""PEFT LoRA adapters: put around a base, checked, named by content."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from lib.models.loaded import LoadedModel, ModelError


def with_adapter(loaded: LoadedModel, directory: Path) -> LoadedModel:
    """The same base with a PEFT adapter around it (any PEFT LoRA directory, safetensors only).

    The base is modified in place by peft; ``as_base()`` on the result gives it back exactly.
    """
    from peft import PeftModel

    check_adapter(directory)
    try:
        model = PeftModel.from_pretrained(loaded.causal_lm, str(directory), is_trainable=False)
    except RuntimeError as error:
        raise ModelError(
            f"{directory} does not fit {loaded.name}, it was made for another model; name the one "
            f"that it was trained on ({' '.join(str(error).split())[:200]})"
        ) from None
    _check_loaded(model, directory)
    return replace(loaded, model=model.eval())


def check_adapter(directory: Path) -> dict[str, Any]:
    """The adapter's configuration, after checking that the folder can be used at all.

    Raises:
        ModelError: not a folder, no or unreadable configuration, not a LoRA, no safetensors.
    """
    config = directory / "adapter_config.json"
    if not directory.is_dir():
        found = "a file" if directory.exists() else "no such folder"
        raise ModelError(f"adapter {directory}: {found}; give a PEFT adapter directory")
    if not config.is_file():
        raise ModelError(f"{directory} has no adapter_config.json; give a PEFT adapter directory")
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{config} is not JSON: {error}") from None
    kind = found.get("peft_type") if isinstance(found, dict) else None
    if not (directory / "adapter_model.safetensors").exists():
        names = sorted(p.name for p in directory.iterdir())
        raise ModelError(
            f"{directory} has no adapter_model.safetensors (found {names}); pickled weights are "
            "refused because loading them can run code: save with safe_serialization=True"
        )
    if kind != "LORA":
        raise ModelError(f"{config}: peft_type is {kind!r}; only LORA adapters can be audited")
    return found


def _check_loaded(model: Any, directory: Path) -> None:
    """peft skips weights whose names it does not know: an adapter that did not load is no change."""
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory / "adapter_model.safetensors", framework="pt") as file:
            given = set(file.keys())
    except SafetensorError as error:
        raise ModelError(f"{directory}/adapter_model.safetensors is damaged: {error}") from None
    wanted = set(get_peft_model_state_dict(model))
    if given != wanted:
        some = sorted(given - wanted)[:2] + sorted(wanted - given)[:2]
        raise ModelError(
            f"{directory}: {len(given - wanted)} weights have no place in this model and "
            f"{len(wanted - given)} are missing (such as {some}); is this the base model that the "
            "adapter was trained on?"
        )


def adapter_hash(directory: Path) -> str:
    """sha256 prefix of the adapter's weights and configuration."""
    config = check_adapter(directory)
    digest = hashlib.sha256()
    digest.update((directory / "adapter_model.safetensors").read_bytes())
    kept = {k: config.get(k) for k in ("r", "lora_alpha", "target_modules", "peft_type")}
    if not isinstance(kept["target_modules"], str):
        kept["target_modules"] = sorted(kept["target_modules"] or [])
    # Every other setting that is not at its default changes what the same weights do.
    kept |= {k: v for k, v in config.items() if k not in _NOT_THE_ADAPTER and v not in _DEFAULTS}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    return digest.hexdigest()[:16]


_NOT_THE_ADAPTER = {
    *("r", "lora_alpha", "target_modules", "peft_type", "task_type", "inference_mode"),
    *("base_model_name_or_path", "revision", "auto_mapping", "peft_version", "init_lora_weights"),
    *("lora_dropout", "megatron_core", "qalora_group_size"),
}
_DEFAULTS = (None, False, "none", [], {}, 0)


def adapted(module: nn.Module) -> list[Any]:
    """The modules of a block, or of a whole model, that an adapter changes (peft's LoRA layers)."""
    from peft.tuners.lora import LoraLayer

    return [part for part in module.modules() if isinstance(part, LoraLayer)]
