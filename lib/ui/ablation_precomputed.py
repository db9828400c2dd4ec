"""What Documents shows before anything has been run here."""

import streamlit as st


def show(experiment_id: str) -> None:
    """The standard result of the store, where it has one."""
    st.info(
        "No ablation of this experiment has been run yet. Press Run: the first run starts the "
        "model, which takes about twenty seconds, and control draws come in as they finish. Every "
        "setting is in the address, so a copied link repeats the run.",
        icon=":material/science:",
    )
