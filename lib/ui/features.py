"""The list of latents: map, verdict, table; a click opens one of them."""

from functools import partial

import polars as pl
import streamlit as st

from lib.figures.latents import latent_map
from lib.metrics.artefacts import FOUND
from lib.store import crosscoder, latents
from lib.ui import cache, checks
from lib.ui.feature_address import PAGE, open_latent, pick_page, sort_by
from lib.ui.links import url_choice
from lib.ui.tokens import plain

_MOVED = ("eliminated", "suppressed", "amplified", "new")
_ORDERS = {"descending": "largest first", "ascending": "smallest first"}
_PERCENT = ("difference_share", "energy", "frequency")


def overview(chosen: latents.Selection) -> None:
    """Map, verdict, table of one selection; or how to widen it when it is empty."""
    counts = latents.class_counts(cache.store(), chosen)
    total = int(counts["n"].sum())
    if not total:
        st.info("No feature passes these filters. Take one away to see more.")
        return
    points = latents.latent_map(cache.store(), chosen)
    _map(points, total)
    st.markdown(verdict(chosen, counts, points))
    _table(chosen, total)


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


def _map(points: pl.DataFrame, total: int) -> None:
    if points.is_empty():
        st.info("None of these features has a share of the difference to place on the map.")
        return
    opened = "features:map"
    st.plotly_chart(
        latent_map(points),
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


def _table(chosen: latents.Selection, total: int) -> None:
    left, middle, right = st.columns([2, 2, 4], vertical_alignment="bottom")
    with left:
        url_choice("Sorted by", list(latents.SORTS), "sort", format_func=latents.SORTS.get)
    with middle:
        url_choice("Order", list(_ORDERS), "order", format_func=_ORDERS.get, widget="segmented")
    with right:
        page = pick_page(chosen, total)
    offset = (page - 1) * PAGE
    rows = latents.latent_page(cache.store(), chosen, offset=offset, limit=PAGE)
    # The key holds what decides the rows, so that a selection never outlives them.
    key = f"features:table:{chosen}:{page}"
    st.dataframe(
        shown(rows),
        key=key,
        hide_index=True,
        height=35 * min(len(rows), 12) + 38,
        column_config=_columns(),
        on_select=partial(_row_clicked, key, rows["latent"].to_list()),
        selection_mode=["single-row", "single-cell", "single-column"],
    )
    st.caption(
        f"Features {offset + 1:,} to {offset + len(rows):,} of {total:,}. Click a row to open the "
        "feature, a column's head to sort all of them by it."
    )


def shown(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows as the table shows them: shares in per cent, checks and promoted tokens as one text."""
    counted = zip(rows["checks_passed"], rows["checks_unknown"], strict=True)
    return rows.with_columns(
        pl.Series("checks", [checks.badge(*n) for n in counted], dtype=pl.String),
        *(pl.col(name) * 100 for name in _PERCENT),
        promoted=pl.col("promoted").map_elements(
            lambda tokens: "  ".join(plain(token) for token in tokens), return_dtype=pl.String
        ),
    ).select(
        "latent", "class", "checks", "difference_share", "delta_norm", "cosine", "seed_cosine",
        "frequency", "energy", "norm_base", "norm_tuned", "nu_eps", "nu_r", "promoted",
    )  # fmt: skip


def _columns() -> dict[str, object]:
    number = st.column_config.NumberColumn
    return {
        "latent": number("feature", format="%d", width=70),
        "class": st.column_config.TextColumn("class", width=90),
        "checks": st.column_config.TextColumn("checks", width=70, help=checks.HELP),
        "difference_share": number("of the difference", format="%.3f %%"),
        "delta_norm": number("relative norm", format="%.3f", help="0 base only, 1 tuned only"),
        "cosine": number("cosine", format="%.3f", help="of the base and the tuned direction"),
        "seed_cosine": number(
            "across seeds", format="%.2f", help="best decoder cosine in other seeds' dictionaries"
        ),
        "frequency": number("fires on", format="%.3f %%", help="share of held-out tokens"),
        "energy": number("of the energy", format="%.3f %%"),
        "norm_base": number("norm base", format="%.2f"),
        "norm_tuned": number("norm tuned", format="%.2f"),
        "nu_eps": number("nu error", format="%.2f"),
        "nu_r": number("nu rec.", format="%.2f"),
        "promoted": st.column_config.TextColumn(
            "promotes", help="a dot stands for a space", width="medium"
        ),
    }


def _point_clicked(key: str) -> None:
    points = st.session_state[key].selection.points
    if points:
        open_latent(int(points[0]["customdata"][0]))


def _row_clicked(key: str, numbers: list[int]) -> None:
    selection = st.session_state[key].selection
    if selection.columns:
        sort_by(selection.columns[0])
        return
    rows = [*selection.rows, *(cell[0] for cell in selection.cells)]
    if rows:
        open_latent(numbers[rows[0]])
