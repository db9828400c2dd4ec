"""One latent: what it is in words, where it fires, what it writes."""

from functools import partial
from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from lib.figures.latents import activation_histogram
from lib.store import crosscoder, latents
from lib.store.pack import DETAILED
from lib.ui import (
    ablation_address,
    ablation_clients,
    cache,
    checks,
    features_table,
    labels,
    latent_tiles,
    tokens,
)
from lib.ui.examples import show_examples
from lib.ui.feature_address import close, open_latent
from lib.ui.links import quoted

CLASS_WORDS = {
    "eliminated": "eliminated: only the base model writes it (relative norm below 0.1)",
    "suppressed": "suppressed: the tuned model writes it more weakly (relative norm 0.1 to 0.4)",
    "shared": "shared: both write it about equally strongly (relative norm 0.4 to 0.6)",
    "amplified": "amplified: the tuned model writes it more strongly (relative norm 0.6 to 0.9)",
    "new": "new: only the tuned model writes it (relative norm above 0.9)",
    "dead": "dead: it fired on too few tokens to be classed",
}


def view(chosen: latents.Selection, asked: str) -> None:
    """The latent that the address asks for, or what is wrong with that number."""
    store = cache.store()
    found = (
        latents.latent(store, chosen.experiment_id, chosen.layer, int(asked))
        if asked.isdecimal() and len(asked) < 10
        else pl.DataFrame()
    )
    if found.is_empty():
        st.warning(
            f"Feature {quoted(asked, 40)} is not in this dictionary (layer {chosen.layer}), whose "
            "features are numbered from 0. Choose one from the list."
        )
        st.button("All features", icon=":material/list:", on_click=close, args=(None,))
        return
    row = found.row(0, named=True)
    _heading(row, latents.neighbours(store, chosen, row["latent"]))
    dictionary = crosscoder.dictionary_row(store, chosen.experiment_id, chosen.layer)
    latent_tiles.show(row, features_table.tokens(dictionary), dictionary["seed_chance"].first())
    _to_ablation(row)
    _checks(row)
    left, right = st.columns([3, 2], gap="large")
    with left:
        show_examples(
            row, latents.examples(store, chosen.experiment_id, chosen.layer, row["latent"])
        )
    with right:
        _writes(row)
        _histogram(row)
        labels.show_one(chosen.experiment_id, chosen.layer, row["latent"])


def _heading(row: dict[str, Any], at: pl.DataFrame) -> None:
    place = None if at.is_empty() else at["place"][0]
    title, back, previous, following = st.columns([6, 1.7, 1.3, 1], vertical_alignment="center")
    title.subheader(f"Feature {row['latent']}: {row['class']}", anchor=False)
    back.button(
        "All features", icon=":material/list:", on_click=close, args=(place,), width="stretch"
    )
    for column, name, step in ((previous, "Previous", "previous"), (following, "Next", "next")):
        number = None if at.is_empty() else at[step][0]
        column.button(
            name, disabled=number is None, on_click=partial(open_latent, number), width="stretch"
        )
    where = (
        "Not in the list as it is filtered now."
        if at.is_empty()
        else f"Number {place:,} of {at['total'][0]:,} in the list's order."
    )
    st.markdown(f"This feature is **{CLASS_WORDS[row['class']]}**. {where}")


def _to_ablation(row: dict[str, Any]) -> None:
    """Lead to the ablation page with this feature alone, where the live bundle has it."""
    where = (row["experiment_id"], row["layer"], row["latent"])
    if ablation_clients.carries(*where) and st.button(
        "Clamp this feature in the running model", icon=":material/content_cut:"
    ):
        st.switch_page("pages/ablation.py", query_params=ablation_address.link_to(*where))


def _checks(row: dict[str, Any]) -> None:
    store, where = cache.store(), (row["experiment_id"], row["layer"])
    summary = crosscoder.check_summary(store, *where)
    chance = crosscoder.dictionary_row(store, *where)["seed_chance"].first()
    checks.show(checks.lines(row, summary, chance))


def _writes(row: dict[str, Any]) -> None:
    st.markdown("**What it writes** (direct effect of the tuned direction on the next token)")
    for column, name, title in zip(
        st.columns(2), ("promoted", "suppressed"), ("promotes", "suppresses"), strict=True
    ):
        with column:
            _token_table(title, row[name] or [], row[f"{name}_logit"] or [])


def _token_table(title: str, names: list[str], logits: list[float]) -> None:
    if not names:
        st.caption(f"{title}: not stored")
        return
    st.dataframe(
        pl.DataFrame({title: [tokens.plain(name) for name in names], "logit": logits}),
        hide_index=True,
        height=35 * min(len(names), 8) + 38,
        column_config={"logit": st.column_config.NumberColumn("logit", format="%+.2f")},
    )


def _histogram(row: dict[str, Any]) -> None:
    if not row["histogram_counts"]:
        st.caption(
            f"How strongly it fires is not stored: of experiments that are here for comparison the "
            f"store keeps that, examples and suppressed tokens of the {DETAILED} features per layer "
            "with most of the difference (docs/store.md, `keep`)."
        )
        return
    st.markdown(f"**How strongly it fires** ({row['firings'] or 0:,} tokens)")
    st.plotly_chart(
        activation_histogram(
            np.linspace(0, row["max_activation"], len(row["histogram_counts"]) + 1).tolist(),
            row["histogram_counts"],
        ),
        config={"displayModeBar": False},
    )
