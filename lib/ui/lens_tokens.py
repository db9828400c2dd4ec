"""The Tokens view: what the mean difference reads as, position by position."""

from typing import Any

import polars as pl
import streamlit as st

from lib.ui import lens_reads, lens_words, tables
from lib.ui.lens_grid import Column, beside, cell, grid, legend, percent
from lib.ui.lens_words import Overlap, number

READINGS = {
    "lens": "lens",
    "lens_negated": "lens, negated",
    "patchscope": "Patchscope",
    "base_head": "lens, base head",
    "base_head_negated": "lens, base head, negated",
    "demeaned": "without the overall mean",
    "svd_1": "strongest direction",
    "svd_2": "second direction",
    "svd_3": "third direction",
    "whitespace": "on whitespace",
    "far": "far into the text",
    "bos": "start token alone",
}
"""Every reading that the pipeline makes; all but the first two at one layer."""
_COLUMNS = {
    "reading": ("reading", None), "position": ("position", None), "tokens": ("tokens", "%d"),
    "plain": ("no words", "%d"), "common": ("everybody's words", "%d"),
    "read": ("distinct words", "%d"), "overlap": ("own words", "%d"),
    "share": ("share of own", "percent"), "low": ("95 % low", "percent"),
    "high": ("95 % high", "percent"), "expected": ("own by chance", "%.2g"),
    "p_one": ("p", "%.2g"), "p": ("p, Holm", "%.2g"),
}  # fmt: skip
_HELPS = {
    "plain": "punctuation, digits, special tokens, pieces under 3 letters",
    "common": "tokens among the 100 most frequent words of the reference text",
    "read": "n of the share: tokens of one spelling are one word",
    "share": "own words / distinct words; Wilson's interval, as if words were drawn one by one",
    "expected": "of as many words drawn from the tokenizer's words at random: the null",
    "p_one": "hypergeometric, one-sided",
    "p": "corrected over the positions of the reading (Holm)",
}


def capital(reading: str) -> str:
    """The name of a reading as a sentence starts."""
    return READINGS[reading][0].upper() + READINGS[reading][1:]


def show(experiment_id: str, run: dict[str, Any], layer: int, reading: str) -> None:
    """Verdict, the chosen reading beside Patchscope (or the lens), and the overlaps as a table."""
    rows = lens_reads.readings(experiment_id, layer)
    names = [reading, "lens" if reading == "patchscope" else "patchscope"]
    chosen = {name: rows.filter(reading=name).to_dicts() for name in names}
    found = {name: lens_words.overlaps(part, run) for name, part in chosen.items() if part}
    st.html(legend(run["corpus"]))
    st.html(beside([table(n, part, run, found[n]) for n, part in chosen.items() if part]))
    for name, part in found.items():
        label = f"{capital(name)} at layer {layer}"
        st.markdown(lens_words.sentence(label, part, run["corpus"], run["texts"], run["reference"]))
    for name in (name for name, part in chosen.items() if not part):
        st.caption(_absent(name, layer, run["layer"]))
    if "base_head" not in set(lens_reads.readings(experiment_id, run["layer"])["reading"]):
        st.caption(
            "Read through the base's head instead of the tuned model's, the lens gives the same: "
            "this adapter leaves final norm and unembedding alone, so the two are identical."
        )
    if found:
        st.subheader("Own words by position", anchor=False)
        tables.show(_frame(found), _COLUMNS, name="lens_words", helps=_HELPS)


def _absent(name: str, layer: int, middle: int) -> str:
    if layer != middle:
        return f"{capital(name)}: measured at layer {middle} only. Choose it to see this reading."
    return f"{capital(name)}: nothing was read at layer {layer}; no scale or text gave a reading."


def table(name: str, rows: list[dict[str, Any]], run: dict[str, Any], found: list[Overlap]) -> str:
    """HTML of one reading: a column for every position."""
    own = frozenset(run["words"])
    columns = []
    for row, overlap in zip(rows, found, strict=True):
        listed = zip(row["tokens"], row["words"], row["shares"], strict=True)
        scale = row["scale"]
        columns.append(
            Column(
                head="all" if row["position"] < 0 else f"position {row['position']}",
                note="\u00a0" if scale is None else f"\u00d7 {scale:g} \u03b7",
                tooltip=_head(row, run),
                cells=tuple(
                    cell(token, word, share, rank, own, run["corpus"])
                    for rank, (token, word, share) in enumerate(listed, 1)
                ),
                foot=(f"{overlap.found.overlap} of {overlap.found.read}", f"p {number(overlap.p)}"),
            )
        )
    return grid(capital(name), columns)


def _head(row: dict[str, Any], run: dict[str, Any]) -> str:
    said = (
        f"{len(row['tokens'])} most probable tokens, {percent(sum(row['shares']))} of the "
        f"probability; mean difference over {run['texts']} texts of {run['probe']}"
    )
    if row["scale"] is None:
        return said
    return f"{said}; read at {row['scale']:g} times eta, the mean norm of the tuned stream"


def _frame(found: dict[str, list[Overlap]]) -> pl.DataFrame:
    rows = []
    for name, part in found.items():
        for one in part:
            held = one.interval
            rows.append({
                "reading": READINGS[name],
                "position": "all" if one.position < 0 else str(one.position),
                "tokens": one.tokens, "plain": one.plain, "common": one.common,
                "read": one.found.read, "overlap": one.found.overlap,
                "share": held and held.value, "low": held and held.low, "high": held and held.high,
                "expected": one.found.expected, "p_one": one.found.p, "p": one.p,
            })  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)
