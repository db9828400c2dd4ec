"""One document from one line: JSON Lines read, checked and rendered, with errors that help.

Part of the stage ``corpora`` (lib/corpora.py is its face).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = tuple[int, Any]
"""Number of the line (or item) in its file, and the object there."""

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
"""Stanford Alpaca's prompts, as in the `text` field of tatsu-lab/alpaca (Taori et al. 2023)."""
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


class CorpusError(ValueError):
    """A corpus that cannot be used; names the file, the place, what was found and the remedy."""


@dataclass(frozen=True)
class Document:
    """One text as the model reads it."""

    id: str
    text: str
    response_start: int | None = None
    """Character of ``text`` where the response begins (Alpaca format), else None."""
    responses: tuple[tuple[int, int], ...] = ()
    """Characters of ``text`` from and up to which the assistant speaks (chat format), else empty."""

    @property
    def content(self) -> list[Any]:
        """What a corpus is told apart by."""
        chat = [self.responses] if self.responses else []
        return [self.id, self.text, self.response_start, *chat]

    def in_response(self, begin: int) -> bool | None:
        """Whether a token whose text begins at this character belongs to a response; None where the
        document has no parts."""
        if self.responses:
            return any(start <= begin < end for start, end in self.responses)
        return None if self.response_start is None else begin >= self.response_start


def document_sha256(text: str) -> str:
    """Hex sha256 of the rendered text in UTF-8: what the store keeps instead of the text."""
    return hashlib.sha256(text.encode()).hexdigest()


def render(instruction: str, context: str, output: str) -> tuple[str, int]:
    """Alpaca prompt and answer as one text, and the character where the answer begins."""
    template = WITH_INPUT if context else WITHOUT_INPUT
    prompt = template.format(instruction=instruction, input=context)
    return prompt + output, len(prompt)


def rows(file: Path) -> Iterator[Row]:
    """(line number, object) of every non-blank line."""
    try:
        there = file.is_file()
    except OSError as error:  # a name too long for any disk
        raise CorpusError(f"{str(file)[:200]}: {error.strerror}; give path:FILE.jsonl") from None
    if not there:
        found = "a folder" if file.is_dir() else "no such file"
        raise CorpusError(f"{file}: {found}; give path:FILE.jsonl with one JSON object a line")
    raw = file.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{file}, line {line}: not UTF-8 (byte 0x{raw[error.start]:02x}); convert the file, "
            "for example `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`"
        ) from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _object(file, number, line)


def _object(file: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{file}, line {number}: not JSON ({error}): {line.strip()[:60]!r}; "
            "write one complete JSON object on each line"
        ) from None


def to_document(where: str, row: object) -> Document:
    """A document from plain text or Alpaca's fields.

    Raises:
        CorpusError: not an object, no usable field, or a field that holds no text.
    """
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected a JSON object, found {type(row).__name__}")
    start = None
    if "text" in row:
        text = string_of(where, row, "text")
    elif "instruction" in row and "output" in row:
        parts = [string_of(where, row, key) for key in ("instruction", "output")]
        text, start = render(parts[0], string_of(where, {"input": "", **row}, "input"), parts[1])
    else:
        raise CorpusError(
            f"{where}: no usable field among {sorted(row)[:8]}; each line needs `text`, "
            "or `instruction` and `output`, or `messages`"
        )
    default = document_sha256(text)[:12]
    return Document(id=identity(where, row, default), text=text, response_start=start)


def string_of(where: str, row: dict[str, Any], key: str) -> str:
    """The text of a field; only ``input`` may be empty."""
    value = row[key]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: `{key}` must be a string, found {type(value).__name__}")
    if not value.strip() and key != "input":
        raise CorpusError(f"{where}: `{key}` is empty; delete the line or fill it in")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise CorpusError(f"{where}: `{key}` holds half of a surrogate pair; write the character")
    return value


def identity(where: str, row: dict[str, Any], default: str) -> str:
    """The row's own id, or the default where it has none."""
    if "id" not in row:
        return default
    value = row["id"]
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise CorpusError(f"{where}: `id` must be a non-empty string or a whole number, or absent")
    return string_of(where, {"id": str(value)}, "id")
