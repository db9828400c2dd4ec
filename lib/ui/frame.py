"""The frame of every page: question, store check, global choices, definitions, provenance."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from lib.ablation import catalogue
from lib.store.read import StoreError
from lib.ui import cache, names
from lib.ui.links import copy_link, remembered_choice, url_choice, url_multi

__all__ = [
    "controls",
    "copy_link",
    "definitions",
    "enter",
    "page",
    "pick_experiment",
    "pick_layer",
    "provenance",
    "provenance_all",
    "store_errors",
    "url_choice",
    "url_multi",
]


# Streamlit squeezes a row of controls until they are cut off; a narrow page wraps it instead.
# Streamlit leaves 6rem free above a page and lets a title end with 1rem: room the figure needs.
_TIGHT = """<style>
[data-testid="stMainBlockContainer"] {padding-top: 4.2rem; padding-bottom: 3rem}
[data-testid="stHeading"] h1 {padding: 0 0 0.35rem 0}
[data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] {gap: 0.7rem}
@media (max-width: 1200px) {
  .st-key-controls [data-testid="stHorizontalBlock"] {flex-wrap: wrap}
  .st-key-controls [data-testid="stColumn"] {flex: 1 1 10.5rem; min-width: 10.5rem}
  .st-key-controls [data-testid="stColumn"]:has([data-testid="stButtonGroup"]) {min-width: 12.5rem}
  .st-key-controls [data-testid="stColumn"]:has([data-testid="stPopover"]) {
    flex: 0 0 6rem; min-width: 6rem}
}
</style>"""


def enter() -> None:
    """Called by app.py: this run draws the navigation."""
    st.session_state["entered"] = True


@contextmanager
def store_errors() -> Iterator[None]:
    """A store that turns out to be unreadable while a page draws is a message, not a traceback."""
    try:
        yield
    except StoreError as problem:
        _explain(problem)


def _explain(problem: StoreError) -> None:
    st.error(str(problem), icon=":material/database_off:")
    st.code(
        "python -m lib run data/experiments/embedded.yaml   # make the store\n"
        "git checkout precomputed/store.duckdb              # or take the committed one",
        language="bash",
    )
    st.stop()


def _through_app() -> None:
    """Start over through app.py when Streamlit ran a page file on its own.

    Until the first ``st.navigation`` of a server's life Streamlit takes the folder pages/ for an app
    of its old kind, and runs the page of a deep link without app.py. The flag behind that is cleared
    here, so the rerun is right. (A page run alone by a test has itself as main script.)
    """
    context = get_script_run_ctx()
    alone = context is None or Path(context.pages_manager.main_script_path).name != "app.py"
    if not alone and "entered" not in st.session_state:
        PagesManager.uses_pages_directory = False
        st.rerun()


def page(title: str, answers: str) -> None:
    """The question, one line of what the page answers, and a store that can be read.

    Without one the page says what is wrong and which command helps, and ends here.
    """
    _through_app()
    st.html(_TIGHT)
    st.title(title, anchor=False)
    st.caption(answers)
    try:
        cache.store_id()
    except StoreError as problem:
        _explain(problem)


def controls(widths: Sequence[float]) -> list[DeltaGenerator]:
    """Columns for a page's row of controls, which takes a second row on a narrow page."""
    with st.container(key="controls"):
        return st.columns(widths, vertical_alignment="bottom")


def pick_experiment(label: str = "Experiment", key: str = "experiment") -> str:
    """The experiment all pages share, in the address as ``experiment``."""
    shown = names.labels(cache.experiments())
    known = list(shown)
    if not known:
        st.info(
            "The store has no experiment yet. Run "
            "`python -m lib run data/experiments/embedded.yaml`."
        )
        st.stop()
    live = set(catalogue.experiments())  # everything was kept of them, so they are the way in
    default = next((one for one in known if one in live), known[0])
    return remembered_choice(label, known, key, default, shown.__getitem__)


def pick_layer(experiment_id: str) -> int:
    """The layer all pages share, among those with a crosscoder, in the address as ``layer``.

    The default is the layer with the largest held-out ratio.
    """
    known = cache.dictionary_layers(experiment_id)
    if not known:
        st.info(
            f"`{experiment_id}` has no dictionaries: its `sparse` stage has not run. Run "
            "`python -m lib run data/experiments/embedded.yaml` to the end."
        )
        st.stop()
    rows = cache.layers([experiment_id]).filter(is_peak=True)
    peak = rows["layer"][0] if len(rows) and rows["layer"][0] in known else known[-1]
    n_layers = cache.experiment(experiment_id)["n_layers"]
    return remembered_choice(
        "Layer",
        known,
        "layer",
        peak,
        lambda layer: f"{layer} (depth {layer / n_layers:.2f})" if n_layers else str(layer),
    )


def definitions(markdown: str) -> None:
    with st.expander("How these numbers are defined", icon=":material/function:"):
        st.markdown(markdown)


def provenance_all(experiment_ids: list[str] | None = None, text: str = "") -> None:
    """One caption for several experiments (default: all): models, recipes, seeds, text, store."""
    rows = cache.experiments()
    if experiment_ids is not None:
        rows = rows.filter(pl.col("experiment_id").is_in(experiment_ids))

    def listed(column: str) -> str:
        return ", ".join(str(value) for value in rows[column].drop_nulls().unique().sort())

    steps = listed("steps")
    parts = [
        f"{len(rows)} experiment{'s' * (len(rows) != 1)}, {listed('provenance')}",
        f"models {listed('base_model')}",
        f"corpora {listed('corpus')}",
        f"LoRA rank {listed('rank')}" + (f", {steps} steps" if steps else ""),
        f"hook {listed('hook')}",
        f"seeds {listed('seed')}",
        text,
        f"store {cache.store_id()[:12]}",
    ]
    st.caption(" · ".join(part for part in parts if part))


def provenance(experiment_id: str) -> None:
    """One caption: experiment, model, corpus, recipe, seed, device, store."""
    row: dict[str, Any] = cache.experiment(experiment_id)
    st.caption(
        " · ".join(
            [
                str(row["provenance"]),
                experiment_id,
                f"model {row['base_model']}",
                f"corpus {row['corpus']}",
                f"LoRA rank {row['rank']}"
                + (f", {row['steps']} steps" if row["steps"] is not None else ", given adapter"),
                f"hook {row['hook']}",
                f"seed {row['seed']}",
                f"device {row['device']}",
                f"adapter {row['adapter_hash']}",
                f"store {cache.store_id()[:12]}",
            ]
        )
    )
