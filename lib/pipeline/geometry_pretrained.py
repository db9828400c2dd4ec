"""A dictionary of another program in place of the base dictionaries of the geometry stage."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from lib.config import ConfigError, Geometry
from lib.geometry.deltas import Place
from lib.models import LoadedModel
from lib.sparse import Dictionary
from lib.sparse.dictionary import PARTS
from lib.sparse.formats import read
from lib.sparse.formats.places import Said, said

_KEY = "recipe.geometry.pretrained"


class Outside(NamedTuple):
    """A dictionary from a path and the one place of the model that it belongs to."""

    dictionary: Dictionary
    place: Place
    name: str
    """The end of its path: as much as tells dictionaries of one release apart."""

    @property
    def inputs(self) -> dict[str, Any]:
        """For the stage's key: what the dictionary computes, not where its file lies."""
        where = f"{self.place.hook}.{self.place.layer}"
        return {"pretrained": [self.digest, self.dictionary.k, where]}

    @property
    def digest(self) -> str:
        """Hash of its weights and of how it selects latents, 16 digits."""
        digest = hashlib.sha256(self.dictionary.selection.encode())
        for name in PARTS:
            digest.update(np.ascontiguousarray(getattr(self.dictionary, name).numpy()).data)
        return digest.hexdigest()[:16]


def outside(recipe: Geometry, loaded: LoadedModel) -> Outside | None:
    """The dictionary that the recipe names; None where it names none.

    Raises:
        ConfigError: nothing readable there, a dictionary of two sides or of another width, a place
            that is not known, not in this model, or not among ``hooks``.
    """
    if not recipe.pretrained:
        return None
    source = Path(recipe.pretrained).expanduser()
    try:
        found, known = read(source), said(source)
    except ValueError as problem:
        raise ConfigError(f"`{_KEY}`: {problem}") from None
    except OSError as problem:
        raise ConfigError(
            f"`{_KEY}`: {recipe.pretrained[:200]} cannot be read ({problem.strerror}); give a "
            "dictionary's folder or file"
        ) from None
    if (found.sides, found.d) != (1, loaded.d):
        raise ConfigError(
            f"`{_KEY}`: {source} has {found.sides} side{'s' * (found.sides > 1)} of width {found.d}, "
            f"{loaded.name} activations of width {loaded.d}; give an SAE of this very model"
        )
    place = _place(recipe, known, source)
    if place.layer >= loaded.n_layers:
        raise ConfigError(
            f"`{_KEY}`: {source} belongs to layer {place.layer}, {loaded.name} has layers "
            f"0..{loaded.n_layers - 1}; give an SAE of this very model"
        )
    return Outside(found, place, "/".join(source.resolve().parts[1:][-3:]))


def _place(recipe: Geometry, known: Said, source: Path) -> Place:
    """From the files, completed by ``pretrained_place`` and by a single entry of ``hooks``."""
    hook, layer = known
    if recipe.pretrained_place:
        named, _, number = recipe.pretrained_place.partition(".")
        if hook not in (None, named) or layer not in (None, int(number)):
            raise ConfigError(
                f"`{_KEY}_place` is {recipe.pretrained_place}, but {source} says hook "
                f"{hook or 'unknown'}, layer {'unknown' if layer is None else layer}; leave the key "
                "out"
            )
        hook, layer = named, int(number)
    if hook is None and len(recipe.hooks) == 1:
        hook = recipe.hooks[0]
    if hook is None or layer is None:
        missing = " and ".join(
            name for name, value in (("hook", hook), ("layer", layer)) if value is None
        )
        raise ConfigError(
            f"`{_KEY}`: {source} does not say its {missing}; add `pretrained_place: residual.N` or "
            "`mlp.N`, N = the block (first block 0)"
        )
    if hook not in recipe.hooks or hook not in get_args(Place.__annotations__["hook"]):
        raise ConfigError(
            f"`{_KEY}`: {source} belongs to hook {hook}, `hooks` has {', '.join(recipe.hooks)}; add it"
        )
    return Place(hook, layer)
