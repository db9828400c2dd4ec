"""Cached reads of null controls, profiles, novel features, ablations; keyed as in cache.py."""

import polars as pl
import streamlit as st

from lib.store import causal as _causal_queries
from lib.store import novelty as _novelty_queries
from lib.store import nulls as _null_queries
from lib.ui import cache, texts
from lib.ui.nulls import Nulls


@st.cache_data(max_entries=16, show_spinner=False)
def _nulls(store_id: str, text: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    store = cache.store()
    return _null_queries.null_layers(store), _null_queries.null_outputs(store, texts.stored(text))


def nulls(text: str) -> Nulls:
    """Null controls for one text of the outer axis; empty frames where none were measured."""
    return Nulls(*_nulls(cache.store_id(), text))


@st.cache_data(max_entries=8, show_spinner=False)
def _profiles(store_id: str) -> pl.DataFrame:
    return _null_queries.profiles(cache.store())


def profiles() -> pl.DataFrame:
    return _profiles(cache.store_id())


@st.cache_data(max_entries=8, show_spinner=False)
def _novelty(store_id: str) -> pl.DataFrame:
    return _novelty_queries.novelty(cache.store())


def novelty() -> pl.DataFrame:
    return _novelty(cache.store_id())


@st.cache_data(max_entries=8, show_spinner=False)
def _causal(store_id: str) -> pl.DataFrame:
    return _causal_queries.runs(cache.store())


def causal() -> pl.DataFrame:
    return _causal(cache.store_id())


@st.cache_data(max_entries=8, show_spinner=False)
def _tokens_read(store_id: str) -> list[int]:
    asked = "SELECT DISTINCT prompt_limit FROM causal_run ORDER BY ALL"
    return cache.store().sql(asked).pl()["prompt_limit"].to_list()


def tokens_read() -> list[int]:
    """How many tokens of each document the standard ablations read: one number where all agree."""
    return _tokens_read(cache.store_id())
