"""Cached reads of the paths; keyed as in cache.py."""

import polars as pl
import streamlit as st

from lib.store import sweep as _queries
from lib.ui import cache


@st.cache_data(max_entries=4, show_spinner=False)
def _sweep(store_id: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    store = cache.store()
    return _queries.outputs(store), _queries.layers(store)


@st.cache_data(max_entries=4, show_spinner=False)
def _neutral(store_id: str) -> pl.DataFrame:
    return _queries.layers(cache.store(), "neutral")


def neutral() -> pl.DataFrame:
    """Layers as in ``sweep``, measured on neutral text alone."""
    return _neutral(cache.store_id())


def sweep() -> tuple[pl.DataFrame, pl.DataFrame]:
    """``lib.store.sweep.outputs`` and ``layers``; empty where the store has no sweep."""
    return _sweep(cache.store_id())
