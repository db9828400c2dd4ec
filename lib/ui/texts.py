"""Texts on which the outer axis can be read, as the pages offer them. No Streamlit."""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store import read

TEXTS = {"corpus": "corpus text", "responses": "responses", "neutral": "neutral text"}
"""Choice -> words. *responses*: corpus text without its prompts where it has any, else all of it."""
HELP = (
    "Responses: corpora of instructions without their prompts, whose fixed template can carry most of "
    "the divergence; all tokens of the others."
)


def stored(text: str) -> str:
    """The store's name of a text; null controls are measured on all of its tokens."""
    return "corpus" if text == "responses" else text


def axes(store: DuckDBPyConnection, text: str) -> pl.DataFrame:
    """``store.read.axes`` on one of ``TEXTS``, in the same order."""
    whole = read.axes(store, stored(text))
    if text != "responses":
        return whole
    parts = read.axes(store, "corpus", "response")
    order = whole.select("experiment_id").with_row_index("row")
    rest = whole.join(parts, on="experiment_id", how="anti")
    joined = pl.concat([parts, rest], how="vertical_relaxed")
    return joined.join(order, on="experiment_id").sort("row").drop("row")
