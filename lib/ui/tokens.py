"""A strip of tokens as HTML: one span per marked token, everything else plain escaped text.

Corpus text is untrusted, so every character is escaped and characters that could reorder or hide
text are shown by name. A value is told four times: colour, underline, bold and the tooltip.
"""

import html
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

OPAQUE = 0.62
"""Alpha of the strongest mark: body text stays readable over it in the light and the dark theme."""
STRONG = 0.5
"""From this share of the scale's end on, a token is bold with a solid underline."""
FIRM = 0.1
"""From this share on it has a dotted underline."""


class Mark(NamedTuple):
    """What one token carries."""

    upper: float
    """0..1, intensity of the upper half (base side); the whole token when ``lower`` is None."""
    lower: float | None
    """0..1, intensity of the lower half (tuned side)."""
    tooltip: str


def strip(
    texts: Sequence[str],
    marks: Sequence[Mark | None],
    colours: tuple[str, str],
    *,
    breaks: bool = False,
) -> str:
    """HTML of one run of tokens; ``marks[i]`` belongs to ``texts[i]``, None = nothing to tell.

    Args:
        colours: hex colours ``#rrggbb`` of the upper and the lower half.
        breaks: start a new line after a newline (for whole documents); otherwise only show it.

    Raises:
        ValueError: texts and marks differ in number.
    """
    if len(texts) != len(marks):
        raise ValueError(
            f"{len(texts)} tokens with {len(marks)} marks; give one mark (or None) each"
        )
    rgb = tuple(_rgb(colour) for colour in colours)
    body = "".join(_token(text, mark, rgb, breaks) for text, mark in zip(texts, marks, strict=True))
    return (
        '<div class="tokens" style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.75;'
        f'unicode-bidi:isolate">{body}</div>'
    )


def visible(text: str, *, breaks: bool = False) -> str:
    """Escaped text in which newlines, tabs, odd spaces and control characters can be seen."""
    if not text:
        return _faint("\u2039\u203a")  # a token that ends inside a character
    shown = "".join(_character(c, breaks) for c in text)
    return _faint("\u00b7" * len(text)) if not text.strip(" ") else shown


def plain(token: str) -> str:
    """One token for a table cell: spaces at its ends become dots, control characters are named.

    Not escaped: for cells and chart labels that do not read HTML.
    """
    core = token.strip(" ")
    lead = len(token) - len(token.lstrip(" "))
    tail = len(token) - lead - len(core)
    named = "".join(_NAMES.get(c) or (_code(c) if _hidden(c) else c) for c in core)
    return "\u00b7" * lead + named + "\u00b7" * tail


def legend(labels: tuple[str, str], colours: tuple[str, str]) -> str:
    """One line that says what the two halves of a mark mean."""
    upper, lower = (f"rgba({_rgb(c)},{OPAQUE})" for c in colours)
    gradients = (f"{upper} 50%,transparent 50%", f"transparent 50%,{lower} 50%")
    keys = (
        f'<span style="background:linear-gradient({gradient});{_BOX}">&emsp;</span>'
        for gradient in gradients
    )
    parts = (f"{key} {html.escape(label)}" for key, label in zip(keys, labels, strict=True))
    return f'<div style="font-size:0.875rem;opacity:0.8">{" &ensp; ".join(parts)}</div>'


_NAMES = {"\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d", "\u00a0": "\u237d"}
_CUES = (
    (STRONG, ";border-bottom:2px solid currentColor;font-weight:700"),
    (FIRM, ";border-bottom:1px dotted currentColor"),
)
_BOX = "border-radius:3px;padding:1px 4px;border-bottom:2px solid currentColor"


def _token(text: str, mark: Mark | None, rgb: tuple[str, ...], breaks: bool) -> str:
    if mark is None:
        return visible(text, breaks=breaks)
    upper = _alpha(mark.upper)
    strongest = max(mark.upper, mark.lower or 0.0)
    if mark.lower is None:
        background = f"rgba({rgb[0]},{upper})"
    else:
        background = (
            f"linear-gradient(rgba({rgb[0]},{upper}) 50%,rgba({rgb[1]},{_alpha(mark.lower)}) 50%)"
        )
    cue = next((style for least, style in _CUES if strongest >= least), "")
    return (
        f'<span style="background:{background}{cue}" '
        f'title="{html.escape(mark.tooltip, quote=True)}">{visible(text, breaks=breaks)}</span>'
    )


def _alpha(value: float) -> str:
    return f"{OPAQUE * min(max(value, 0.0), 1.0):.2f}"


def _rgb(colour: str) -> str:
    """``#rrggbb`` -> ``r,g,b``."""
    return ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))


def _character(c: str, breaks: bool) -> str:
    if c in _NAMES:
        return _faint(_NAMES[c]) + ("\n" if breaks and c == "\n" else "")
    return _faint(_code(c)) if _hidden(c) else html.escape(c, quote=True)


def _hidden(c: str) -> bool:
    """Control and format characters can hide or reorder text; joiners inside emoji may stay."""
    return unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\u200d\u200c"


def _code(c: str) -> str:
    return f"[U+{ord(c):04X}]"


def _faint(text: str) -> str:
    return f'<span style="opacity:0.45">{text}</span>'


def caption(text: str) -> str:
    """A small line above a strip."""
    return f'<div style="font-size:0.8rem;opacity:0.7;margin-top:0.6rem">{html.escape(text)}</div>'
