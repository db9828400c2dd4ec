"""Finished results on disk, each with its whole request, so that a restart loses nothing.

One JSON file per result, named by what it depends on: the request, the live bundle, the code.
Files are written beside their place and renamed, so a reader never sees half of one.
"""

import hashlib
import json
import os
import threading
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from lib import paths

FORMAT = 1
LIMIT = 200_000_000
"""Bytes of all results together; past it the oldest go."""
ABANDONED = 3600.0
"""Seconds after which a half-written file is of a process that ended."""
CODE = ("ablation", "activations", "lens", "metrics", "models", "sparse", "sampling.py")
"""Parts of lib that a result may depend on."""
LIBRARIES = ("torch", "transformers", "peft", "nnsight", "tokenizers", "numpy")


class Key(NamedTuple):
    """What a result depends on."""

    request: str
    """AblationRequest.id"""
    stamp: str
    """Of the live bundle."""
    code: str
    """``code_version()``"""

    @property
    def name(self) -> str:
        rest = hashlib.sha256(json.dumps([self.stamp, self.code]).encode()).hexdigest()
        return f"{self.request}-{rest[:16]}"


class Record(NamedTuple):
    """One stored result."""

    key: Key
    request: dict[str, Any]
    result: dict[str, Any]
    """AblationResult.to_json; its request, seeds and hashes are inside."""
    running: float
    """Seconds from the loaded model to the answer."""
    loading: float | None
    """Seconds before that; None = the model was loaded already."""


@cache
def code_version() -> str:
    """Hash of the code and of the libraries' versions that the numbers of a run depend on."""
    digest = hashlib.sha256()
    root = paths.ROOT / "lib"
    for part in CODE:
        for file in (
            sorted((root / part).rglob("*.py")) if (root / part).is_dir() else [root / part]
        ):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    for library in LIBRARIES:
        digest.update(f"{library}={_version(library)};".encode())
    return digest.hexdigest()[:16]


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


class ResultStore:
    """Results of one folder; several dashboards may share it."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.folder = paths.cache() / "ablations" if folder is None else folder
        self._limit = limit
        self._damaged: dict[str, str] = {}

    @property
    def damaged(self) -> tuple[str, ...]:
        """Files that were skipped, each with what is wrong with it and what to do."""
        return tuple(
            f"{file} was skipped: {why}; delete it, or run its request again"
            for file, why in sorted(self._damaged.items())
        )

    def get(self, key: Key) -> Record | None:
        """The result of exactly this request, bundle and code; None when it is not stored."""
        return self._read(self._file(key))

    def newest(self, request: str) -> Record | None:
        """The latest result of a request id, whatever the bundle and the code were."""
        own = [f for f in self._files() if f.stem.rpartition("-")[0] == request]
        return next((r for f in reversed(own) if (r := self._read(f)) is not None), None)

    def recent(self, most: int) -> list[Record]:
        """The latest results, oldest of them first."""
        read = (self._read(file) for file in self._files()[-most:])
        return [record for record in read if record is not None]

    def put(self, record: Record) -> None:
        """Store one result and drop the oldest ones past the limit.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(record.key)
        plain = json.dumps({"format": FORMAT, **record._asdict(), "key": record.key._asdict()})
        body = json.loads(plain)  # what a reader will see, so that both hash the same
        building = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.building")
        try:
            building.write_text(json.dumps({**body, "digest": _digest(body)}), encoding="utf-8")
            building.replace(file)
        finally:
            building.unlink(missing_ok=True)
        self._damaged.pop(str(file), None)
        self._prune(keep=file)

    def _file(self, key: Key) -> Path:
        return self.folder / f"{key.name}.json"

    def _files(self) -> list[Path]:
        """Oldest first."""
        found = ((_written(file), file.name, file) for file in self.folder.glob("[!.]*.json"))
        return [file for _, _, file in sorted(entry for entry in found if entry[0] is not None)]

    def _read(self, file: Path) -> Record | None:
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as problem:
            return self._skip(file, f"it cannot be read ({problem})")
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            return self._skip(file, f"it is no result of format {FORMAT}")
        body = {k: v for k, v in data.items() if k != "digest"}
        if _digest(body) != data.get("digest"):
            return self._skip(file, "its contents are not what was written")
        del body["format"]
        record = Record(**{**body, "key": Key(**body["key"])})
        if self._file(record.key) != file:
            return self._skip(file, f"it holds the result of {record.key.name}")
        return record

    def _skip(self, file: Path, why: str) -> None:
        self._damaged[str(file)] = why

    def _prune(self, keep: Path) -> None:
        sizes = {file: _size(file) for file in self._files()}
        total = sum(sizes.values())
        for file, size in sizes.items():
            if total <= self._limit:
                break
            if file != keep:
                file.unlink(missing_ok=True)
                total -= size
        for file in self.folder.glob(".*.building"):
            written = _written(file)
            if written is not None and time.time() - written > ABANDONED:
                file.unlink(missing_ok=True)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _written(file: Path) -> float | None:
    """Modification time; None when another process has just removed the file."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
