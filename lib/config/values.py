"""Names, hashes and range checks that recipes and files share."""

import hashlib
import json
import math
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """A configuration that cannot be used; names the file, the key and the nearest valid one."""


def content_id(value: Any) -> str:
    """sha256 prefix of a dataclass or JSON value: equal content, equal id."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def corpus_name(spec: str) -> str:
    """Name of a corpus in the store: a registry name, or the stem of a ``path:`` file."""
    return Path(spec.removeprefix("path:")).stem if spec.startswith("path:") else spec


class OutOfRange(ConfigError):
    """A value outside its range; knows its field, so that a file can name the whole path."""

    def __init__(self, name: str, value: Any, rule: str) -> None:
        super().__init__(f"`{name}` must be {rule}, got {value!r}")
        self.name, self.value, self.rule = name, value, rule

    def below(self, path: str) -> "OutOfRange":
        """The same of a field under ``path``, which is empty or ends with a point."""
        return OutOfRange(f"{path}{self.name}", self.value, self.rule)


EXACT = 2**53
"""Beyond it a float skips integers."""


def positive(owner: Any, *names: str) -> None:
    for name in names:
        check(getattr(owner, name) > 0, name, getattr(owner, name), "above 0")


def finite(owner: Any) -> None:
    """No number of a dataclass, nor of its tuples, is NaN, infinite (comparisons pass those on) or too
    large to be counted with."""
    for field in fields(owner):
        value = getattr(owner, field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        ok = all(math.isfinite(v) for v in numbers if isinstance(v, float))
        check(ok, field.name, value, "finite")
        ok = all(abs(v) < EXACT for v in numbers if isinstance(v, int))
        check(ok, field.name, value, "below 2^53")


def named(owner: Any, *names: str) -> None:
    """Tuples of names: no empty one, and none twice."""
    for name in names:
        values = getattr(owner, name)
        ok = all(value.strip() for value in values) and len(set(values)) == len(values)
        check(ok, name, list(values), "distinct names, none of them empty")


def check(ok: bool, name: str, value: Any, rule: str) -> None:
    if not ok:
        raise OutOfRange(name, value, rule)
