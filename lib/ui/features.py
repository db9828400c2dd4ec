"""The overview of latents: map, verdict, novel features, list; a click opens one of them."""

from functools import partial

import polars as pl
import streamlit as st

from lib.figures.latents import latent_map
from lib.metrics.artefacts import FOUND
from lib.store import crosscoder, latents
from lib.ui import cache, features_table, labels, novel_layer
from lib.ui.feature_address import open_latent

_MOVED = ("eliminated", "suppressed", "amplified", "new")


def overview(chosen: latents.Selection) -> None:
    """Map, verdict, novel features, table of one selection; or how to widen it when it is empty."""
    counts = latents.class_counts(cache.store(), chosen)
    total = int(counts["n"].sum())
    if not total:
        summary = is_summary(chosen.experiment_id, chosen.layer)
        st.info(
            _SUMMARY.format(chosen.experiment_id)
            if summary
            else "No feature passes these filters. Take one away to see more."
        )
        if summary:
            st.markdown(_dictionary(chosen))
        novel_layer.panel(chosen.experiment_id, chosen.layer)
        return
    points = latents.latent_map(cache.store(), chosen)
    rows = crosscoder.dictionary_row(cache.store(), chosen.experiment_id, chosen.layer)
    _map(points, total, features_table.tokens(rows))
    st.markdown(verdict(chosen, counts, points))
    novel_layer.panel(chosen.experiment_id, chosen.layer)
    features_table.show(chosen, total)
    with st.expander("Machine labels"):
        labels.show(chosen.experiment_id, chosen.layer)


def _dictionary(chosen: latents.Selection) -> str:
    """What is known of a dictionary whose features are not stored."""
    rows = crosscoder.dictionary_row(cache.store(), chosen.experiment_id, chosen.layer)
    return f"{_seen(rows)} {stable(rows)}"


def is_summary(experiment_id: str, layer: int) -> bool:
    """Whether the store holds no single feature of this dictionary, only its counts."""
    every = latents.Selection(experiment_id=experiment_id, layer=layer)
    return latents.class_counts(cache.store(), every).is_empty()


_SUMMARY = (
    "`{}` was kept as a summary: the store holds the counts and qualities of its dictionaries, not "
    "their single features. To list them here, set `keep: full` in its experiments file and run "
    "`python -m lib run` on that file."
)


def verdict(chosen: latents.Selection, counts: pl.DataFrame, points: pl.DataFrame) -> str:
    """What the dictionary sees of the change, and where that lies, in words."""
    rows = crosscoder.dictionary_row(cache.store(), chosen.experiment_id, chosen.layer)
    n = dict(zip(counts["class"], counts["n"], strict=True))
    total = sum(n.values())
    moved = sum(n.get(name, 0) for name in _MOVED)
    strongest = points["difference_share"].head(10)
    return (
        f"{_seen(rows)} Of the {total:,} features listed here {moved:,} are not shared alike "
        f"({', '.join(f'{n.get(name, 0):,} {name}' for name in _MOVED)}), "
        f"{n.get('dead', 0):,} are dead; the {len(strongest)} that moved most carry "
        f"{100 * strongest.sum():.0f} % of the change that this dictionary sees. "
        f"{stable(rows)}"
    )


def stable(rows: pl.DataFrame) -> str:
    """What dictionaries of other seeds say about this one (its row of ``dictionary``), in words."""
    share = None if rows.is_empty() else rows["stable_share"][0]
    if share is None:
        return "Whether these features return with other seeds was not measured."
    carried, chance = rows["stable_difference"][0], rows["seed_chance"][0]
    return (
        f"{100 * share:.0f} % of the alive features return with every other seed; they carry "
        f"{100 * carried:.0f} % of the change that it sees (return = decoder cosine {FOUND} or more; "
        f"chance gives {chance:.2f})."
    )


def _seen(rows: pl.DataFrame) -> str:
    share = None if rows.is_empty() else rows["fve_difference"][0]
    if share is None:
        return "**How much of the change this dictionary sees was not measured.**"
    tokens = f"held-out FVE of the difference {share:.2f}, n = {rows['heldout_tokens'][0]:,} tokens"
    if share <= 0:
        return f"**This dictionary sees nothing of the change** ({tokens})."
    return (
        f"**This dictionary sees {100 * share:.0f} % of the change: features it cannot see are not "
        f"in this list** ({tokens})."
    )


def _map(points: pl.DataFrame, total: int, n_tokens: int | None) -> None:
    if points.is_empty():
        st.info("None of these features has a share of the difference to place on the map.")
        return
    opened = "features:map"
    st.plotly_chart(
        latent_map(points, n_tokens),
        key=opened,
        on_select=partial(_point_clicked, opened),
        selection_mode="points",
        config={"displaylogo": False},
    )
    if len(points) < total:
        st.caption(
            f"The map shows the {len(points):,} of {total:,} features with the largest share of "
            "the difference; the table below has them all."
        )


def _point_clicked(key: str) -> None:
    points = st.session_state[key].selection.points
    if points:
        open_latent(int(points[0]["customdata"][0]))
