"""Texts: read, check, split. Everything in here is untrusted input until it is a ``Document``.

Formats (JSON Lines, UTF-8, one object a line, told apart by their fields):

* ``{"text": ..., "id": ...}``; without an id, the id is a prefix of the text's sha256
* Alpaca: ``{"instruction": ..., "input": ..., "output": ...}``, rendered with Stanford's template
* chat: ``{"messages": [{"role": ..., "content": ...}, ...]}``, rendered with the model's own template
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lib import corpora_public, paths
from lib.corpora_chat import any_document
from lib.corpora_read import CorpusError, Document, Row, document_sha256, render, rows

__all__ = [
    "Corpus",
    "CorpusError",
    "Document",
    "Split",
    "document_sha256",
    "limited",
    "load",
    "render",
    "split",
]

OWN = ("stoic_notes", "moral_letters", "dtc_ads", "instructions", "neutral")
"""The project's corpora, data/corpora/NAME.jsonl."""


@dataclass(frozen=True)
class Corpus:
    """Distinct, non-empty documents in the order of the file."""

    name: str
    documents: tuple[Document, ...]
    sha256: str
    """Of ids and rendered texts: the layout of the file does not count, the content does."""
    notes: tuple[str, ...] = ()
    """What was left out, in words."""


class Split(NamedTuple):
    """Two parts with no text in common."""

    train: list[Document]
    heldout: list[Document]


def load(
    spec: str,
    *,
    root: Path | None = None,
    minimum: int = 2_000,
    download: bool = True,
    tokenizer: Any | None = None,
) -> Corpus:
    """A corpus by registry name (ours, or a public source) or ``path:FILE.jsonl``.

    Documents with a text that an earlier one already has are dropped and mentioned in ``notes``:
    a repeated text would count twice in every mean over documents.

    Args:
        spec: a name of ``OWN`` or ``corpora_public.SOURCES``, or ``path:`` and a file.
        root: folder of our own corpora; default data/corpora.
        minimum: words that the corpus must have, and one document for every hundred of them
            (2,000 words in 20 documents); lower it for a test or a probe.
        download: whether a public source that is not in the cache may be fetched.
        tokenizer: of the model that will read the texts; only chat format needs it.

    Raises:
        CorpusError: unknown name, or a file that cannot be used; says where and what to do.
    """
    name = spec if not spec.startswith("path:") else Path(spec.removeprefix("path:")).stem
    if spec.startswith("path:"):
        file = Path(spec.removeprefix("path:")).expanduser()
        _refuse_borrowed_name(file, name)
        found = rows(file)
    elif spec in OWN:
        file = (root or paths.CORPORA) / f"{spec}.jsonl"
        found = rows(file)
    elif spec in corpora_public.SOURCES:
        file = corpora_public.fetch(spec, download=download)
        found = iter(corpora_public.SOURCES[spec].parse(file))
    elif spec in (own_files := _remembered()):
        file = Path(own_files[spec])
        found = rows(file)
    else:
        here = [name for name, path in own_files.items() if Path(path).is_file()]
        known = ", ".join(dict.fromkeys([*OWN, *corpora_public.SOURCES, *here]))
        raise CorpusError(f"unknown corpus `{spec[:200]}`; known: {known}; or use path:FILE.jsonl")
    documents, notes = _distinct(file, found, tokenizer)
    _check_size(file, documents, minimum)
    return Corpus(name, tuple(documents), _content_sha256(documents), notes)


def limited(corpus: Corpus, words: int) -> Corpus:
    """About ``words`` words of a larger corpus: whole documents drawn by a hash of their ids.

    The draw does not depend on the order of the file; the drawn documents keep it. At least two
    documents stay. A corpus that is small enough, or ``words`` 0, comes back as it is.
    """
    lengths = {d.id: len(d.text.split()) for d in corpus.documents}
    if not words or sum(lengths.values()) <= words:
        return corpus
    drawn: set[str] = set()
    total = 0
    for name in sorted(lengths, key=lambda i: hashlib.sha256(f"limit:{i}".encode()).digest()):
        if len(drawn) >= 2 and total + lengths[name] > words:
            break
        drawn.add(name)
        total += lengths[name]
    kept = tuple(d for d in corpus.documents if d.id in drawn)
    note = f"{len(kept):,} of {len(corpus.documents):,} documents were drawn: {total:,} words"
    return Corpus(corpus.name, kept, _content_sha256(kept), (*corpus.notes, note))


