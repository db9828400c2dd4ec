"""Dictionaries of other programs: recognise, read and write them; see docs/dictionaries.md."""

import json
from pathlib import Path
from typing import Literal, NamedTuple

from safetensors import SafetensorError

from lib.sparse.dictionary import Dictionary
from lib.sparse.formats import (
    dictionary_learning,
    dictionary_learning_write,
    files,
    gemma_scope,
    saelens,
)

Source = Literal["ours", "dictionary-learning", "saelens", "gemma-scope"]
Target = Literal["ours", "dictionary-learning", "saelens"]

_MARKS: tuple[tuple[str, Source], ...] = (
    ("dictionary.json", "ours"),
    (saelens.CONFIG, "saelens"),
    (gemma_scope.WEIGHTS, "gemma-scope"),
)


class Converted(NamedTuple):
    """What was read, and what it became."""

    source: Source
    dictionary: Dictionary
    note: str
    """What the written dictionary is, and whether its codes are the same numbers."""


def convert(
    source: Path,
    target: Path,
    to: Target,
    *,
    k: int | None = None,
    input_scale: float | None = None,
) -> Converted:
    """Read a dictionary of any known format and write it in another, into a new or empty folder.

    Raises:
        ValueError: nothing readable at ``source``, something at ``target``, or a dictionary that
            the other format cannot express. Nothing is written then.
    """
    files.fresh(target)
    dictionary = read(source, k=k, input_scale=input_scale)
    return Converted(recognise(source), dictionary, write(dictionary, target, to))


def recognise(source: Path) -> Source:
    """The format of a folder (or of an npz file), by the names of its files.

    Raises:
        ValueError: nothing there, a pickle, or names that no format has.
    """
    if not source.exists():
        raise ValueError(f"{source} does not exist; name the folder of a dictionary")
    if source.is_file():
        files.refuse_pickles(source)
        if source.suffix == ".npz":
            return "gemma-scope"
        raise ValueError(
            f"{source} is one file; name the folder that holds it and its configuration"
        )
    for name, kind in _MARKS:
        if (source / name).is_file():
            return kind
    if (source / dictionary_learning.WEIGHTS).is_file():
        return "dictionary-learning"
    files.refuse_pickles(source)
    held = ", ".join(sorted(p.name for p in source.iterdir())[:8]) or "nothing"
    raise ValueError(
        f"{source} holds no known dictionary (found {held}); known are dictionary.json, cfg.json with "
        "sae_weights.safetensors, config.json with model.safetensors, and params.npz"
    )


def read(source: Path, *, k: int | None = None, input_scale: float | None = None) -> Dictionary:
    """A dictionary of any known format, in raw activation units.

    Args:
        k: mean active latents per token, where the files do not say it (unknown: ``latents``).
        input_scale: SAELens ``expected_average_only_in`` alone: the factor on activations.

    Raises:
        ValueError: see ``recognise`` and the readers; or an option the format has no use for.
    """
    kind = recognise(source)
    if kind == "saelens":
        return saelens.read(source, k=k, input_scale=input_scale)
    if input_scale is not None:
        raise ValueError(f"{source} is a {kind} dictionary; an input scale is for SAELens alone")
    if kind == "gemma-scope":
        path = source / gemma_scope.WEIGHTS if source.is_dir() else source
        return gemma_scope.read(path, k=k)
    if kind == "dictionary-learning":
        return dictionary_learning.read(source, k=k)
    if k is not None:
        raise ValueError(f"{source} is one of ours and says its own k; leave k out")
    return _ours(source)


def write(dictionary: Dictionary, target: Path, to: Target) -> str:
    """Save into a new or empty folder; returns what it is there.

    Raises:
        ValueError: the folder is not empty, or the format cannot express the dictionary.
    """
    files.fresh(target)
    if to == "saelens":
        return saelens.write(dictionary, target)
    if to == "dictionary-learning":
        return dictionary_learning_write.write(dictionary, target)
    dictionary.save(target)
    return "one of ours with the same codes"


def _ours(folder: Path) -> Dictionary:
    """``Dictionary.load``, with damage named like that of any other format, and finite weights."""
    path = folder / "dictionary.safetensors"
    held = files.tensors(path)
    for name, found in held.items():
        files.weight(held, name, tuple(found.shape), path)
    try:
        return Dictionary.load(folder)
    except (KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: dictionary.json is damaged ({error!r}); copy it again"
        ) from error
