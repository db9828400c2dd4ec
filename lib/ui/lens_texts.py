"""Steered and unsteered text after every prompt, side by side, as escaped HTML."""

import html
from typing import Any

import polars as pl
import streamlit as st

from lib.lens.prompts import PROMPTS
from lib.ui.tokens import visible

FIRST = 6
"""Prompts shown before the reader asks for more."""


def show(written: pl.DataFrame) -> None:
    """The texts; or why they are not stored.

    Args:
        written: of ``lib.store.lens.generations``.
    """
    st.subheader("What it writes", anchor=False)
    if written["text"].null_count() == len(written):
        st.info("The texts are not stored: they may repeat the fine-tuning corpus, which is not ours "
                "to pass on (`lens: {keep_text: false}`). Their numbers are above.",
                icon=":material/lock:")  # fmt: skip
        return
    prompts = sorted(written["prompt"].unique())
    st.html(texts_html(written, prompts[:FIRST]))
    if prompts[FIRST:]:
        with st.expander(f"{len(prompts) - FIRST} more prompts"):
            st.html(texts_html(written, prompts[FIRST:]))


def texts_html(written: pl.DataFrame, prompts: list[int]) -> str:
    """Escaped text in two columns, a row for every prompt; a sign where it is not coherent."""
    style = "vertical-align:top;padding:4px 10px 4px 0;text-align:left;font-weight:400"
    heads = "".join(
        f'<th scope="col" style="{style};opacity:0.7">{name}</th>'
        for name in ("opening", "without steering", "steered")
    )
    rows = []
    for prompt in prompts:
        cells = [html.escape(PROMPTS[prompt].opening)]  # the stage continues plain text
        for kind in ("unsteered", "steered"):
            part = written.filter(prompt=prompt, kind=kind).sort("sample").to_dicts()
            cells.append("<br><br>".join(map(_text, part)) or "nothing written")
        rows.append(
            f'<tr style="border-top:1px solid rgba(138,143,152,0.3)">'
            f'<th scope="row" style="{style};opacity:0.7">{cells[0]}</th>'
            + "".join(f'<td style="{style}">{cell}</td>' for cell in cells[1:])
            + "</tr>"
        )
    return (
        '<table style="width:100%;table-layout:fixed;border-collapse:collapse;font-size:0.86rem;'
        'overflow-wrap:anywhere"><colgroup><col style="width:22%"><col><col></colgroup>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _text(row: dict[str, Any]) -> str:
    sign = "" if row["coherent"] else '<b title="by the measure below">\u2717 not coherent:</b> '
    return f"{sign}{visible(row['text'] or '')}"
