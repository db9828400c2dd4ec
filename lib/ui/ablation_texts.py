"""The texts of an ablation: held-out documents, pasted lines, an upload; neutral ones; a prompt."""

import json
from typing import NamedTuple

import polars as pl
import streamlit as st

from lib import corpora
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
EXAMPLES = {
    "stoic_notes": (
        "When the day refuses to go as you arranged it, do not quarrel with the day. The cart that "
        "blocks the road was not put there to insult you. Wait, or walk around it, and keep what "
        "is yours, which is",
        "You were praised at noon and forgotten by evening. Which of the two did you any harm?",
    ),
    "moral_letters": (
        "You ask me, my dear Lucan, whether a man may be busy and still belong to himself. I "
        "thought of you this morning while the mason counted his bricks aloud, and it seemed to me "
        "that",
        "I have your letter about the lawsuit. Sit down before you answer it; anger writes a large "
        "hand and leaves no margin.",
    ),
    "dtc_ads": (
        "Meet the lamp that refuses to glare. It leans over your page like a patient friend and "
        "never asks to be paired with your phone. One dial. Warm light. Thirty nights free, and",
        "Your towels are tired. Ours are woven slowly in small batches, so they dry faster, stay "
        "soft longer and",
    ),
    "instructions": (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName three ways to save water in a garden."
        "\n\n### Response:\n1.",
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nExplain why bread rises.\n\n### Response:\n",
    ),
}
"""Ours, in the manner of each corpus and in none of them."""
NEUTRAL = ("The library opens at nine. Visitors can borrow six books and renew them once, unless",)


class Texts(NamedTuple):
    """What documents mode reads."""

    documents: tuple[str, ...]
    neutral: tuple[str, ...]
    prompt_limit: int
    """Tokens of each."""
    problem: str = ""
    """Why there are none, for the reader; empty = there are."""


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


def documents(experiment_id: str) -> Texts:
    """The controls of the document set, for a popover; what they give."""
    source = url_choice("Documents", list(SOURCES), "texts", format_func=SOURCES.get)
    problem, found = "", []
    if source == "heldout":
        count = ablation_address.number(
            "How many", "documents", DOCUMENTS, st.number_input, 1, TEXTS_LIMIT // 2
        )
        corpus = str(cache.experiment(experiment_id)["corpus"])
        found, problem = _heldout(cache.store_id(), experiment_id, corpus, count)
    elif source == "pasted":
        lines = ablation_address.text("One document a line", "lines", "", height=160)
        found = [line for line in lines.splitlines() if line.strip()]
        problem = "" if found else "Paste at least one line, each a document."
    else:
        try:
            found = _uploaded()
        except TextError as wrong:
            problem = str(wrong)
    limit = ablation_address.number(
        "Tokens read of each", "tokens", TOKENS, st.number_input, 8, PROMPT_LIMIT
    )
    harm = ablation_address.number(
        "Neutral texts for the damage", "neutral", _NEUTRAL, st.number_input, 0, _NEUTRAL
    )
    return Texts(tuple(found), neutral()[:harm], limit, problem)


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
        TextError: not UTF-8, too long, a line that is no JSON object with a text, or nothing.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise TextError(
            f"The file is not UTF-8 text ({problem.reason} at {problem.start})."
        ) from None
    if len(text) > UPLOAD:
        raise TextError(f"The file has {len(text):,} characters; up to {UPLOAD:,} are read.")
    lines = [line for line in text.split("\n") if line.strip()]
    if name.endswith(".jsonl"):
        lines = [_text_of(line, number) for number, line in enumerate(lines, 1)]
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise TextError("The file holds no text.")
    return found


def _text_of(line: str, number: int) -> str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise TextError(f"Line {number} of the file is not JSON.") from None
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise TextError(f'Line {number} of the file is no object with a "text".')
    return text


def prompt(experiment_id: str) -> str:
    """The prompt, kept whatever else happens; by default an example in the corpus' manner."""
    examples = (*EXAMPLES.get(str(cache.experiment(experiment_id)["corpus"]), ()), *NEUTRAL)
    return ablation_address.text(
        f"Prompt (at most {PROMPT_LIMIT} tokens)", "prompt", examples[0], height=82
    )


def example(experiment_id: str) -> None:
    """Choosing an example puts it in place of the prompt."""
    examples = (*EXAMPLES.get(str(cache.experiment(experiment_id)["corpus"]), ()), *NEUTRAL)

    def took() -> None:
        if st.session_state["ablation:example"] is not None:
            text = st.session_state["ablation:example"]
            ablation_address.keep_text("prompt", text, examples[0])
            st.session_state["ablation:example"] = None

    st.selectbox(
        "Put an example in place of the prompt",
        examples,
        index=None,
        key="ablation:example",
        on_change=took,
        format_func=lambda text: text.split("### Instruction:\n")[-1][:60] + " ...",
        placeholder="Choose an example",
    )
