"""From text to paired activations: the stages sampled, finetune, activations."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lib import activations, corpora, models, sampling
from lib.config import Experiment, layers_of
from lib.corpora import Document
from lib.pipeline.adapters import adapter_stage
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.pipeline.texts import DTYPES, Texts, base_model, texts


@dataclass(frozen=True)
class Prepared:
    """The finished stages that everything later reads."""

    experiment: Experiment
    texts: Texts
    adapter: Path
    adapter_hash: str
    finetune: dict[str, Any]
    sampled_key: str
    sampled: list[Document]
    activations: Stage

    @property
    def train(self) -> activations.Harvest:
        return activations.Harvest.open(self.activations.directory / "train")

    @property
    def heldout(self) -> activations.Harvest:
        return activations.Harvest.open(self.activations.directory / "heldout")

    def loaded(self) -> models.LoadedModel:
        """The base with the adapter around it; a fresh base, since peft changes it in place."""
        return models.with_adapter(models.load(self.experiment.model), self.adapter)


def prepare(experiment: Experiment, progress: Progress) -> Prepared:
    text = texts(experiment)
    base_hash = base_model(experiment.model).weights_hash
    sampled_stage, sampled = _sampled(experiment, base_hash, progress)
    tune = adapter_stage(experiment, text, base_hash, progress)
    adapter = tune.directory / "adapter"
    pending = Stage("activations", {})
    prepared = Prepared(
        experiment, text, adapter, models.adapter_hash(adapter), tune.manifest(),
        sampled_stage.key, sampled, pending,
    )  # fmt: skip
    return harvested(prepared, progress)


def harvested(prepared: Prepared, progress: Progress) -> Prepared:
    """With the paired activations of its adapter."""
    recipe = prepared.experiment.recipe
    stage = Stage(
        "activations",
        {
            "adapter": prepared.adapter_hash,
            "base": base_model(prepared.experiment.model).weights_hash,
            "data": prepared.texts.data_hash,
            "sampled": prepared.sampled_key,
            "text": recipe.identity["text"],
            "harvest": asdict(recipe.harvest),
        },
    )
    ready = replace(prepared, activations=stage)
    stage.run(lambda directory: _harvest(ready, directory, progress))
    return ready


def _sampled(
    experiment: Experiment, base_hash: str, progress: Progress
) -> tuple[Stage, list[Document]]:
    recipe = experiment.recipe
    stage = Stage(
        "sampled",
        {
            "base": base_hash,
            "tokens": recipe.text.sampled_tokens,
            "dtype": recipe.harvest.train_dtype,
        },
    )
    if recipe.text.sampled_tokens == 0:
        return stage, []

    def work(directory: Path) -> dict[str, Any]:
        with progress.task("sample text from the base model", recipe.text.sampled_tokens) as task:
            made = sampling.sample_texts(
                base_model(experiment.model, recipe.harvest.train_dtype),
                recipe.text.sampled_tokens,
                batch=min(128, -(-recipe.text.sampled_tokens // 80)),
                progress=task.advance,
            )
        sampling.write_jsonl(made, directory / "sampled.jsonl")
        return {"documents": len(made)}

    stage.run(work)
    source = f"path:{stage.directory / 'sampled.jsonl'}"
    return stage, list(corpora.load(source, minimum=1).documents)


def _harvest(prepared: Prepared, directory: Path, progress: Progress) -> dict[str, Any]:
    recipe = prepared.experiment.recipe
    loaded = prepared.loaded()
    layers = layers_of(recipe.harvest, loaded.n_layers)
    common = {
        "hook": recipe.harvest.hook,
        "window": recipe.text.window,
        "drop_first": recipe.text.drop_first,
    }
    text = prepared.texts
    # Held-out first, in float32 and at every layer: all reported numbers come from it.
    parts = {
        "heldout": (
            [d for _, d in text.heldout],
            {"layers": list(range(loaded.n_layers)), "dtype": torch.float32, "shuffle": False},
        ),
        "train": (
            [*text.corpus_train, *text.neutral_train, *prepared.sampled],
            {"layers": layers, "dtype": DTYPES[recipe.harvest.train_dtype], "shuffle": True},
        ),
    }
    facts: dict[str, Any] = {}
    for part, (documents, how) in parts.items():
        running = replace(loaded, model=loaded.model.to(how["dtype"]))
        with progress.task(f"activations of {part} text", 1) as task:
            manifest = activations.harvest(
                running,
                documents,
                directory / part,
                final_hidden=part == "heldout",
                progress=task.of,
                **common,
                **how,
            )
        facts[part] = {"tokens": manifest.tokens, "layers": manifest.layers}
    return facts
