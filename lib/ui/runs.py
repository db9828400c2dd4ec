"""The parts of the runs page."""

import polars as pl
import streamlit as st

from lib.figures.curves import adapter_loss, dictionary_quality
from lib.ui import cache, tables, verdicts

_THIRD = 1 / 3


def training(experiment_id: str, shown: str) -> None:
    """The chosen curves of one experiment and what they say."""
    curves = cache.curves(experiment_id)
    config, key = {"displayModeBar": False}, f"runs:{shown}"
    if shown == "adapter":
        losses = curves.filter(run="adapter")
        if losses.is_empty():
            st.info(f"`{experiment_id}` has no loss curve; its adapter was not trained here.")
            return
        st.plotly_chart(adapter_loss(losses), config=config, key=key)
        st.markdown(verdicts.adapter(losses))
        return
    layers = sorted(set(curves["layer"].drop_nulls().to_list()))
    if not layers:
        st.info(f"`{experiment_id}` has no dictionaries: its `sparse` stage has not run.")
        return
    st.plotly_chart(dictionary_quality(curves, layers), config=config, key=key)
    st.markdown(verdicts.trained(cache.dictionaries(experiment_id)))


def dictionaries(experiment_id: str) -> None:
    rows = cache.dictionaries(experiment_id).with_columns(
        shrunk=pl.col("latents") < pl.col("latents_asked")
    )
    if not rows.is_empty():
        tables.show(rows, tables.DICTIONARIES, name="dictionaries")


def compute(experiment_id: str) -> None:
    """Compute of one fine-tune beside its base model's, in words."""
    row = with_shares(cache.experiments()).filter(experiment_id=experiment_id)
    st.markdown(verdicts.compute(row["share"][0]))


def table() -> None:
    """Every experiment with recipe, compute, hashes and versions."""
    rows = with_shares(cache.experiments()).with_columns(
        lora_tera=pl.col("lora_flop") / 1e12, base_exa=pl.col("base_flop") / 1e18
    )
    tables.show(rows, tables.RUNS, name="runs")


def with_shares(experiments: pl.DataFrame) -> pl.DataFrame:
    """Adds ``share`` = LoRA FLOP / base FLOP and ``third`` = 3 x share; null where unknown."""
    share = pl.col("lora_flop") / pl.col("base_flop")
    return experiments.with_columns(share=share, third=share / _THIRD)
