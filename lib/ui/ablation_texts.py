"""The texts of an ablation: held-out documents, lines, a file, a stored run's; neutral ones."""

import json
from typing import NamedTuple

import polars as pl
import streamlit as st

from lib import corpora
from lib.ablation.fields import half_pair
from lib.ablation.limits import PROMPT_LIMIT, TEXTS_LIMIT
from lib.store import tokens as token_store
from lib.store.text import document_text
from lib.ui import ablation_address, cache
from lib.ui.frame import url_choice

SOURCES = {"heldout": "held-out documents", "pasted": "pasted lines", "upload": "a file"}
DOCUMENTS, TOKENS = 8, 96
"""Together seconds to a minute on two cores with all controls."""
UPLOAD = 2_000_000
"""Characters of a file that are read."""
_NEUTRAL = 6
STORED = "stored"
_KEPT = "ablation:texts:stored"


class Texts(NamedTuple):
    """What documents mode reads."""

    documents: tuple[str, ...]
    neutral: tuple[str, ...]
    prompt_limit: int
    """Tokens of each."""
    problem: str = ""
    """Why there are none, for the reader; empty = there are."""


class Kept(NamedTuple):
    """Texts of a stored run that was opened."""

    run: str
    documents: tuple[str, ...]
    neutral: tuple[str, ...]


class TextError(ValueError):
    """A file or lines that give no documents; the message says what is wrong."""


@st.cache_data(max_entries=16, show_spinner=False)
def _heldout(store_id: str, experiment_id: str, corpus: str, most: int) -> tuple[list[str], str]:
    """The first documents by name with the text that was measured; or why there is none."""
    store = cache.store()
    listed = token_store.documents(store, experiment_id, corpus)
    names = listed.filter(pl.col("n_tokens") > 1)["document_id"].sort().to_list()
    found, reason = [], "The store keeps no held-out document of this experiment."
    for name in names:
        if len(found) == most:
            break
        row = token_store.document(store, experiment_id, corpus, name)
        text = document_text(corpus, name, row["sha256"][0])
        if text.text is None:
            reason = text.reason
        elif text.text.strip():
            found.append(text.text)
    return found, "" if found else reason


@st.cache_data(max_entries=1, show_spinner=False)
def neutral() -> tuple[str, ...]:
    """A few texts of none of the corpora, ours: where the damage is measured."""
    return tuple(one.text for one in corpora.load("neutral").documents[:_NEUTRAL])


def heldout(experiment_id: str, most: int) -> tuple[list[str], str]:
    """Up to so many of the held-out documents; or why there is none."""
    corpus = str(cache.experiment(experiment_id)["corpus"])
    return _heldout(cache.store_id(), experiment_id, corpus, most)


def keep(kept: Kept) -> None:
    """Offer the texts of a stored run in this session, as ``texts=stored`` in the address."""
    st.session_state[_KEPT] = kept


def documents(experiment_id: str, *, neutral_too: bool = True) -> Texts:
    """The controls of the document set, for a popover; what they give."""
    kept: Kept | None = st.session_state.get(_KEPT)
    options = {**SOURCES, **({STORED: f"those of run {kept.run}"} if kept else {})}
    source = url_choice("Documents", list(options), "texts", format_func=options.get)
    found, problem = _from(source, experiment_id, kept)
    limit = ablation_address.number(
        "Tokens read of each", "tokens", TOKENS, st.number_input, 8, PROMPT_LIMIT
    )
    known = kept.neutral if kept and source == STORED and kept.neutral else neutral()
    harm = known[: neutral_count(_NEUTRAL)] if neutral_too else ()
    return Texts(tuple(found), harm, limit, problem)


def neutral_count(default: int) -> int:
    """How many neutral texts the damage is measured on, for a popover."""
    return ablation_address.number(
        "Neutral texts for the damage", "neutral", default, st.number_input, 0, _NEUTRAL,
        help="How much worse the edits make the prediction of unrelated text; 0 = not measured",
    )  # fmt: skip


def _from(source: str, experiment_id: str, kept: Kept | None) -> tuple[list[str], str]:
    """The documents of a source; or why there is none."""
    problem, found = "", []
    if source == STORED and kept is not None:
        return list(kept.documents), ""
    if source == "heldout":
        count = ablation_address.number(
            "How many", "documents", DOCUMENTS, st.number_input, 1, TEXTS_LIMIT // 2
        )
        found, problem = heldout(experiment_id, count)
    elif source == "pasted":
        lines = ablation_address.text("One document a line", "lines", "", height=160)
        found = [line for line in lines.splitlines() if line.strip()]
        problem = "" if found else "Paste at least one line, each a document."
    else:
        try:
            found = _uploaded()
        except TextError as wrong:
            problem = str(wrong)
    return found, problem


def _uploaded() -> list[str]:
    """The file of this session; it stays when another source is looked at meanwhile."""
    file = st.file_uploader("A .txt (one document a line) or .jsonl file", type=["txt", "jsonl"])
    if file is not None:
        st.session_state["ablation:upload"] = read_file(file.name, file.getvalue())
    st.caption("An uploaded file is not part of a link; the stored run holds its texts.")
    found: list[str] = st.session_state.get("ablation:upload", [])
    if not found:
        raise TextError("Choose a file with at least one document.")
    return found


def read_file(name: str, content: bytes) -> list[str]:
    """Documents of an upload.

    Raises:
        TextError: not UTF-8, too long, a line that is no JSON object with a text that can be read,
            or nothing; names the line of the file.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise TextError(f"Line {line} of the file is not UTF-8 text ({problem.reason}).") from None
    if len(text) > UPLOAD:
        raise TextError(f"The file has {len(text):,} characters; up to {UPLOAD:,} are read.")
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    read = _text_of if name.endswith(".jsonl") else lambda line, number: line
    found = [known for n, line in lines if (known := read(line, n).strip())]
    if not found:
        raise TextError("The file holds no text.")
    return found


def _text_of(line: str, number: int) -> str:
    where = f"Line {number} of the file"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise TextError(f"{where} is not JSON.") from None
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise TextError(f'{where} is no object with a "text".')
    half = half_pair(text)
    if half is not None:
        raise TextError(
            f"{where}: `text` holds half of a surrogate pair (U+{ord(text[half]):04X}, character "
            f"{half + 1}); write the character."
        )
    return text
