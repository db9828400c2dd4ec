"""What Documents shows at once: the standard ablation of the store, run by the pipeline."""

import polars as pl
import streamlit as st

from lib.ablation import AblationRequest, AblationResult
from lib.store import causal
from lib.ui import ablation_evidence, ablation_words, cache
from lib.ui.frame import url_choice


@st.cache_data(max_entries=4, show_spinner=False)
def _runs(store_id: str) -> pl.DataFrame:
    return causal.runs(cache.store())


@st.cache_data(max_entries=64, show_spinner=False)
def _result(store_id: str, experiment_id: str, layers: str) -> AblationResult | None:
    return causal.result(cache.store(), experiment_id, layers)


def runs(experiment_id: str) -> list[str]:
    """The sets of depths at which it was run, as ``7`` or ``7,15``: all of them together last."""
    found = _runs(cache.store_id()).filter(experiment_id=experiment_id)
    return found["layers"].to_list()


def show(experiment_id: str, asked: AblationRequest | None, *, live: bool = True) -> None:
    """The standard result, by default of all depths together; without one, what to do.

    Args:
        asked: what the controls would run; None where that is nothing.
        live: whether a run of one's own can be started.
    """
    known = runs(experiment_id)
    if not known and not live:
        st.info("The store holds no standard ablation of this experiment either: the first command "
                "above adds both.", icon=":material/science:")  # fmt: skip
        return
    if not known:
        st.info(
            "The store holds no ablation of this experiment. Press Run: the first run starts the "
            "model, which takes about twenty seconds, and control draws come in as they finish. "
            "Every setting is in the address, so a copied link repeats the run.",
            icon=":material/science:",
        )
        return
    layers = known[-1]
    if len(known) > 1:
        layers = url_choice(
            "Standard ablation at", known[::-1], "standard", widget="segmented",
            format_func=lambda at: f"layers {at.replace(',', ', ')}" if "," in at else f"layer {at}",
            label_visibility="collapsed",
        )  # fmt: skip
    result = _result(cache.store_id(), experiment_id, layers)
    if result is not None:
        st.caption(f":material/inventory_2: {origin(result)} {own(result, asked) if live else ''}")
        ablation_evidence.show(result, standard=True)


def origin(result: AblationResult) -> str:
    """What was run, for the caption over the picture."""
    run = result.request
    return (
        f"The standard ablation, as the pipeline ran it on {len(run.documents)} held-out "
        f"documents, {run.prompt_limit} tokens of each (from the start; of a document with a "
        f"response from around where that begins): clamp to base at strength {run.strength:g}, the "
        f"{run.top} features with the largest share of the difference at each depth, {run.draws} "
        "draws of each control."
    )


def own(result: AblationResult, asked: AblationRequest | None) -> str:
    """How a run of the settings above differs in what it reads."""
    if asked is None:
        return "Run starts one of your own with the settings above."
    texts = ablation_words.counted(len(asked.documents), "document")
    return (
        f"Run starts one of your own with the settings above: {texts}, up to {asked.prompt_limit} "
        "tokens of each from the start. Other text gives other numbers."
    )