def _content_sha256(documents: Sequence[Document]) -> str:
    lines = (json.dumps(d.content) for d in documents)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def remember(spec: str) -> None:
    """Note where a ``path:`` corpus lies, so that this machine's dashboard can show its text.

    Kept in the user's cache: the store itself never holds text or paths.
    """
    if not spec.startswith("path:"):
        return
    file = Path(spec.removeprefix("path:")).expanduser().resolve()
    known = _remembered() | {file.stem: str(file)}
    target = _remembered_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_suffix(f".{os.getpid()}.tmp")
    building.write_text(json.dumps(known, indent=1), encoding="utf-8")
    building.replace(target)


def _remembered_file() -> Path:
    return paths.cache() / "corpora.json"


def _remembered() -> dict[str, str]:
    file = _remembered_file()
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def split(corpus: Corpus | Sequence[Document], heldout: float = 0.2, seed: int = 0) -> Split:
    """Whole documents into train and held-out, the same for any order of the documents.

    Texts are ranked by a hash of seed and id (the smallest id of documents with equal text, which
    therefore stay together), and the first ``heldout`` of them are held out: at least one, never
    all. Each part keeps the order of the corpus.

    Raises:
        ValueError: ``heldout`` is not between 0 and 1.
        CorpusError: fewer than two distinct texts.
    """
    if not 0 < heldout < 1:
        raise ValueError(f"heldout is a share between 0 and 1, got {heldout}")
    documents = corpus.documents if isinstance(corpus, Corpus) else corpus
    key: dict[str, str] = {}
    for one in documents:
        key[one.text] = min(one.id, key.get(one.text, one.id))
    if len(key) < 2:
        raise CorpusError(f"a split needs two distinct texts, found {len(key)}; use more text")
    ranked = sorted(key, key=lambda t: hashlib.sha256(f"{seed}:{key[t]}".encode()).digest())
    out = set(ranked[: min(max(round(heldout * len(ranked)), 1), len(ranked) - 1)])
    return Split(
        train=[d for d in documents if d.text not in out],
        heldout=[d for d in documents if d.text in out],
    )


def _refuse_borrowed_name(file: Path, name: str) -> None:
    """The store tells corpora apart by name, so another file may not carry one of ours."""
    ours = paths.CORPORA / f"{name}.jsonl"
    if name in OWN and file.resolve() != ours.resolve():
        raise CorpusError(
            f"{file}: `{name}` is the name of a corpus of the project; rename the file, its name "
            "without the ending is what the store calls it"
        )


def _distinct(
    file: Path, found: Iterator[Row], tokenizer: Any | None
) -> tuple[list[Document], tuple[str, ...]]:
    """Documents with different texts, and a note on those that were left out."""
    by_text: dict[str, Document] = {}
    lines: dict[str, int] = {}
    repeated: list[int] = []
    for number, row in found:
        new = any_document(f"{file}, line {number}", row, tokenizer)
        if new.id in lines and "id" in row:
            raise CorpusError(
                f"{file}, line {number}: id {new.id!r} was used on line {lines[new.id]}; "
                "give every document its own id, or none"
            )
        lines[new.id] = number
        if new.text in by_text:
            repeated.append(number)
        else:
            by_text[new.text] = new
    if not repeated:
        return list(by_text.values()), ()
    some = ", ".join(str(n) for n in repeated[:5]) + (", ..." if len(repeated) > 5 else "")
    note = f"{len(repeated)} documents repeat an earlier text and were left out (lines {some})"
    return list(by_text.values()), (note,)


def _check_size(file: Path, documents: list[Document], minimum: int) -> None:
    words = sum(len(d.text.split()) for d in documents)
    needed = max(2, minimum // 100)
    if words < minimum or len(documents) < needed:
        raise CorpusError(
            f"{file}: too small, {len(documents)} distinct documents with {words:,} words; "
            f"at least {needed} documents and {minimum:,} words are needed for a held-out split "
            "that says anything: add text (or lower `recipe: text: minimum_words`)"
        )
