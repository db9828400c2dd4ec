"""Read tokens as an HTML table: rank down, position across, the corpus' own words marked twice.

Tokens are untrusted text: everything is escaped, and spaces and line ends can be seen (tokens.py).
"""

import html
from collections.abc import Sequence
from typing import Literal, NamedTuple

from lib.figures import theme
from lib.ui.tokens import visible

OWN_SIGN = "\u25c6"
Kind = Literal["own", "word", "none"]
_STYLE = {
    "own": f"background:{theme.fill(theme.TUNED, 0.38)};font-weight:700;"
    "border-bottom:2px solid currentColor",
    "word": "",
    "none": "opacity:0.62",
}
_LONGEST = 22
"""Characters of a token that are shown; the pointer has the rest."""


class Cell(NamedTuple):
    token: str
    kind: Kind
    """own = one of the corpus' own frequent words; none = no word."""
    tooltip: str


class Column(NamedTuple):
    head: str
    note: str
    """Under the head; for Patchscope the scale. A space keeps the line free, nothing does not."""
    tooltip: str
    cells: tuple[Cell, ...]
    foot: tuple[str, ...] = ()
    """Lines under the last row: the count of own words."""


def cell(token: str, word: int, share: float, rank: int, own: frozenset[int], of: str) -> Cell:
    """One read token.

    Args:
        word: word id of the token; -1 = no word.
        share: its probability, 0..1.
        own: word ids of the corpus' own frequent words.
        of: name of the corpus.
    """
    kind: Kind = "none" if word < 0 else "own" if word in own else "word"
    says = {
        "own": f"one of {of}'s own frequent words",
        "word": f"a word, not among {of}'s own frequent ones",
        "none": "no word: punctuation, digits, a special token, or under 3 letters",
    }
    shown = "".join(c if c.isprintable() else f"[U+{ord(c):04X}]" for c in token)
    return Cell(token, kind, f'"{shown}", rank {rank}, probability {percent(share)}; {says[kind]}')


def percent(share: float) -> str:
    """A probability with two digits that mean something: ``41 %``, ``0.12 %``."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.3g} %"


def grid(title: str, columns: Sequence[Column]) -> str:
    """HTML of one reading; shorter columns end early."""
    rows = max((len(column.cells) for column in columns), default=0)
    heads = "".join(_head(column) for column in columns)
    body = "".join(
        f'<tr><th scope="row" style="{_TH};text-align:right">{rank + 1}</th>'
        + "".join(_td(column, rank) for column in columns)
        + "</tr>"
        for rank in range(rows)
    )
    foot = ""
    if any(column.foot for column in columns):
        style = f"{_TD};border-top:1px solid {theme.NEUTRAL}"
        feet = ("<br>".join(map(html.escape, column.foot)) for column in columns)
        cells = "".join(f'<td style="{style}">{foot}</td>' for foot in feet)
        head = f'<th scope="row" style="{_TH};text-align:right" title="{_FOOT}">{OWN_SIGN}</th>'
        foot = f"<tfoot><tr>{head}{cells}</tr></tfoot>"
    return (
        '<div style="flex:1 1 26rem;min-width:0;overflow-x:auto">'
        f'<div style="font-weight:600;margin-bottom:0.2rem">{html.escape(title)}</div>'
        '<table style="border-collapse:collapse;width:100%;table-layout:fixed;font-size:0.84rem;'
        'line-height:1.35"><thead><tr>'
        f'<th style="{_TH};width:2rem"></th>{heads}</tr></thead><tbody>{body}</tbody>{foot}</table>'
        "</div>"
    )


def beside(grids: Sequence[str]) -> str:
    """Readings next to each other, below each other where there is no room."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:1rem 1.6rem">{"".join(grids)}</div>'


def legend(corpus: str) -> str:
    """What the marks mean."""
    name = html.escape(corpus)
    return (
        '<div style="font-size:0.85rem;opacity:0.85">'
        f'<span style="{_STYLE["own"]};padding:0 4px;border-radius:3px">{OWN_SIGN} word</span> '
        f"one of {name}\u2019s own frequent words &ensp; word: any other word &ensp; "
        f'<span style="{_STYLE["none"]}">faint</span>: no word (punctuation, digits, under 3 '
        "letters) &ensp; \u00b7 a space, \u21b5 a line end &ensp; point at a token for its "
        "probability</div>"
    )


_FOOT = "own words of the distinct words read, and p of so many by chance (Holm)"
_TH = f"font-weight:400;padding:1px 5px;color:{theme.NEUTRAL};text-align:left"
_TD = "padding:1px 5px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"


def _head(column: Column) -> str:
    note = f'<br><span style="font-size:0.75rem">{html.escape(column.note)}</span>'
    return (
        f'<th scope="col" style="{_TH};vertical-align:bottom" '
        f'title="{html.escape(column.tooltip, quote=True)}">{html.escape(column.head)}'
        f"{note if column.note else ''}</th>"
    )


def _td(column: Column, rank: int) -> str:
    if rank >= len(column.cells):
        return f'<td style="{_TD}"></td>'
    found = column.cells[rank]
    sign = f"{OWN_SIGN} " if found.kind == "own" else ""
    return (
        f'<td style="{_TD};{_STYLE[found.kind]}" title="{html.escape(found.tooltip, quote=True)}">'
        f"{sign}{_shown(found.token)}</td>"
    )


def _shown(token: str) -> str:
    """Escaped; a leading space as a faint dot, long tokens cut."""
    cut = token if len(token) <= _LONGEST else token[: _LONGEST - 1] + "\u2026"
    if cut.strip(" ") and cut.startswith(" "):
        dots = "\u00b7" * (len(cut) - len(cut.lstrip(" ")))
        return f'<span style="opacity:0.35">{dots}</span>{visible(cut.lstrip(" "))}'
    return visible(cut)
