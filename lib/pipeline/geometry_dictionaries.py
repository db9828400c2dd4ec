"""Dictionaries of the geometry stage: two seeds of the deltas', two of the base's or a given one."""

from dataclasses import replace
from pathlib import Path

from lib.config import Sparse
from lib.geometry.adapter_sae import train_on_deltas
from lib.geometry.deltas import Deltas, Place
from lib.pipeline.dictionaries import affordable
from lib.pipeline.geometry_pretrained import Outside
from lib.pipeline.geometry_rows import Measured
from lib.pipeline.prepare import Prepared
from lib.sparse import Dictionary


def config_of(prepared: Prepared, more: int) -> Sparse:
    """Of the dictionaries here: those of the experiment with fewer steps and one side's loss."""
    recipe = prepared.experiment.recipe
    return replace(
        recipe.sparse,
        max_steps=recipe.geometry.max_steps,
        seed=recipe.geometry.seed + more,
        replicas=0,
    )


def dictionaries_of(
    prepared: Prepared,
    place: Place,
    train: Deltas,
    held: Deltas,
    directory: Path,
    given: Outside | None,
) -> Measured:
    """Adapter SAEs of two seeds on this adapter's deltas; the base's of two seeds, made once, unless
    one is given."""
    wide = train.delta[place].shape[1]
    first = config_of(prepared, 0)
    latents = affordable(
        int(first.expansion * wide), len(train.delta[place]), first.min_tokens_per_latent
    )
    adapters, pretrained, logs = [], [], []
    for more in (0, 1):
        config = config_of(prepared, more)
        made = train_on_deltas(
            train.delta[place], config, latents=latents, heldout=held.delta[place]
        )
        adapters.append(made.dictionary)
        logs.append(made.log)
        if given:
            continue
        folder = directory / "base" / f"{place.hook}.{place.layer}.{more}"
        if not (folder / "done").exists():
            base = train_on_deltas(
                train.base[place],
                config_of(prepared, more + 2),  # else both sides start at the same directions
                latents=latents,
                heldout=held.base[place],
            )
            base.dictionary.save(folder)
            (folder / "done").touch()
        pretrained.append(Dictionary.load(folder))
    if given:
        pretrained = [given.dictionary]
    return Measured(place, train, held, tuple(adapters), tuple(pretrained), logs[0])
