"""Widgets bound to the address: copying it reproduces the view.

The address is the truth: a widget shows what it says, and writes it when it is changed. Streamlit's
own `bind="query-params"` silently drops an unknown value, and carries no choice from page to page.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

T = TypeVar("T", bound=Hashable)

_WARNINGS: ContextVar[DeltaGenerator | None] = ContextVar("warnings", default=None)
_EMPTY = "none"  # stands for an empty selection; an absent parameter means the default


def _widget(key: str) -> str:
    return f"url:{key}"


def _write(key: str, values: list[str] | None) -> None:
    """Set one parameter, or remove it; an unchanged one is left alone: each write is sent."""
    if values is None:
        if key in st.query_params:
            del st.query_params[key]
    elif st.query_params.get_all(key) != values:
        st.query_params[key] = values


def _chosen(key: str, default: object) -> None:
    value = st.session_state[_widget(key)]
    if value == default or value is None:
        _write(key, None)
    else:
        _write(key, [str(value)])


def _many_chosen(key: str, default: list[object]) -> None:
    values = list(st.session_state[_widget(key)])
    if set(values) == set(default):
        _write(key, None)
    else:
        _write(key, [str(value) for value in values] or [_EMPTY])


def decode(asked: Iterable[str], options: Sequence[T]) -> tuple[list[T], list[str]]:
    """Options named by ``asked``, and the names that stand for none of them."""
    by_name = {str(option): option for option in options}
    names = list(asked)
    return [by_name[n] for n in names if n in by_name], [n for n in names if n not in by_name]


def quoted(text: str, most: int = 80) -> str:
    """Untrusted text as a code span of Markdown: nothing in it may end the span."""
    plain = "".join(c if c.isprintable() and c != "`" else "\ufffd" for c in text[:most])
    return f"`{plain or ' '}`"


@contextmanager
def warnings_in(place: DeltaGenerator) -> Iterator[None]:
    """Warnings of addresses go there: inside a closed popover nobody would see them."""
    token = _WARNINGS.set(place)
    try:
        yield
    finally:
        _WARNINGS.reset(token)


def warn(text: str) -> None:
    """A warning where ``warnings_in`` says, else right here."""
    (_WARNINGS.get() or st).warning(text)


def _warn(label: str, unknown: list[str], shown: str) -> None:
    names = ", ".join(quoted(name) for name in unknown)
    warn(f"The address asks for {label.lower()} {names}, which is not here. Showing {shown}.")


def url_choice(
    label: str,
    options: Sequence[T],
    key: str,
    default: T | None = None,
    format_func: Callable[[T], str] = str,
    widget: Literal["select", "segmented"] = "select",
    help: str | None = None,
    label_visibility: Literal["visible", "hidden", "collapsed"] = "visible",
) -> T:
    """One of ``options``, held by query parameter ``key``; the default leaves no parameter.

    An unknown value in the address gives a warning that names it, and the default is shown.

    Raises:
        ValueError: no options, or a default that is none of them.
    """
    if not options:
        raise ValueError(f"url_choice {key!r}: there is nothing to choose from")
    default = options[0] if default is None else default
    if default not in options:
        raise ValueError(f"url_choice {key!r}: default {default!r} is not among {list(options)}")
    known, unknown = decode(st.query_params.get_all(key)[-1:], options)
    if unknown:
        _warn(label, unknown, f"`{format_func(default)}`")
        _write(key, None)
    st.session_state[_widget(key)] = known[0] if known else default
    shared = {
        "label": label,
        "options": options,
        "key": _widget(key),
        "format_func": format_func,
        "on_change": _chosen,
        "args": (key, default),
        "help": help,
        "label_visibility": label_visibility,
    }
    if widget == "segmented":
        return st.segmented_control(**shared, required=True)
    return st.selectbox(**shared)


def url_multi(
    label: str,
    options: Sequence[T],
    key: str,
    default: Sequence[T] | None = None,
    format_func: Callable[[T], str] = str,
    widget: Literal["select", "segmented"] = "select",
    help: str | None = None,
    placeholder: str | None = None,
) -> list[T]:
    """Any number of ``options`` (default: all), as repeated query parameters ``key``.

    The default leaves no parameter, an empty choice the word ``none``; unknown values give a warning.
    """
    chosen_default = list(options if default is None else default)
    asked = st.query_params.get_all(key)
    known, unknown = decode([name for name in asked if name != _EMPTY], options)
    if unknown:
        _warn(label, unknown, "the others" if known else "the default")
    st.session_state[_widget(key)] = known if known or asked == [_EMPTY] else chosen_default
    shared = {
        "label": label,
        "options": options,
        "key": _widget(key),
        "format_func": format_func,
        "on_change": _many_chosen,
        "args": (key, chosen_default),
        "help": help,
    }
    if widget == "segmented":
        return list(st.segmented_control(**shared, selection_mode="multi"))
    return list(st.multiselect(**shared, placeholder=placeholder))


def remembered_choice(
    label: str, options: Sequence[T], key: str, default: T, format_func: Callable[[T], str] = str
) -> T:
    """As ``url_choice``, but carried from page to page, where the navigation drops the parameters:
    this session's last choice fills an address that has none; the address always holds it."""
    memory = f"last:{key}"
    if key not in st.query_params:
        last = st.session_state.get(memory, default)
        _write(key, [str(last if last in options else default)])
    fallback = object()  # equal to no value: the parameter stays in the address
    known, unknown = decode(st.query_params.get_all(key)[-1:], options)
    if unknown:
        if unknown != [str(st.session_state.get(memory))]:  # else another choice took it away
            _warn(label, unknown, f"`{format_func(default)}`")
        _write(key, [str(default)])
    st.session_state[_widget(key)] = known[0] if known else default
    st.selectbox(
        label,
        options,
        key=_widget(key),
        format_func=format_func,
        on_change=_chosen,
        args=(key, fallback),
    )
    value = st.session_state[_widget(key)]
    st.session_state[memory] = value
    return value


def address() -> str:
    """The full address of the current view."""
    base = urlsplit(st.context.url or "")
    pairs = [(key, value) for key in st.query_params for value in st.query_params.get_all(key)]
    return urlunsplit((base.scheme, base.netloc, base.path, urlencode(pairs), ""))


def copy_link() -> None:
    """A small button that opens the address of this view, with a copy control."""
    with st.popover("Link", icon=":material/link:", width="content"):
        st.caption("This address reproduces the view.")
        st.code(address(), language=None, wrap_lines=True)
