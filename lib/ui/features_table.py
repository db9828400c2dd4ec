"""The list of latents: order, page, columns with their units; a click opens one of them."""

from functools import partial

import polars as pl
import streamlit as st

from lib.store import crosscoder, latents
from lib.ui import cache, checks
from lib.ui.feature_address import PAGE, open_latent, pick_page, sort_by
from lib.ui.links import url_choice
from lib.ui.tokens import plain

_ORDERS = {"descending": "largest first", "ascending": "smallest first"}
_PERCENT = ("difference_share", "energy", "frequency")


def show(chosen: latents.Selection, total: int) -> None:
    """One page of the selection, with its order and its page number in the address."""
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
        f"Features {offset + 1:,} to {offset + len(rows):,} of {total:,}{_behind(chosen)}. Click a row "
        "to open the feature, a column's head to sort all of them by it."
    )


def tokens(rows: pl.DataFrame) -> int | None:
    """Training and held-out tokens behind the statistics, from a row of ``dictionary``, if any."""
    return None if rows.is_empty() else int(rows["train_tokens"][0] + rows["heldout_tokens"][0])


def _behind(chosen: latents.Selection) -> str:
    n = tokens(crosscoder.dictionary_row(cache.store(), chosen.experiment_id, chosen.layer))
    return "" if n is None else f"; n = {n:,} tokens behind every row"


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


_NUMBERS = {  # column: heading, format, what it says when pointed at
    "difference_share": (
        "of the difference", "%.3f %%",
        "E[a²]·|d_tuned - d_base|², share of the sum over all features; no interval is stored; an "
        "even spread would give every alive feature the same",
    ),
    "delta_norm": (
        "relative norm", "%.3f",
        "0 base only, 0.5 equal = no change, 1 tuned only; no interval is stored",
    ),
    "cosine": ("cosine", "%.3f", "of the base and the tuned direction; 1 = no change"),
    "seed_cosine": (
        "across seeds", "%.2f",
        "best decoder cosine in other seeds' dictionaries; chance stands in the text above",
    ),
    "frequency": ("fires on", "%.3f %%", "share of all tokens, training and held-out; n below"),
    "energy": (
        "of the energy", "%.3f %%",
        "E[a²]·|d_tuned|², share of the sum over all features; no interval is stored",
    ),
    "norm_base": ("norm base", "%.3g", "of d_base, in units of activation"),
    "norm_tuned": ("norm tuned", "%.3g", "of d_tuned, same units"),
    "nu_eps": ("nu error", "%.2f", "latent scaling: 1 = alike in both, 0 = absent in base"),
    "nu_r": ("nu rec.", "%.2f", "the same within what other features reconstruct"),
}  # fmt: skip


def _columns() -> dict[str, object]:
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "latent": number("feature", format="%d", width=70),
        "class": text("class", width=90),
        "checks": text("checks", width=70, help=checks.HELP),
        **{
            column: number(heading, format=form, help=says)
            for column, (heading, form, says) in _NUMBERS.items()
        },
        "promoted": text("promotes", help="a dot stands for a space", width="medium"),
    }


def _row_clicked(key: str, numbers: list[int]) -> None:
    selection = st.session_state[key].selection
    if selection.columns:
        sort_by(selection.columns[0])
        return
    rows = [*selection.rows, *(cell[0] for cell in selection.cells)]
    if rows:
        open_latent(numbers[rows[0]])
