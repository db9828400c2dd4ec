"""The one mechanism behind every stage: a folder named by its content, sealed by its manifest.

A stage's folder is ``work/<stage>/<key>``, where the key hashes everything that can change its
result: the recipe parts it reads, the keys of the stages before it, and ``RECIPE_VERSION`` of its
code. ``manifest.json`` is written last and atomically, so a killed stage never looks finished.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import paths
from lib.config import content_id

RECIPE_VERSION = {
    "sampled": 1,
    "finetune": 1,
    "activations": 1,
    "sparse": 2,
    "nulls": 2,
    "metrics": 4,
    "causal": 1,
    "lens": 1,
    "sweep": 2,
    "geometry": 2,
    "weights": 1,
}
"""Raised by hand whenever a stage's code changes its numbers: old results are then made again."""


class StageDue(Exception):
    """A stage that is not done, met while only looking."""


_looking: ContextVar[list[str] | None] = ContextVar("looking", default=None)


@contextmanager
def only_looking() -> Iterator[list[str]]:
    """No stage does anything in here: the done ones go into the list, another raises ``StageDue``."""
    token = _looking.set(found := [])
    try:
        yield found
    finally:
        _looking.reset(token)


@dataclass(frozen=True)
class Stage:
    """One stage's folder and what it was made from."""

    name: str
    inputs: dict[str, Any]

    @property
    def key(self) -> str:
        return content_id({"stage": self.name, "version": RECIPE_VERSION[self.name], **self.inputs})

    @property
    def directory(self) -> Path:
        return paths.work() / self.name / self.key

    @property
    def done(self) -> bool:
        return (self.directory / "manifest.json").exists()

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.directory / "manifest.json").read_text(encoding="utf-8"))

    def run(self, work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Do the work unless it is done; ``work`` gets the folder and returns the manifest's facts.

        Whatever a killed run left in the folder is passed on to ``work``, which may use it (finished
        parts seal themselves) or overwrite it.

        Raises:
            StageDue: the work is not done, inside of ``only_looking``.
        """
        seen = _looking.get()
        if seen is not None:
            if not self.done:
                raise StageDue(self.name)
            seen.append(self.name)
        if not self.done:
            self.directory.mkdir(parents=True, exist_ok=True)
            started = time.perf_counter()
            facts = work(self.directory)
            facts |= {"inputs": self.inputs, "seconds": round(time.perf_counter() - started, 2)}
            write_json(self.directory / "manifest.json", facts)
        return self.manifest()


def write_json(path: Path, value: Any) -> None:
    """Atomically: readers see the old file or the new one, never half of it."""
    building = path.with_suffix(f".{os.getpid()}.tmp")
    building.write_text(json.dumps(value, indent=1, default=str), encoding="utf-8")
    building.replace(path)
