"""Everything that was asked and answered, in append-only JSON Lines; a finished step is never paid
for twice.

One object a line: ``kind``, ``key`` (content hash of the step), ``at`` and the step's own fields. A
line is on disk before the next step begins, so after ``kill -9`` the same command finds every finished
step. A line that was cut off is left where it is and skipped.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lib import paths
from lib.llm.settings import LLMError, Purpose

Record = dict[str, Any]


class Read(NamedTuple):
    records: list[Record]
    damaged: int
    """Lines that are no record: cut off by a crash, or changed by hand."""


def folder(purpose: Purpose) -> Path:
    return paths.work() / "llm" / purpose


def file_of(purpose: Purpose, experiment_id: str) -> Path:
    """Ids become file names by a hash where they hold characters that not every disk takes."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", experiment_id)[:120]
    mark = "" if plain == experiment_id else "-" + _digest(experiment_id)[:8]
    return folder(purpose) / f"{plain}{mark}.jsonl"


def step_key(**parts: Any) -> str:
    """Content hash of everything that a step depends on."""
    return _digest(json.dumps(parts, sort_keys=True, ensure_ascii=False))[:24]


def signature(purpose: Purpose) -> tuple[tuple[str, int, int], ...]:
    """Name, time of change and size of every transcript: equal while nothing was added."""
    states = [(file.name, file.stat()) for file in sorted(folder(purpose).glob("*.jsonl"))]
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


def read(file: Path) -> Read:
    """All records, oldest first; none where there is no file. Needs no lock."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return Read([], 0)
    found: list[Record] = []
    damaged = 0
    for line in data.split(b"\n"):
        if not line:
            continue
        record = _parsed(line)
        if record is None:
            damaged += 1
        else:
            found.append(record)
    return Read(found, damaged)


def busy(file: Path) -> bool:
    """Whether a process is writing to it now."""
    if not file.exists():
        return False
    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Transcript:
    """An open transcript that this process alone may add to; see ``opened``."""

    def __init__(self, handle: BinaryIO, records: list[Record]) -> None:
        self._handle = handle
        self._last = {(one["kind"], one["key"]): one for one in records}

    def get(self, kind: str, key: str) -> Record | None:
        """The latest record of a step; None = it has not been finished."""
        return self._last.get((kind, key))

    def add(self, kind: str, key: str, **fields: Any) -> Record:
        """Append one record; it is on disk when this returns.

        Raises:
            LLMError: the disk is full or the file cannot be written.
        """
        at = datetime.now(UTC).isoformat(timespec="seconds")
        record: Record = {"kind": kind, "key": key, "at": at, **fields}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        try:
            self._handle.write(line + b"\n")
            self._handle.flush()
            os.fsync(self._handle.fileno())
        except OSError as problem:
            raise LLMError(f"{self._handle.name} cannot be written: {problem}") from problem
        self._last[kind, key] = record
        return record


@contextmanager
def opened(file: Path) -> Iterator[Transcript]:
    """A transcript to add to, made if there is none.

    Raises:
        LLMError: another process is adding to it, or it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = file.open("a+b")
    except OSError as problem:
        raise LLMError(f"{file} cannot be written: {problem}") from problem
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LLMError(f"another run is writing {file}; wait for it to end") from None
        size = handle.seek(0, os.SEEK_END)
        if size:
            handle.seek(size - 1)
            if handle.read(1) != b"\n":  # cut off by a crash: the next record gets its own line
                handle.write(b"\n")
                handle.flush()
        yield Transcript(handle, read(file).records)


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:  # not JSON, not UTF-8
        return None
    whole = isinstance(record, dict) and all(
        isinstance(record.get(k), str) for k in ("kind", "key")
    )
    return record if whole else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
