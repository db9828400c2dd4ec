"""The address of the feature page: filters, order, page of the table and the open latent."""

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.store import latents
from lib.ui.links import url_choice, url_multi

PAGE = 50
"""Rows of the table on one screen; the store sends no more than these."""
FREQUENCIES = ("0", "0.0001", "0.001", "0.01", "0.1")

CHECKED = {"any": "any result", "passed": "all passed"}


def controls(
    experiment_id: str, layer: int, columns: Sequence[DeltaGenerator]
) -> latents.Selection:
    """Four filters, one to a column; the order comes from the address (``sort``, ``order``)."""
    with columns[0]:
        classes = url_multi(
            "Classes", latents.CLASSES, "class", default=[], placeholder="all classes"
        )
    with columns[1]:
        least = url_choice("Fires on", FREQUENCIES, "frequency", format_func=_at_least)
    with columns[2]:
        token = _search()
    with columns[3]:
        checked = url_choice("Artefact checks", list(CHECKED), "checks", format_func=CHECKED.get)
    sort = st.query_params.get("sort", "difference_share")
    return latents.Selection(
        experiment_id=experiment_id,
        layer=layer,
        classes=tuple(classes),
        min_frequency=float(least),
        token=token,
        all_checks=checked == "passed",
        sort=sort if sort in latents.SORTS else "difference_share",
        descending=st.query_params.get("order") != "ascending",
    )


def asked_latent(experiment_id: str, layer: int) -> str | None:
    """What the address asks for as ``latent``. Another experiment or layer closes the open latent:
    the same number there is another feature."""
    here = (experiment_id, layer)
    if st.session_state.setdefault("features:dictionary", here) != here:
        st.session_state["features:dictionary"] = here
        _close()
    return st.query_params.get("latent")


def open_latent(number: int) -> None:
    st.query_params["latent"] = str(number)


def close(place: int | None) -> None:
    """Back to the list, at the page that holds the latent's place in it."""
    _close()
    _turn_to(1 if place is None else (place - 1) // PAGE + 1)


def pick_page(chosen: latents.Selection, total: int) -> int:
    """Page of the table, in the address as ``page``; one past the end is drawn back, and another
    selection starts at its first page."""
    count = -(-total // PAGE)
    asked = st.query_params.get("page", "1")
    page = min(max(int(asked) if asked.isdecimal() and len(asked) < 10 else 1, 1), count)
    if st.session_state.get("features:chosen", chosen) != chosen:
        page = 1
    st.session_state["features:chosen"] = chosen
    _turn_to(page)
    if count == 1:
        return 1
    # A widget for each page: one whose value is set from here as well would be warned about.
    key = f"features:page:{page}"
    return st.pagination(
        count, default=page, key=key, on_change=lambda: _turn_to(st.session_state[key])
    )


def sort_by(column: str) -> None:
    """Sort every row by a column; the same column again turns the order round."""
    if column not in latents.SORTS:
        return
    if st.query_params.get("sort", "difference_share") == column:
        turned = st.query_params.get("order") != "ascending"
        if turned:
            st.query_params["order"] = "ascending"
        else:
            st.query_params.pop("order", None)
    else:
        st.query_params["sort"] = column
        st.query_params.pop("order", None)
    _turn_to(1)


def _turn_to(page: int) -> None:
    if page > 1:
        st.query_params["page"] = str(page)
    else:
        st.query_params.pop("page", None)


def _close() -> None:
    st.query_params.pop("latent", None)


def _search() -> str:
    st.session_state["features:token"] = st.query_params.get("token", "")
    return st.text_input(
        "Promotes a token with",
        key="features:token",
        placeholder="part of a token",
        on_change=_searched,
    )


def _searched() -> None:
    if text := st.session_state["features:token"]:
        st.query_params["token"] = text
    else:
        st.query_params.pop("token", None)


def _at_least(share: str) -> str:
    return "any token" if share == "0" else f"at least {float(share):.2%}".replace(".00", "")
