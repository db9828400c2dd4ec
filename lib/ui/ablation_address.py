"""Numbers, longer texts and picked features in the address of the ablation page."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from lib.ui.links import quoted, warn

T = TypeVar("T", int, float)

LINKED = 2_000
"""Characters of a text that still travel in the address; a longer one stays in this session."""
LATENTS = "latents"
_PICK = re.compile(r"(\d{1,4})\.(\d{1,9})")


def number(
    label: str, key: str, default: T, widget: Callable[..., T], low: T, high: T, **more: Any
) -> T:
    """A number held by query parameter ``key``; the default leaves none, nonsense warns."""
    name = f"url:{key}"
    asked = st.query_params.get(key)
    value = default if asked is None else _read(asked, type(default), low, high)
    if value is None:
        reach = f"{low} to {high}"
        told = f"The address asks for {label.lower()} {quoted(asked, 40)}, which is not in {reach}"
        warn(f"{told}; showing {default}.")
        value = default
    st.session_state[name] = value

    def changed() -> None:
        if st.session_state[name] == default:
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = str(st.session_state[name])

    return widget(label=label, min_value=low, max_value=high, key=name, on_change=changed, **more)


def _read(text: str, kind: type[T], low: T, high: T) -> T | None:
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if low <= value <= high else None  # NaN is not


def text(label: str, key: str, default: str, *, height: int, placeholder: str = "") -> str:
    """A text in the address while it is short, and in this session in any case: none is lost."""
    name, memory = f"url:{key}", f"ablation:text:{key}"
    st.session_state[name] = st.query_params.get(key, st.session_state.get(memory, default))

    def typed() -> None:
        keep_text(key, st.session_state[name], default)

    shown = st.text_area(label, key=name, height=height, on_change=typed, placeholder=placeholder)
    if len(shown) > LINKED and key not in st.query_params:
        st.caption(f"Longer than {LINKED:,} characters, so a copied link does not carry it.")
    return shown


def keep_text(key: str, value: str, default: str = "") -> None:
    """As if ``value`` had been typed."""
    memory = f"ablation:text:{key}"
    st.query_params.pop(key, None)
    st.session_state.pop(memory, None)
    if value == default:
        return
    st.session_state[memory] = value
    if len(value) <= LINKED:
        st.query_params[key] = value


def picks() -> tuple[tuple[tuple[int, int], ...], list[str]]:
    """Features that the address picks as ``latents=LAYER.NUMBER,...``, and what is no such name."""
    found: dict[tuple[int, int], None] = {}
    wrong = []
    for name in re.split(r"[,\s]+", ",".join(st.query_params.get_all(LATENTS))):
        match = _PICK.fullmatch(name)
        if match:
            found[int(match[1]), int(match[2])] = None
        elif name:
            wrong.append(name)
    return tuple(found), wrong


def pick(chosen: tuple[tuple[int, int], ...] | list[tuple[int, int]]) -> None:
    """Write these features into the address; none removes the parameter."""
    if chosen:
        st.query_params[LATENTS] = named(chosen)
    else:
        st.query_params.pop(LATENTS, None)


def named(chosen: tuple[tuple[int, int], ...] | list[tuple[int, int]]) -> str:
    """``LAYER.NUMBER,LAYER.NUMBER``"""
    return ",".join(f"{layer}.{latent}" for layer, latent in chosen)


def link_to(experiment_id: str, layer: int, latent: int) -> dict[str, str]:
    """Query parameters that open the page with one feature clamped and nothing else."""
    return {
        "experiment": experiment_id,
        "depth": str(layer),
        "top": "0",
        LATENTS: f"{layer}.{latent}",
    }
