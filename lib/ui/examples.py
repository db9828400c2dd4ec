"""Examples of one latent: the windows in which it fires most, base and tuned side on each token."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from lib.figures import theme
from lib.store.text import document_text, token_texts
from lib.ui import tokens

SHOWN = 8
"""Examples before the reader asks for more."""
_COLOURS = (theme.BASE, theme.TUNED)


def example_html(
    row: dict[str, Any], text: str | None, norms: tuple[float, float], scale: float
) -> str:
    """One window of an example as a strip; without text, its positions and activations.

    Args:
        row: of ``latents.examples``.
        norms: decoder norms of base and tuned side; a side's contribution is activation x norm.
        scale: the contribution that gets the full colour.
    """
    fired = dict(zip(row["positions"], row["activations"], strict=True))
    head = (
        f"{row['corpus']} / {row['document_id']}, tokens {row['token_start']} to "
        f"{row['token_end'] - 1}, {row['split'] or 'split unknown'}, "
        f"strongest {max(fired.values(), default=0.0):.2f}"
    )
    span = range(row["token_start"], row["token_end"])
    if text is None:
        texts = [f"[{t}] {fired[t]:.2f}  " for t in span if t in fired]
        marks = [_mark(t, fired[t], norms, scale) for t in span if t in fired]
    else:
        texts = token_texts(text, row["char_ends"], row["token_start"], row["token_end"])
        marks = [_mark(t, fired[t], norms, scale) if t in fired else None for t in span]
    return f"{tokens.caption(head)}{tokens.strip(texts, marks, _COLOURS)}"


def _mark(
    position: int, activation: float, norms: tuple[float, float], scale: float
) -> tokens.Mark:
    base, tuned = (activation * norm for norm in norms)
    return tokens.Mark(
        upper=base / scale,
        lower=tuned / scale,
        tooltip=f"token {position}: activation {activation:.3g}, adds {base:.3g} to base and "
        f"{tuned:.3g} to tuned",
    )


def show_examples(row: dict[str, Any], found: pl.DataFrame) -> None:
    st.markdown("**Where it fires most**")
    windows = found.unique(
        ["corpus", "document_id", "token_start", "token_end"], keep="first", maintain_order=True
    )
    if windows.is_empty():
        st.info("The store keeps no example of this feature.")
        return
    norms = (row["norm_base"] or 0.0, row["norm_tuned"] or 0.0)
    strongest = windows["activations"].list.max().max() or 0.0
    scale = strongest * max(norms) or 1.0
    st.html(tokens.legend(("upper half: adds to base", "lower half: adds to tuned"), _COLOURS))
    parts, missing = _with_text(windows.to_dicts(), norms, scale)
    for reason in missing:
        st.info(f"{reason} Positions and activations are shown instead.", icon=":material/lock:")
    st.html("".join(parts[:SHOWN]))
    if len(parts) > SHOWN:
        with st.expander(f"{len(parts) - SHOWN} more"):
            st.html("".join(parts[SHOWN:]))


def _with_text(
    rows: Sequence[dict[str, Any]], norms: tuple[float, float], scale: float
) -> tuple[list[str], list[str]]:
    """HTML of every window, and each reason for missing text once per corpus."""
    parts: list[str] = []
    reasons: dict[str, str] = {}
    for row in rows:
        document = document_text(row["corpus"], row["document_id"], row["sha256"])
        if document.text is None:
            reasons.setdefault(row["corpus"], document.reason)
        parts.append(example_html(row, document.text, norms, scale))
    return parts, list(reasons.values())
