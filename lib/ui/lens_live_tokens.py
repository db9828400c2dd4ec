"""What the live lens found in a prompt: the strip, the verdict, and tables of tokens and readings."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import streamlit as st

from lib.ablation.looking import READINGS, LensResult, Scope, TokenLens
from lib.ablation.outcome import NextToken
from lib.figures import theme
from lib.ui import tokens
from lib.ui.links import quoted
from lib.ui.verdicts import signed

FULL = 0.4
"""Relative norm that gets the full colour: the same for every prompt, layer and strength, so that the
difference can be seen to grow."""
COLOURS = (theme.DIFFERENCE, theme.ACCENT)
"""Upper half of a token: its relative norm; lower half: it is the picked one."""
TITLES = {
    "difference": "tuned - base", "negated": "base - tuned", "base": "base's own stream",
    "tuned": "tuned's own stream",
}  # fmt: skip
COLUMNS = {
    "token": st.column_config.NumberColumn("token", help="0 = the first after the start token"),
    "text": "text",
    "relative": st.column_config.NumberColumn("relative norm", format="%.1f %%"),
    "norm": st.column_config.NumberColumn("|tuned - base|", format="%.3g"),
    "base": st.column_config.NumberColumn("|base|", format="%.4g"),
    "cosine": st.column_config.NumberColumn("cosine with the rest", format="%.2f"),
    "massive": "massive", "difference": "tuned - base says", "negated": "base - tuned says",
}  # fmt: skip
DEFINITIONS = """
**Live lens.** The prompt runs through base and tuned, and the residual stream after one block is
compared token by token. *Relative norm*: length of tuned - base over the length of base's stream at
the same token. *Cosine with the rest*: with the mean difference of the prompt's other tokens. *One
vector*: n |mean|² / Σ |difference|², 1 when every token moves by the same vector, 1/n when they have
nothing in common. Tokens whose stream is five times as long as is usual in the prompt are *massive* and
left out of these means. *Logit lens*: a vector goes through the final norm and the unembedding, as if
it left the last block; its length does not count. *Patchscope*: the difference takes the place of a
token's stream in the middle of three prompts that make the model repeat words; of 30 lengths, the one
is shown at which the prompts agree most on words that belong together. Method: arXiv:2510.13900; there
the mean over many texts is read, which says more than one token does.
"""


def label(result: LensResult, at: int) -> str:
    """A token by its number, text and relative norm; not escaped."""
    token = result.tokens[at]
    return f"{at}: {tokens.plain(token.token) or 'inside a character'}   {_share(token)}"


def most_moved(result: LensResult) -> int:
    """The ordinary token with the largest relative norm; the first of equals."""
    sizes = [-1.0 if t.massive else t.relative or 0.0 for t in result.tokens]
    return int(np.argmax(sizes))


def strip(result: LensResult, picked: int) -> str:
    """HTML of the prompt, each token coloured by its relative norm."""
    marks = [
        tokens.Mark(
            (token.relative or 0.0) / FULL,
            1.0 if at == picked else None,
            f"token {at}: |tuned - base| is {_share(token)} of base; cosine with the rest "
            f"{_cosine(token)}{'; massive' if token.massive else ''}",
        )
        for at, token in enumerate(result.tokens)
    ]
    words = (f"|tuned - base| / |base|, full colour at {FULL:.0%}", "the token read below")
    body = tokens.strip([t.token for t in result.tokens], marks, COLOURS)
    return tokens.legend(words, COLOURS) + body


def verdict(result: LensResult) -> str:
    """How large the difference is over the prompt, where most, and how constant."""
    ordinary = [t for t in result.tokens if not t.massive]
    left = len(result.tokens) - len(ordinary)
    n = f"n = {len(ordinary)} token{'s' * (len(ordinary) != 1)} of one prompt"
    n += f", {left} massive left out" if left else ""
    if not any(t.norm for t in result.tokens):
        return (
            f"**Nothing differs after layer {result.layer}** ({n}): at strength "
            f"{result.request.scale_lora:g} both streams are the same, so there is nothing to read."
        )
    sizes = [t.relative for t in ordinary if t.relative is not None]
    low, middle, high = np.percentile(sizes, (25, 50, 75))
    most = most_moved(result)
    share = "" if result.offset_share is None else (
        f" One vector explains {result.offset_share:.0%} of it (1/n = {1 / len(ordinary):.0%} is what "
        "tokens with nothing in common give)."
    )  # fmt: skip
    return (
        f"**After layer {result.layer} the difference is {middle:.0%} of base's stream at the median "
        f"token** ({n}; the middle half lies in {low:.0%} to {high:.0%}; one prompt shows an effect, "
        f"it is no test, so there is no interval). Largest at token {most} "
        f"{quoted(tokens.plain(result.tokens[most].token), 40)}, {_share(result.tokens[most])}.{share}"
    )


def readings(token: TokenLens) -> pl.DataFrame:
    """The four readings of one token side by side; an empty column where there is nothing to read."""
    columns = {TITLES[name]: _cells(getattr(token, name)) for name in READINGS}
    ranks = max(map(len, columns.values()))
    filled = {name: [*cells, *[""] * (ranks - len(cells))] for name, cells in columns.items()}
    return pl.DataFrame({"rank": list(range(1, ranks + 1)), **filled})


def scope(said: Sequence[NextToken]) -> pl.DataFrame:
    return pl.DataFrame({"rank": list(range(1, len(said) + 1)), "Patchscope": _cells(said)})


def scoped(said: Scope) -> str:
    """How Patchscope came to these tokens."""
    if not said.score > 0:
        return "No length of the difference makes the prompts agree on words."
    return (
        f"Read at {said.scale:g} times the usual length of the stream; agreement times coherence "
        f"{said.score:.2f}."
    )


def table(result: LensResult) -> pl.DataFrame:
    """One row a token, in the order of the prompt."""
    return pl.DataFrame(
        [
            {
                "token": at,
                "text": tokens.plain(one.token),
                "relative": None if one.relative is None else 100 * one.relative,
                "norm": one.norm,
                "base": one.base_norm,
                "cosine": one.cosine,
                "massive": one.massive,
                **{name: _first(getattr(one, name)) for name in READINGS[:2]},
            }
            for at, one in enumerate(result.tokens)
        ],
        schema_overrides={"relative": pl.Float64, "cosine": pl.Float64},
    )


def _cells(said: Sequence[NextToken]) -> list[str]:
    return [f"{tokens.plain(one.token)}   {one.probability:.1%}" for one in said]


def _first(said: Sequence[NextToken]) -> str:
    return "  ".join(tokens.plain(one.token) for one in said[:3])


def _share(token: TokenLens) -> str:
    return "-" if token.relative is None else f"{token.relative:.0%}"


def _cosine(token: TokenLens) -> str:
    return "not defined" if token.cosine is None else signed(token.cosine)
