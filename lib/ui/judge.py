"""The LLM judge on the Lens page: what is stored, and the command that makes the rest."""

from typing import Any

import polars as pl
import streamlit as st

from lib.llm import judge_runs, transcripts
from lib.llm.judge_runs import PARTS, Stored
from lib.llm.transcripts import Record
from lib.metrics.statistics import holm
from lib.ui import lens_steering, tables
from lib.ui.judge_words import named, relevance_sentence, scale_sentence, share
from lib.ui.links import quoted

_NAMED = {
    "scale": "Patchscope's scale", "relevance": "relevance of the tokens",
    "similarity": "similarity by embeddings",
}  # fmt: skip
_SCALE = {
    "position": ("position", "%d"), "scale": ("judge's scale", None), "local": ("local rule's", "%g"),
    "choices": ("by repeat", None), "lists": ("different lists", "%d"),
    "tokens": ("tokens at the judge's scale", None), "own": ("own words, judge", None),
    "local_own": ("own words, local rule", None), "cost": ("LLM tokens", "%d"),
}  # fmt: skip
_RELEVANCE = {
    "reading": ("reading", None), "position": ("position", "%d"),
    "share": ("relevant, judge", "percent"), "n": ("tokens", "%d"), "relevant": ("which", None),
    "own": ("own words", "percent"), "read": ("distinct words", "%d"),
    "expected": ("own by chance", "%.2g"), "p": ("p, Holm", "%.2g"), "cost": ("LLM tokens", "%d"),
}  # fmt: skip
_SIMILARITY = {
    "kind": ("text", None), "corpus": ("corpus", None), "similarity": ("similarity", "%.3f"),
    "low": ("95 % low", "%.3f"), "high": ("95 % high", "%.3f"), "n": ("prompts", "%d"),
}  # fmt: skip


def show(experiment_id: str) -> None:
    """What is stored of this experiment, part by part, and the command that makes what is not."""
    st.subheader("What does a judge make of the tokens?", anchor=False)
    found = _stored(experiment_id, transcripts.signature("judge"), str(transcripts.folder("judge")))
    if found.scale:
        _scale(found.scale)
    if found.relevance:
        _relevance(found.relevance)
    if found.similarity:
        _similarity(found.similarity)
    _missing(experiment_id, found)


def command(experiment_id: str, found: Stored) -> str:
    """What makes the parts that are not stored."""
    left = [part for part in PARTS if getattr(found, part) is None or part in found.unfinished]
    chat = [part for part in left if part != "similarity"]
    parts = f" --parts {' '.join(left)}" if len(chat) < 2 else ""
    embeddings = " --embeddings MODEL" if "similarity" in left else ""
    return f"python -m lib judge {experiment_id} --consent{embeddings}{parts}"


def _scale(record: Record) -> None:
    found = judge_runs.chosen_of(record)
    st.markdown(scale_sentence(record, found))
    rows = [
        {
            "position": one.position, "scale": named(one.scale), "local": one.local,
            "choices": ", ".join(map(named, one.choices)), "lists": one.lists,
            "tokens": " ".join(t.strip() for t in one.tokens),
            "own": "" if one.own is None else share(one.own),
            "local_own": share(one.local_own), "cost": one.cost,
        }
        for one in found
    ]  # fmt: skip
    if rows:
        tables.show(pl.DataFrame(rows, infer_schema_length=None), _SCALE, name="judge_scale")
    if record["deviation"]:
        st.caption(
            "The mean differences were taken again for this; their norms are within "
            f"{100 * record['deviation']:.1g} % of those of the store."
        )


def _relevance(record: Record) -> None:
    found = judge_runs.marked_of(record)
    rows: list[dict[str, Any]] = []
    for reading in dict.fromkeys(one.reading for one in found):
        own = [one for one in found if one.reading == reading]
        st.markdown(relevance_sentence(record, reading, own))
        rows += [
            {
                "reading": reading, "position": one.position, "share": one.share,
                "n": len(one.tokens), "own": one.own.share, "read": one.own.read,
                "relevant": " ".join(one.tokens[place].strip() for place in one.relevant or ()),
                "expected": one.own.expected, "p": float(p), "cost": one.cost,
            }
            for one, p in zip(own, holm([one.own.p for one in own]), strict=True)
        ]  # fmt: skip
    if rows:
        tables.show(
            pl.DataFrame(rows, infer_schema_length=None), _RELEVANCE, name="judge_relevance"
        )


def _similarity(record: Record) -> None:
    rows = pl.DataFrame(record["rows"], infer_schema_length=None)
    rows = rows.with_columns(n=pl.col("prompts").list.len())
    verdict = lens_steering.judged(rows, record["corpus"])
    measure = f"the embedding model {quoted(record['model'])}"
    st.markdown(lens_steering.sentence(verdict, record["corpus"], measure, rows["n"].max()))
    tables.show(rows.sort("kind", "corpus"), _SIMILARITY, name="judge_similarity")


def _missing(experiment_id: str, found: Stored) -> None:
    if found.unfinished:
        named = ", ".join(_NAMED[part] for part in found.unfinished)
        st.caption(f"Begun and not finished: {named}. The same command continues.")
    if found.damaged:
        st.warning(f"{found.damaged} lines of the transcript cannot be read and were left out.")
    left = [name for part, name in _NAMED.items() if getattr(found, part) is None]
    if not left and not found.unfinished:
        return
    if found.empty:
        st.caption(
            "No judgement of this experiment is stored on this machine. It needs an endpoint, as the "
            "agent does; this command says what it sends, and without `--consent` it sends nothing:"
        )
    elif left:
        st.caption(f"Not judged yet: {', '.join(left)}.")
    st.code(command(experiment_id, found), language="bash")


@st.cache_data(max_entries=16, show_spinner=False)
def _stored(experiment_id: str, signature: tuple[tuple[str, int, int], ...], folder: str) -> Stored:
    return judge_runs.stored(experiment_id)
