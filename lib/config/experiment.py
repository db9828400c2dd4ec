"""One experiment, and where its dictionaries lie in a model."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lib.config.recipe import Harvest, Recipe
from lib.config.values import ConfigError, corpus_name

Keep = Literal["full", "tables", "summary"]
"""What goes into the output folder: everything; no live bundle (nothing to ablate); or neither that
nor single latents and their examples, only their counts and all other numbers."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One base model, one corpus (or a given adapter), one seed, one recipe."""

    model: str
    corpus: str
    """Registry name or ``path:FILE``; also the text on which the output axis is measured."""
    seed: int
    adapter: str | None
    """A PEFT adapter directory to audit instead of training one."""
    recipe: Recipe
    nulls: int = 0
    """Draws of each null control; see ``lib/pipeline/nulls.py``."""
    keep: Keep = "full"

    @property
    def id(self) -> str:
        """Readable and unique for what the seeds vary; safe in a URL and as a folder name."""
        model = Path(self.model.removeprefix("hf:")).name
        tune = self.recipe.finetune
        if self.adapter:
            how = ("adapter", f"{_slug(Path(self.adapter).name)}-{_file_id(Path(self.adapter))}")
        else:
            residual = "-residual" if self.recipe.harvest.hook == "residual" else ""
            how = (f"r{tune.rank}", f"t{tune.steps}{residual}")
        return ".".join((_slug(model), _slug(self.corpus_name), *how, f"s{self.seed}"))

    @property
    def corpus_name(self) -> str:
        return corpus_name(self.corpus)


def layer_at(depth: float, n_layers: int) -> int:
    """floor(depth x n_layers): 0.25, 0.5, 0.75, 0.9 of 30 layers are 7, 15, 22, 27."""
    return min(n_layers - 1, int(depth * n_layers + 1e-9))


def layers_of(harvest: Harvest, n_layers: int) -> list[int]:
    """Distinct dictionary layers, in order.

    Raises:
        ConfigError: the depths fall on a single layer of this model.
    """
    layers = sorted({layer_at(depth, n_layers) for depth in harvest.depths})
    if len(layers) < 2:
        raise ConfigError(
            f"depths {harvest.depths} are all layer {layers[0]} of a {n_layers}-layer model; "
            "an audit needs at least two depths"
        )
    return layers


def _file_id(adapter: Path) -> str:
    """Tells adapters apart that lie in folders of the same name."""
    weights = adapter / "adapter_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:6] if weights.exists() else "missing"


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in text)
