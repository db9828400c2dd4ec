"""The Weights view of the geometry page: where the update sits, and which adapters share it."""

from collections.abc import Sequence

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.store import weights as _queries
from lib.ui import cache, geometry_weights_overlap, geometry_weights_update, lens_reads, names
from lib.ui.geometry_weights_overlap import SPACES
from lib.ui.geometry_weights_update import QUANTITIES
from lib.ui.links import url_choice

_SHOWN = {name: quantity.label for name, quantity in QUANTITIES.items()} | SPACES


@st.cache_data(max_entries=16, show_spinner=False)
def _modules(store_id: str, base_model: str) -> pl.DataFrame:
    return _queries.modules(cache.store(), base_model)


@st.cache_data(max_entries=16, show_spinner=False)
def _pairs(store_id: str, base_model: str) -> pl.DataFrame:
    return _queries.pairs(cache.store(), base_model)


def show(experiment_id: str, columns: Sequence[DeltaGenerator]) -> None:
    """Controls in ``columns`` (two or more; a third spares a line), figure, verdict and table; or why
    there is nothing to show."""
    here = cache.experiment(experiment_id)
    base = str(here["base_model"])
    modules = _modules(cache.store_id(), base)
    with columns[0]:
        shown = url_choice("Shown", list(_SHOWN), "weights", "share", _SHOWN.__getitem__)
    if modules.filter(experiment_id=experiment_id).is_empty():
        _missing(experiment_id, modules)
        return
    labels = names.labels(cache.experiments().filter(base_model=base))
    if shown in QUANTITIES:
        geometry_weights_update.show(experiment_id, modules, shown, labels)
        return
    pairs = _pairs(cache.store_id(), base)
    geometry_weights_overlap.show(experiment_id, pairs, shown, labels, columns[1:])


def _missing(experiment_id: str, modules: pl.DataFrame) -> None:
    known = modules["experiment_id"].unique(maintain_order=True).to_list()
    some = ", ".join(f"`{name}`" for name in known[: lens_reads.SHOWN])
    has = (
        f" Of this model it has {some}{' and others' * (len(known) > lens_reads.SHOWN)}."
        if known
        else ""
    )
    st.info(
        f"The store has no weights of `{experiment_id}`: its `weights` stage has not run, or its "
        f"adapter is not a plain LoRA (the run says so).{has} This command makes them, in seconds "
        "where the rest is done:",
        icon=":material/grid_off:",
    )
    st.code(lens_reads.command(experiment_id), language="bash")
