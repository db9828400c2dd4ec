"""Where base and tuned disagree: one document as a strip, and the strongest tokens as a table."""

from functools import partial
from typing import Any

import polars as pl
import streamlit as st

from lib.figures import theme
from lib.store import tokens as scores
from lib.store.text import document_text, token_texts
from lib.ui import cache, tokens
from lib.ui.links import url_choice

CONTEXT = 8
"""Tokens before a divergent one that the table shows."""
TOP = 30


def pick_document(experiment_id: str, corpus: str) -> str:
    """A held-out document, most divergent first, in the address as ``document``."""
    found = scores.documents(cache.store(), experiment_id, corpus)
    mean = dict(zip(found["document_id"], found["mean_kl"], strict=True))
    return url_choice(
        "Document (largest mean KL first, short ones last)",
        list(mean),
        "document",
        format_func=lambda name: f"{name}: mean KL {_nats(mean[name])}",
    )


def verdict(summary: dict[str, Any]) -> str:
    """How heavy the tail is, in words; ``summary`` is a row of ``kl_summary``."""
    if not summary["n"]:
        return "**No token of this text is scored.**"
    if summary["top_share"] is None:
        return f"**Base and tuned agree exactly on all {summary['n']:,} tokens of this text.**"
    return (
        f"**The tenth of tokens with the largest KL carries {100 * summary['top_share']:.0f} % of "
        f"all divergence on this text.** A typical token has KL {summary['median']:.3g} nats "
        f"(median), the mean is {summary['mean']:.3g}: n = {summary['n']:,} tokens of "
        f"{summary['n_documents']:,} held-out documents."
    )


def strip(row: dict[str, Any], text: str | None, full: float) -> str:
    """One document as HTML; the colour of a token is the KL of the prediction OF that token.

    Args:
        row: of ``lib.store.tokens.document``.
        text: of the document; None shows positions and numbers.
        full: nats that get the full colour, above 0.
    """
    marks = [
        None if kl is None else _mark(t, kl, row["nll_base"][t], row["nll_tuned"][t], full)
        for t, kl in enumerate(row["kl"])
    ]
    if text is None:
        named = [
            f"[{t}] {'not scored' if kl is None else f'{kl:.2f}'}  "
            for t, kl in enumerate(row["kl"])
        ]
        return tokens.strip(named, marks, _COLOURS)
    texts = token_texts(text, row["char_ends"], 0, len(marks))
    return tokens.strip(texts, marks, _COLOURS, breaks=True)


def show_document(experiment_id: str, corpus: str, document_id: str, full: float) -> None:
    row = scores.document(cache.store(), experiment_id, corpus, document_id).row(0, named=True)
    found = document_text(corpus, document_id, row["sha256"])
    if found.text is None:
        st.info(f"{found.reason} Positions and numbers are shown instead.", icon=":material/lock:")
    st.html(strip(row, found.text, full))


def top_table(experiment_id: str, corpus: str) -> None:
    rows = scores.top_tokens(cache.store(), experiment_id, corpus, limit=TOP)
    key = f"tokens:top:{experiment_id}:{corpus}"
    st.dataframe(
        with_context(rows, corpus),
        key=key,
        hide_index=True,
        on_select=partial(_row_clicked, key, rows["document_id"].to_list()),
        selection_mode=["single-row", "single-cell"],
        column_config={
            "kl": st.column_config.NumberColumn("KL, nats", format="%.2f"),
            "nll_base": st.column_config.NumberColumn("NLL base", format="%.2f"),
            "nll_tuned": st.column_config.NumberColumn("NLL tuned", format="%.2f"),
            "context": st.column_config.TextColumn("the tokens before it", width="large"),
            "document_id": "document",
        },
    )
    st.caption("Click a row to read its document above.")


def with_context(rows: pl.DataFrame, corpus: str) -> pl.DataFrame:
    """``kl, nll_base, nll_tuned, context, token, document_id, position``; text null if missing."""
    shown = [
        {
            "kl": row["kl"],
            "context": None,
            "token": None,
            **_words(row, corpus),
            "nll_base": row["nll_base"],
            "nll_tuned": row["nll_tuned"],
            "document_id": row["document_id"],
            "position": row["position"],
        }
        for row in rows.iter_rows(named=True)
    ]
    return pl.DataFrame(shown, schema_overrides={"context": pl.String, "token": pl.String})


_COLOURS = (theme.DIFFERENCE, theme.DIFFERENCE)


def _row_clicked(key: str, documents: list[str]) -> None:
    selection = st.session_state[key].selection
    rows = [*selection.rows, *(cell[0] for cell in selection.cells)]
    if rows:
        st.query_params["document"] = documents[rows[0]]


def _words(row: dict[str, Any], corpus: str) -> dict[str, str]:
    document = document_text(corpus, row["document_id"], row["sha256"])
    if document.text is None:
        return {}
    at = row["position"]
    *before, token = token_texts(document.text, row["char_ends"], max(at - CONTEXT, 0), at + 1)
    return {"context": tokens.plain("".join(before)), "token": tokens.plain(token)}


def _mark(position: int, kl: float, base: float, tuned: float, full: float) -> tokens.Mark:
    return tokens.Mark(
        upper=kl / full,
        lower=None,
        tooltip=f"token {position}: KL {kl:.3g} nats, NLL base {_nats(base)}, tuned {_nats(tuned)}",
    )


def _nats(value: float | None) -> str:
    return "not scored" if value is None else f"{value:.2f}"
