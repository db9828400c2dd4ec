"""What would stop a run after minutes or hours, found before its first stage."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from lib import corpora, models, paths
from lib.config import ConfigError, Experiment, layers_of
from lib.models import LoadedModel
from lib.pipeline.geometry_pretrained import outside
from lib.pipeline.texts import base_model
from lib.store.write import published_parts


def refuse_early(experiments: Sequence[Experiment]) -> None:
    """Adapters, models and corpora of all experiments together.

    Raises:
        ModelError: an adapter that is no PEFT LoRA, or a model that is not here.
        ConfigError: a recipe that does not go with its model.
        CorpusError: a corpus that cannot be read, or is too small.
    """
    for experiment in experiments:
        if experiment.adapter:
            models.check_adapter(Path(experiment.adapter))
    for experiment in experiments:
        loaded = base_model(experiment.model)
        refuse_misfit(experiment, loaded)
        _refuse_texts(experiment, loaded)


def refuse_misfit(experiment: Experiment, loaded: LoadedModel) -> None:
    """
    Raises:
        ConfigError: modules to adapt that the model lacks, a rank or a k that it has no room for,
            depths that are one layer of it, a given dictionary that is not of it.
    """
    recipe = experiment.recipe
    layers_of(recipe.harvest, loaded.n_layers)
    asked = int(recipe.sparse.expansion * loaded.d)
    if recipe.sparse.k > asked:
        raise ConfigError(
            f"`recipe.sparse.k` is {recipe.sparse.k:,}, more than the {asked:,} latents that "
            f"`expansion` {recipe.sparse.expansion:g} makes of width {loaded.d} of {loaded.name}"
        )
    if recipe.geometry.asked(experiment.corpus_name):
        outside(recipe.geometry, loaded)
    trained = _trained_ranks(experiment)
    if not trained:
        return
    _refuse_targets(recipe.finetune.targets, loaded)
    for name, ranks in trained.items():
        if max(ranks, default=0) > loaded.d:
            raise ConfigError(
                f"`recipe.{name}` is {max(ranks):,}, above the width {loaded.d} of {loaded.name}: a "
                f"matrix of it has no higher rank; give 1..{loaded.d}"
            )


def _trained_ranks(experiment: Experiment) -> dict[str, Sequence[int]]:
    """Ranks of the adapters that a run trains, by the key that asks for them; empty = none."""
    recipe, corpus = experiment.recipe, experiment.corpus_name
    found: dict[str, Sequence[int]] = {}
    if not experiment.adapter:
        found["finetune.rank"] = [recipe.finetune.rank]
    sweep, geometry = recipe.sweep, recipe.geometry
    if sweep.asked(corpus) and (sweep.ranks or sweep.checkpoints or sweep.mixing):
        found |= {"finetune.rank": [recipe.finetune.rank], "sweep.ranks": sweep.ranks}
    if geometry.asked(corpus):
        found["geometry.ranks"] = geometry.ranks
    return found


def _refuse_targets(targets: Sequence[str], loaded: LoadedModel) -> None:
    """peft itself says nothing as long as one of them is there."""
    found = [
        name
        for name, module in loaded.causal_lm.named_modules()
        if isinstance(module, nn.Linear | nn.Embedding)
    ]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in found):
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in found))
            raise ConfigError(
                f"`recipe.finetune.targets` has `{target}`, which {loaded.name} does not; it has "
                f"{known}"
            )


def _refuse_texts(experiment: Experiment, loaded: LoadedModel) -> None:
    recipe = experiment.recipe.text
    reading = {"minimum": recipe.minimum_words, "tokenizer": loaded.tokenizer}
    own = corpora.limited(corpora.load(experiment.corpus, **reading), recipe.most_words)
    for corpus in (own, corpora.load(recipe.neutral, **reading)):
        corpora.split(corpus, heldout=recipe.heldout)
    if experiment.recipe.lens.texts and experiment.recipe.lens.probe:
        corpora.load(experiment.recipe.lens.probe, minimum=1)


def writable(out: Path) -> Path:
    """The folder for the store, made if need be.

    Raises:
        ValueError: something is in its place, or it cannot be made, written or, where it has a store
            already, read.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"the output folder {out}: a file is in the way; name a folder") from None
    except OSError as error:
        raise ValueError(
            f"the output folder {out} cannot be written ({error.strerror}); name another one"
        ) from None
    if paths.store_file(out).is_dir():
        raise ValueError(
            f"the output folder {out}: {paths.store_file(out)} is a folder; move it away"
        )
    published_parts(out)
    return out
