"""The text behind the spans of the store. The store holds none: it comes from the corpus on this
machine, and only when it is, byte for byte, the text that was measured.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from lib import corpora


class DocumentText(NamedTuple):
    """Text of one document, or why there is none."""

    text: str | None
    reason: str
    """Empty when there is text; else what is missing and the next step, for the reader."""


def document_text(corpus: str, document_id: str, sha256: str | None) -> DocumentText:
    """Text of a document whose hash the store recorded as ``sha256`` (None = not listed there)."""
    if sha256 is None:
        return DocumentText(
            None,
            f"The store does not list document {document_id!r} of {corpus!r}, so its text cannot "
            "be checked. Rerun the experiment with `python -m lib run`.",
        )
    try:
        documents = _documents(corpus)
    except corpora.CorpusError as error:
        return DocumentText(None, f"The text of {corpus!r} is not on this machine. {error}")
    document = documents.get(document_id)
    if document is None:
        return DocumentText(
            None,
            f"Corpus {corpus!r} on this machine has no document {document_id!r}: it has changed "
            "since the measurement. Restore the version that was measured.",
        )
    if corpora.document_sha256(document.text) != sha256:
        return DocumentText(
            None,
            f"Document {document_id!r} of {corpus!r} on this machine is not the text that was "
            "measured (its sha256 differs). Restore the version that was measured.",
        )
    return DocumentText(document.text, "")


def token_texts(text: str, char_ends: Sequence[int], start: int, end: int) -> list[str]:
    """Text of tokens ``start .. end`` of a document; empty where a token ends inside a character.

    ``char_ends[t]`` is the end of token t in ``text``.

    Raises:
        ValueError: the range does not lie in the document.
    """
    if not 0 <= start <= end <= len(char_ends):
        raise ValueError(f"tokens {start}..{end} of a document of {len(char_ends)} tokens")
    starts = [0, *char_ends[:-1]]
    return [text[starts[t] : char_ends[t]] for t in range(start, end)]


@lru_cache(maxsize=16)
def _documents(corpus: str) -> Mapping[str, corpora.Document]:
    """By id. An error is not cached: the text shows up as soon as the corpus is fetched."""
    loaded = corpora.load(corpus, minimum=1, download=False)
    return {document.id: document for document in loaded.documents}
