"""Reads an experiments file: whatever is wrong in it is named with its path, and what is valid."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from lib.config.experiment import Experiment, Keep
from lib.config.recipe import Recipe
from lib.config.values import ConfigError, OutOfRange, check, corpus_name, named


@dataclass(frozen=True, kw_only=True)
class _File:
    """The keys of an experiments file."""

    models: tuple[str, ...]
    corpora: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    adapter: str | None = None
    nulls: int = 0
    """Draws of each null control: a second seed of the base dictionary, and a random adapter."""
    keep: Keep = "full"
    """full | tables (no live bundle) | summary (no single latents either)."""
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        check(0 <= self.nulls <= 1000, "nulls", self.nulls, "in 0..1000")
        for name in ("models", "corpora", "seeds"):
            check(len(getattr(self, name)) > 0, name, [], "a list with at least one entry")
        named(self, "models", "corpora")
        given = self.adapter is None or bool(self.adapter.strip())
        check(given, "adapter", self.adapter, "a folder; leave the key out to train one")
        check(all(0 <= s < 2**32 for s in self.seeds), "seeds", self.seeds, "each in 0..2^32-1")
        known = [corpus_name(corpus) for corpus in self.corpora]
        rule = f"names of corpora of this file, which are {', '.join(known)}"
        for study in ("sweep", "geometry"):
            some = getattr(self.recipe, study).corpora
            check(set(some) <= set(known), f"recipe.{study}.corpora", list(some), rule)


_MERGE = "tag:yaml.org,2002:merge"


class _OneOfEach(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # `<<` may stand twice, and keys that it brings may be overruled.
        own = [key for key, _ in node.value if key.tag != _MERGE]
        keys = [self.construct_object(key, deep=True) for key in own]
        for key, where in zip(keys, own, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", where.start_mark
                )
        return super().construct_mapping(node, deep)


def load(path: Path) -> list[Experiment]:
    """Read an experiments file.

    Raises:
        ConfigError: not YAML, an unknown key (the nearest valid one is named), a wrong type or value.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_OneOfEach)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; data/experiments/ has examples") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder; name one experiments file in it") from None
    except RecursionError:
        raise ConfigError(
            f"{path}: lists or keys within each other, deeper than any experiments file needs; "
            "data/experiments/ has examples"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number out of bounds
        raise ConfigError(f"{path}: not a YAML text file: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys such as `models:` and `corpora:`, found {raw!r}")
    try:
        file = _build(_File, raw, "")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if file.adapter and (len(file.models), len(file.corpora), len(file.seeds)) != (1, 1, 1):
        raise ConfigError(f"{path}: `adapter` goes with exactly one model, one corpus and one seed")
    found = [
        Experiment(
            model=m,
            corpus=c,
            seed=s,
            adapter=file.adapter,
            recipe=file.recipe,
            nulls=file.nulls,
            keep=file.keep,
        )
        for m in file.models
        for c in file.corpora
        for s in file.seeds
    ]
    ids = [experiment.id for experiment in found]
    for twice in {i for i in ids if ids.count(i) > 1}:
        raise ConfigError(
            f"{path}: two of its experiments would both be called `{twice}`; rename one of the "
            "corpus files, or remove the repeated entry"
        )
    return found


def _build(kind: type, raw: Any, where: str) -> Any:
    """A dataclass from plain YAML values, with every key and type checked."""
    if not isinstance(raw, dict):
        raise ConfigError(f"`{where.rstrip('.')}` must hold keys, found {raw!r}")
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind)}
    for key in raw:
        if key not in names:
            raise ConfigError(f"unknown key `{where}{key}`; {_instead(kind, str(key), where)}")
    values = {k: _value(hints[k], v, f"{where}{k}") for k, v in raw.items()}
    try:
        return kind(**values)
    except OutOfRange as wrong:
        raise wrong.below(where) from None
    except TypeError as error:
        raise ConfigError(f"{str(error).split('() ')[-1]} (in `{where or 'the file'}`)") from None


def _instead(kind: type, key: str, where: str) -> str:
    """What an unknown key was meant to be: one of that name further in, the nearest here, or any."""
    deeper = [path for path in _keys(kind, where) if path.rpartition(".")[2] == key]
    if deeper:
        return f"that is `{'` or `'.join(deeper)}`"
    names = [f.name for f in fields(kind)]
    near = difflib.get_close_matches(key, names, n=1)
    if near:
        return f"the nearest valid one is `{near[0]}`"
    return f"valid are {', '.join(names)}"


def _keys(kind: type, where: str) -> Iterator[str]:
    """Every key under ``where`` with its path."""
    for name, hint in get_type_hints(kind).items():
        yield f"{where}{name}"
        if is_dataclass(hint):
            yield from _keys(hint, f"{where}{name}.")


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    origin = getattr(hint, "__origin__", None)
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        return tuple(_value(hint.__args__[0], item, where) for item in items)
    if origin is Literal:
        if value not in hint.__args__:
            raise ConfigError(f"`{where}` must be one of {', '.join(hint.__args__)}, got {value!r}")
        return value
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _number(value, where)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"`{where}` must be {getattr(hint, '__name__', hint)}, got {value!r}")
    return value


def _number(value: float | int | str, where: str) -> float:
    """YAML reads 1e-3 as a string, and a whole number may be too large for any float."""
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise ConfigError(f"`{where}` must be a number, got {str(value)[:60]!r}") from None
