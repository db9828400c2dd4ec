"""Cached reads of the lens, keyed as in cache.py; which experiments have one, and how to make one."""

from typing import Any

import polars as pl
import streamlit as st

from lib import config, paths
from lib.store import lens as _queries
from lib.ui import cache

SHOWN = 4
"""Experiments that are named where one has no lens."""
_TABLES = {
    "difference": _queries.differences,
    "robustness": _queries.robustness,
    "swap": _queries.swaps,
    "steering": _queries.steering,
    "generation": _queries.generations,
    "similarity": _queries.similarities,
}


@st.cache_data(max_entries=8, show_spinner=False)
def _runs(store_id: str) -> pl.DataFrame:
    return _queries.runs(cache.store())


def runs() -> pl.DataFrame:
    """Of ``lib.store.lens.runs``: one row per experiment that has a lens."""
    return _runs(cache.store_id())


def run(experiment_id: str) -> dict[str, Any] | None:
    """The lens run of one experiment; None where there is none."""
    return next(runs().filter(experiment_id=experiment_id).iter_rows(named=True), None)


@st.cache_data(max_entries=64, show_spinner=False)
def _table(store_id: str, name: str, experiment_id: str) -> pl.DataFrame:
    return _TABLES[name](cache.store(), experiment_id)


def table(name: str, experiment_id: str) -> pl.DataFrame:
    """Rows of one experiment in table ``lens_<name>``, all but the readings."""
    return _table(cache.store_id(), name, experiment_id)


@st.cache_data(max_entries=64, show_spinner=False)
def _readings(store_id: str, experiment_id: str, layer: int) -> pl.DataFrame:
    return _queries.readings(cache.store(), experiment_id, layer)


def readings(experiment_id: str, layer: int) -> pl.DataFrame:
    return _readings(cache.store_id(), experiment_id, layer)


@st.cache_data(max_entries=32, show_spinner=False)
def _words_read(store_id: str, reading: str) -> pl.DataFrame:
    return _queries.words_read(cache.store(), reading)


def words_read(reading: str) -> pl.DataFrame:
    return _words_read(cache.store_id(), reading)


@st.cache_data(max_entries=8, show_spinner=False)
def _rankings(store_id: str) -> pl.DataFrame:
    return _queries.rankings(cache.store())


def rankings() -> pl.DataFrame:
    """Of ``lib.store.lens.rankings``: every word in use, by experiment."""
    return _rankings(cache.store_id())


def missing(experiment_id: str) -> None:
    """Says that there is no lens, of which experiments there is one, and which command makes one."""
    known = runs()["experiment_id"].to_list()
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    has = (
        f"It has one of {', '.join(f'`{name}`' for name in known[:SHOWN])}{more}." if known else ""
    )
    st.info(
        f"The store has no lens of `{experiment_id}`: its `lens` stage has not run, or its recipe "
        f"has `lens: {{texts: 0}}`. {has} This command makes it; finished stages are kept:",
        icon=":material/visibility_off:",
    )
    st.code(command(experiment_id), language="bash")


@st.cache_data(max_entries=64, show_spinner=False)
def command(experiment_id: str) -> str:
    """The command that measures an experiment, with the experiments file of ours that names it."""
    for file in sorted((paths.ROOT / "data" / "experiments").glob("*.yaml")):
        try:
            named = [experiment.id for experiment in config.load(file)]
        except (config.ConfigError, OSError):  # a file that is being written, or asks for texts
            continue
        if experiment_id in named:
            return f"python -m lib run data/experiments/{file.name}"
    return f"python -m lib run FILE.yaml   # the experiments file that names {experiment_id}"
