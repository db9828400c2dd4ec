"""The finetune stage: the adapter under audit, and others trained like it but for one thing."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib import finetune, models
from lib.config import Experiment, Finetune
from lib.finetune import Mixed
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.pipeline.texts import Texts


def adapter_stage(experiment: Experiment, text: Texts, base_hash: str, progress: Progress) -> Stage:
    """The experiment's own adapter, in ``adapter`` of the stage's folder: given, or trained."""
    if not experiment.adapter:
        return trained_adapter(experiment, text, base_hash, experiment.recipe.finetune, progress)
    source = Path(experiment.adapter)
    stage = Stage("finetune", {"base": base_hash, "adapter": models.adapter_hash(source)})

    def work(directory: Path) -> dict[str, Any]:
        shutil.copytree(source, directory / "adapter", dirs_exist_ok=True)
        return {"record": None}

    stage.run(work)
    return stage


def trained_adapter(
    experiment: Experiment,
    text: Texts,
    base_hash: str,
    recipe: Finetune,
    progress: Progress,
    *,
    checkpoints: Sequence[int] = (),
    mixed: float = 0.0,
) -> Stage:
    """An adapter of this recipe; equal trainings of other experiments are found again.

    Args:
        checkpoints: steps whose adapters are kept too (``lib.finetune.checkpoint``).
        mixed: parts of neutral text for each part of the corpus.
    """
    inputs: dict[str, Any] = {"base": base_hash, "data": text.data_hash, "recipe": asdict(recipe)}
    inputs |= {"seed": experiment.seed, "heldout": experiment.recipe.text.heldout}
    if checkpoints:
        inputs["checkpoints"] = list(checkpoints)
    if mixed:
        inputs["mixed"] = mixed
    stage = Stage("finetune", inputs)

    def work(directory: Path) -> dict[str, Any]:
        with progress.task("fine-tune", recipe.steps) as task:
            record = finetune.train_adapter(
                models.load(experiment.model),
                text.corpus_train,
                recipe,
                directory / "adapter",
                seed=experiment.seed,
                checkpoints=checkpoints,
                mixed=Mixed(text.neutral_train, mixed) if mixed else None,
                progress=lambda step, loss: task.update(step, f"loss {loss:.3f}"),
            )
        return {"record": asdict(record)}

    stage.run(work)
    return stage
