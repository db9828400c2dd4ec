"""The tiles over one latent: its numbers, each with its meaning, n and what to hold it against."""

from typing import Any

import streamlit as st

WEIGHTS = (
    "A property of the trained weights, so it has no n; stored without an interval. Other seeds "
    "under the artefact checks say how far it returns."
)
FIRES = "on which it fires"


def _over(n: int | None, which: str = "") -> str:
    """How many tokens stand behind a tile, and that it has no interval."""
    count = "n is not stored" if n is None else f"n = {n:,} tokens{f' {which}' if which else ''}"
    return f"{count}; stored without an interval."


def show(row: dict[str, Any], n_tokens: int | None, chance: float | None) -> None:
    """The tiles; each one's help says what it is, over how many tokens, and what to hold it against.

    Args:
        n_tokens: training and held-out tokens of the dictionary.
        chance: best cosine by chance between dictionaries of other seeds.
    """
    often = 1 if (row["frequency"] or 0) >= 0.1 else 3
    values = (
        ("Norm, base", _digits(row["norm_base"], "#.3g"),
         f"Length of the decoder row, base side. {WEIGHTS}"),
        ("Norm, tuned", _digits(row["norm_tuned"], "#.3g"),
         f"Length of the decoder row, tuned side. {WEIGHTS}"),
        ("Relative norm", _digits(row["delta_norm"], ".3f"),
         f"0 base only, 0.5 equal = no change, 1 tuned only. {WEIGHTS}"),
        ("Cosine", _digits(row["cosine"], ".3f"),
         f"Of the base and the tuned direction; 1 = no change. {WEIGHTS}"),
        ("Of the difference", _percent(row["difference_share"], 2),
         f"Share of all features'. {_over(n_tokens)} No null is stored: an even spread would give "
         "every alive feature the same."),
        ("Fires on", _percent(row["frequency"], often),
         f"Share of training and held-out tokens. {_over(n_tokens)}"),
        ("nu, error", _digits(row["nu_eps"], ".2f"),
         f"Base / tuned, in what is unexplained; 1 = alike in both. {_over(row['firings'], FIRES)}"),
        ("nu, reconstr.", _digits(row["nu_r"], ".2f"),
         f"Base / tuned, in what others explain; 1 = alike in both. {_over(row['firings'], FIRES)}"),
    )  # fmt: skip
    for column, (label, value, meaning) in zip(st.columns(len(values)), values, strict=True):
        column.metric(label, value, help=meaning)
    if n_tokens is not None:
        told = (
            ""
            if chance is None
            else f"; chance gives decoders of two seeds a cosine of {chance:.2f}"
        )
        st.caption(
            f"n = {n_tokens:,} tokens, of which it fires on {row['firings'] or 0:,}; these numbers are "
            f"stored without an interval{told} (see the artefact checks)."
        )
    st.caption(nu_words(row["nu_eps"], row["nu_r"]))


def nu_words(nu_eps: float | None, nu_r: float | None) -> str:
    """What latent scaling says about one latent, in plain words."""
    if nu_eps is None or nu_r is None:
        return "Latent scaling is not defined here (too little of it on the tuned side)."
    if nu_eps < 0.2 and nu_r < 0.5:
        return "Both are small: the base model has next to nothing of this feature."
    parts = []
    if nu_eps >= 0.2:
        parts.append(
            "What the dictionary leaves unexplained holds this direction in the base "
            f"{nu_eps:.2f} times as strongly as in the tuned model: the base has it as well, "
            "whatever its decoder norm says."
        )
    if nu_r >= 0.5:
        parts.append(
            f"The other features write it into the base {nu_r:.2f} times as strongly as into the "
            "tuned model."
        )
    return " ".join(parts)


def _digits(value: float | None, form: str) -> str:
    return "not measured" if value is None else format(value, form)


def _percent(share: float | None, decimals: int) -> str:
    return "not measured" if share is None else f"{100 * share:.{decimals}f} %"
