"""Names, hashes and range checks that recipes and files share."""

import hashlib
import json
from dataclasses import asdict, is_dataclass
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


def positive(owner: Any, *names: str) -> None:
    for name in names:
        check(getattr(owner, name) > 0, name, getattr(owner, name), "above 0")


def check(ok: bool, name: str, value: Any, rule: str) -> None:
    if not ok:
        raise ConfigError(f"`{name}` must be {rule}, got {value!r}")
