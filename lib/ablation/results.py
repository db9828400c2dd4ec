"""Finished results on disk, each with its whole request, so that a restart loses nothing.

One file per result, named by what it depends on: the request, the live bundle, the code. Three
lines: the sha256 of the other two, what the result is (JSON), the result (JSON). A file is written
beside its place and renamed, so a reader never sees half of one; half of one that a crash of the
machine leaves does not match its sha256 and is skipped with a note.
"""

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from lib import paths

LIMIT = 200_000_000
"""Bytes of all results together; past it the oldest go."""
ABANDONED = 3600.0
"""Seconds after which a half-written file is of a process that ended."""
SUFFIX = ".result"


class Key(NamedTuple):
    """What a result depends on."""

    kind: str
    """One of ``kinds.KINDS``."""
    request: str
    """The request's ``id``."""
    bundle: str
    """``versions.bundle_hash``"""
    code: str
    """``versions.code_version``"""
    place: str = "cpu/fp32"
    """``places.kind``: another device or precision gives other numbers."""

    @property
    def name(self) -> str:
        rest = hashlib.sha256(json.dumps([self.kind, self.bundle, self.code, self.place]).encode())
        return f"{self.request}-{rest.hexdigest()[:16]}"


class About(NamedTuple):
    """What a stored result is, without the result."""

    key: Key
    experiment_id: str
    request: dict[str, Any]
    """As JSON: the whole question, seeds included."""
    made: dict[str, Any]
    """``versions.made_by``: hashes of bundle, adapter and base weights, versions, device."""
    running: float
    """Seconds from the loaded model to the answer."""
    loading: float | None
    """Seconds before that; None = the model was loaded already."""
    at: float
    """When it was finished, in seconds since 1970 UTC."""


class Record(NamedTuple):
    """One stored result."""

    about: About
    result: dict[str, Any]
    """As JSON."""


class ResultStore:
    """Results of one folder; several dashboards may share it."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.folder = paths.work() / "ablations" if folder is None else folder
        self._limit = limit
        self._damaged: dict[str, str] = {}

    @property
    def damaged(self) -> tuple[str, ...]:
        """Files that were skipped, each with what is wrong with it and what to do."""
        return tuple(note for _, note in sorted(self._damaged.items()))

    def damage(self, key: Key) -> str:
        """Why the file of this result was skipped when it was last read; empty = it was not."""
        return self._damaged.get(str(self._file(key)), "")

    def get(self, key: Key) -> Record | None:
        """The result of exactly this request, bundle, code and place; None = it is not stored."""
        return self._read(self._file(key))

    def has(self, key: Key) -> bool:
        """Whether a file is there for it, sound or not."""
        return self._file(key).exists()

    def newest(self, request: str) -> Record | None:
        """The latest result of a request id, whatever the bundle and the code were."""
        own = [f for f in self._files() if f.stem.rpartition("-")[0] == request]
        return next((r for f in reversed(own) if (r := self._read(f)) is not None), None)

    def recent(self, most: int) -> list[About]:
        """What the latest results are, oldest of them first."""
        parts = (self._lines(file) for file in self._files()[-most:] if most)
        return [_about(part[0]) for part in parts if part is not None]

    def put(self, record: Record) -> None:
        """Store one result and drop the oldest ones past the limit.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {**record.about._asdict(), "key": record.about.key._asdict()}
        body = f"{json.dumps(about)}\n{json.dumps(record.result)}\n".encode()
        file = self._file(record.about.key)
        building = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.building")
        try:
            with building.open("wb") as stream:
                stream.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                stream.flush()
                os.fsync(stream.fileno())
            building.replace(file)
        finally:
            building.unlink(missing_ok=True)
        self._damaged.pop(str(file), None)
        self._prune(keep=file)

    def _file(self, key: Key) -> Path:
        return self.folder / f"{key.name}{SUFFIX}"

    def _files(self) -> list[Path]:
        """Oldest first."""
        found = ((_written(file), file.name, file) for file in self.folder.glob(f"[!.]*{SUFFIX}"))
        return [file for _, _, file in sorted(entry for entry in found if entry[0] is not None)]

    def _read(self, file: Path) -> Record | None:
        lines = self._lines(file)
        return None if lines is None else Record(_about(lines[0]), json.loads(lines[1]))

    def _lines(self, file: Path) -> tuple[bytes, bytes] | None:
        """What the result is and the result, both as they were written."""
        try:
            digest, _, body = file.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as problem:
            return self._skip(file, f"it cannot be read ({problem})")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return self._skip(file, "it is torn or changed: its contents are not what was written")
        about, _, result = body.partition(b"\n")
        try:
            name = _about(about).key.name
        except (KeyError, TypeError):
            return self._skip(file, "it was written by another version of this program")
        if file.stem != name:
            return self._skip(file, f"it holds the result of {name}")
        return about, result

    def _skip(self, file: Path, why: str) -> None:
        self._damaged[str(file)] = f"{file} was ignored: {why}; run its request again, or delete it"

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


def _about(line: bytes) -> About:
    data = json.loads(line)
    return About(**{**data, "key": Key(**data["key"])})


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
