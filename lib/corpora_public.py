"""Public texts of the published experiments: fetched on request, pinned by sha256.

They are never committed. An entry has a hash only where the sha256 of the raw upstream file is
known; the others say where the text is from and are used with ``path:``.

Part of the stage ``corpora`` (lib/corpora.py is its face).
"""

import hashlib
import json
import re
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from lib import paths
from lib.corpora_read import CorpusError, Row


def alpaca_rows(file: Path) -> list[Row]:
    """Items of alpaca_data.json. A few of the 52,002 have an empty output; they are left out."""
    items = json.loads(file.read_text(encoding="utf-8"))
    return [
        (n, {"id": f"alpaca-{n:05d}", **item})
        for n, item in enumerate(items)
        if item["output"].strip()
    ]


def wikitext_rows(file: Path) -> list[Row]:
    """Paragraphs of at least 30 words of the test part of WikiText-2 (raw), lightly detokenised."""
    with zipfile.ZipFile(file) as archive:
        text = archive.read("wikitext-2-raw/wiki.test.raw").decode("utf-8")
    return [
        (n, {"id": f"wikitext2-test-{n:05d}", "text": _detokenised(line)})
        for n, line in enumerate(text.split("\n"), start=1)
        if len(line.split()) >= 30 and not line.strip().startswith("=")
    ]


def _detokenised(line: str) -> str:
    """`1 @,@ 000 , he said` -> `1,000, he said`: WikiText's own marks and spaces undone."""
    line = re.sub(r" @([-,.])@ ", r"\1", line.strip())
    line = re.sub(r" ([,.;:!?%)\]])", r"\1", line)
    line = re.sub(r"([(\[$£]) ", r"\1", line)
    line = re.sub(r'" ([^"]*) "', r'"\1"', line)
    return re.sub(r" ('(?:s|t|re|ve|ll|d|m))\b", r"\1", line)


@dataclass(frozen=True)
class PublicSource:
    """Where a text can be had, under which licence, and how its raw file is read."""

    title: str
    licence: str
    where: str
    url: str | None = None
    """Address of the raw file at a fixed revision; None: only ``path:`` works."""
    sha256: str | None = None
    """Of the raw file; None where it is not known (then ``url`` is None too)."""
    parse: Callable[[Path], list[Row]] = alpaca_rows


SOURCES: dict[str, PublicSource] = {
    "meditations": PublicSource(
        title="Marcus Aurelius, Meditations (translated by George Long, 1862)",
        licence="public domain",
        where="standardebooks.org/ebooks/marcus-aurelius/meditations/george-long "
        "or Project Gutenberg ebook 15877",
    ),
    "seneca_letters": PublicSource(
        title="Seneca, Moral Letters to Lucilius (translated by R. M. Gummere, 1917-1925)",
        licence="public domain in the USA; not before 2040 in life+70 countries",
        where="en.wikisource.org/wiki/Moral_letters_to_Lucilius",
    ),
    "alpaca": PublicSource(
        title="Stanford Alpaca, 52K instructions (Taori et al. 2023)",
        licence="CC BY-NC 4.0 (non-commercial)",
        where="github.com/tatsu-lab/stanford_alpaca",
        url="https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/"
        "761dc5bfbdeeffa89b8bff5d038781a4055f796a/alpaca_data.json",
        sha256="2eddafc6b977608d778aaab8dfc7e50e547b3af9826dfb9e909d9fc362e4a419",
        parse=alpaca_rows,
    ),
    "wikitext": PublicSource(
        title="WikiText-2 raw, test part (Merity et al. 2016)",
        licence="CC BY-SA 3.0 and GFDL",
        where="huggingface.co/datasets/ggml-org/ci (a copy of the original archive)",
        url="https://huggingface.co/datasets/ggml-org/ci/resolve/"
        "927b3642933080f1b0e811e2f916e14c292992f9/wikitext-2-raw-v1.zip",
        sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        parse=wikitext_rows,
    ),
}
"""The texts of the published experiments. Hashes: the values that independent projects pin."""


def fetch(name: str, *, download: bool = True) -> Path:
    """The raw file of a source, from the cache or from its address; its sha256 is always checked.

    Raises:
        CorpusError: no address is known, the file is not here and may not be fetched, it cannot be
            fetched, or its sha256 is another one (the file is then not kept).
    """
    source = SOURCES[name]
    if source.url is None or source.sha256 is None:
        raise CorpusError(
            f"`{name}` ({source.title}; {source.licence}) has no raw file with a known sha256; "
            f"get it from {source.where} and bring your own file with path:FILE.jsonl "
            '(one {"text": ...} a line, one paragraph each)'
        )
    file = paths.cache() / "corpora" / f"{name}-{source.url.rsplit('/', 1)[-1]}"
    if not file.exists():
        if not download:
            raise CorpusError(
                f"`{name}` is not on this machine ({file}); `python -m lib run` fetches it "
                f"when an experiments file names it, from {source.url}"
            )
        _download(source.url, source.sha256, file)
    _check(file, source.sha256, f"delete {file} to fetch it again")
    return file


def _download(url: str, sha256: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        part = Path(folder) / file.name
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, part.open("wb") as out:
                shutil.copyfileobj(answer, out)
        except (OSError, HTTPException) as error:
            raise CorpusError(
                f"{url}: cannot be fetched ({error}); fetch it elsewhere and put it at {file}"
            ) from None
        _check(part, sha256, "the source has changed; use path:FILE.jsonl with a copy you trust")
        part.replace(file)


def _check(file: Path, expected: str, remedy: str) -> None:
    with file.open("rb") as raw:
        found = hashlib.file_digest(raw, "sha256").hexdigest()
    if found != expected:
        raise CorpusError(f"{file.name}: sha256 is {found}, expected {expected}; {remedy}")
