"""What outlives a rerun: the handle on the store, and what was read through it.

The handle is keyed by the file's inode and time of change, so a store that the pipeline has
published meanwhile is noticed at the next rerun. Reads are keyed by the content hash of the store.
"""

from pathlib import Path

import polars as pl
import streamlit as st
from duckdb import DuckDBPyConnection

from lib import paths
from lib.store import read
from lib.ui import texts


@st.cache_resource(max_entries=2, show_spinner=False)
def _opened(path: str, inode: int, changed_ns: int) -> tuple[DuckDBPyConnection, str]:
    handle = read.open_store(Path(path))
    return handle, read.store_id(handle)


def _current() -> tuple[DuckDBPyConnection, str]:
    path = paths.store_file()
    if not path.is_file():
        read.open_store(path)  # raises the error that says what to do
    status = path.stat()
    return _opened(str(path), status.st_ino, status.st_mtime_ns)


def store() -> DuckDBPyConnection:
    """The read-only handle on the current store; raises ``read.StoreError``."""
    return _current()[0]


def store_id() -> str:
    """Content hash of the current store, the key of cached reads; raises ``read.StoreError``."""
    return _current()[1]


@st.cache_data(max_entries=8, show_spinner=False)
def _experiments(store_id: str) -> pl.DataFrame:
    return read.experiments(store())


def experiments() -> pl.DataFrame:
    return _experiments(store_id())


@st.cache_data(max_entries=64, show_spinner=False)
def _axes(store_id: str, text: str) -> pl.DataFrame:
    return texts.axes(store(), text)


def axes(text: str) -> pl.DataFrame:
    """Of ``texts.axes``, one of ``texts.TEXTS``."""
    return _axes(store_id(), text)


@st.cache_data(max_entries=4, show_spinner=False)
def _responses(store_id: str) -> pl.DataFrame:
    return read.axes(store(), "corpus", "response")


def responses() -> pl.DataFrame:
    """The axes of experiments whose corpus has prompts and responses, on the responses."""
    return _responses(store_id())


@st.cache_data(max_entries=64, show_spinner=False)
def _layers(store_id: str, experiment_ids: tuple[str, ...]) -> pl.DataFrame:
    return read.layers(store(), list(experiment_ids))


def layers(experiment_ids: list[str]) -> pl.DataFrame:
    return _layers(store_id(), tuple(experiment_ids))


@st.cache_data(max_entries=256, show_spinner=False)
def _dictionary_layers(store_id: str, experiment_id: str) -> list[int]:
    return read.dictionary_layers(store(), experiment_id)


def dictionary_layers(experiment_id: str) -> list[int]:
    return _dictionary_layers(store_id(), experiment_id)


@st.cache_data(max_entries=256, show_spinner=False)
def _dictionaries(store_id: str, experiment_id: str) -> pl.DataFrame:
    return read.dictionaries(store(), experiment_id)


def dictionaries(experiment_id: str) -> pl.DataFrame:
    return _dictionaries(store_id(), experiment_id)


@st.cache_data(max_entries=256, show_spinner=False)
def _curves(store_id: str, experiment_id: str) -> pl.DataFrame:
    return read.curves(store(), experiment_id)


def curves(experiment_id: str) -> pl.DataFrame:
    return _curves(store_id(), experiment_id)


@st.cache_data(max_entries=4, show_spinner=False)
def published(name: str) -> pl.DataFrame:
    """``cells`` or ``aggregates``: what the seeds publish. Empty cells stay null."""
    return pl.read_csv(paths.PUBLISHED / f"published_{name}.csv", comment_prefix="#")


def experiment(experiment_id: str) -> dict[str, object]:
    """One experiment by column name; the id must come from ``experiments``."""
    return experiments().row(by_predicate=pl.col("experiment_id") == experiment_id, named=True)
