"""The artefact checks of one latent, in words: its value, the limit, and what to compare it with."""

from typing import Any, NamedTuple

import polars as pl
import streamlit as st

from lib.metrics.artefacts import (
    ABSENT,
    ALIKE,
    BOUND,
    CHECKS,
    DENSE,
    FOUND,
    MIN_FIRINGS,
    WEAKER,
    check,
)

MISSING = "not measured"
HELP = (
    f"Artefact checks passed, of {len(CHECKS)}: every seed finds it again; it fires often enough "
    "to judge, and not on everything; its class agrees with latent scaling; it is tied to no "
    "single document and to no position. ? = some were not measured. Open a feature for its values."
)
_LIMITS = {
    "new": "nu error < {}, nu rec. < {}".format(*ABSENT),
    "amplified": "nu error < {}, nu rec. < {:g}".format(*WEAKER),
    "shared": "both nu from {} to {}".format(*ALIKE),
    "suppressed": "1 / nu error < {}, 1 / nu rec. < {:g}".format(*WEAKER),
    "eliminated": "1 / nu error < {}, 1 / nu rec. < {}".format(*ABSENT),
    "dead": "a dead feature has no class",
}

_AS_BADGE = {
    "firings": ("enough firings", "few firings", "firings"),
    "density": ("selective", "dense", "density"),
    "scaling": ("class confirmed", "class not confirmed", "class"),
    "document": ("many documents", "one document", "documents"),
    "position": ("many positions", "one position", "positions"),
}


class Line(NamedTuple):
    """One check of one latent."""

    passed: bool | None
    """None = not measured."""
    short: str
    """For a badge."""
    question: str
    value: str
    limit: str
    compare: str
    """What chance, or the other features of this dictionary, would give."""
    share: float | None
    """Of this dictionary's alive features, those that pass; 0..1."""


def badge(passed: int, unknown: int) -> str:
    """``5/6``; with a question mark where some checks were not measured."""
    return f"{passed}/{len(CHECKS)}" + (" ?" if unknown else "")


def lines(row: dict[str, Any], summary: dict[str, Any], seed_chance: float | None) -> list[Line]:
    """The checks of one latent, in the order of ``CHECKS``.

    Args:
        row: of table ``latent``.
        summary: ``check_summary`` of its dictionary.
        seed_chance: best cosine by chance.
    """
    passed = check(pl.DataFrame([row], infer_schema_length=None)).row(0, named=True)
    said = {
        "seeds": _seeds(row, seed_chance),
        "firings": (
            "Does it fire often enough to judge?",
            _form(row["firings"], "{:,} tokens"),
            f"at least {MIN_FIRINGS}",
            _form(summary["mean_firings"], "mean here: {:,.0f} tokens"),
        ),
        "density": (
            "Does it fire selectively?",
            _form(row["frequency"], "on {:.2%} of tokens"),
            f"below {100 * DENSE:.0f} %",
            _form(summary["mean_frequency"], "mean here: {:.2%}"),
        ),
        "scaling": (
            "Does latent scaling confirm its class?",
            _nu(row["nu_eps"], row["nu_r"]),
            _LIMITS[row["class"]],
            "alike in both models: 1",
        ),
        "document": _bound(row, summary, "document", "document"),
        "position": _bound(row, summary, "position", "position in the context"),
    }
    return [
        Line(passed[name], short(name, row, passed[name]), *said[name], summary[name])
        for name in CHECKS
    ]


def short(name: str, row: dict[str, Any], passed: bool | None) -> str:
    """A check in a badge's few words: what is the case, or what was not measured."""
    if name == "seeds":
        return f"survives {row['seeds_found']} of {row['seeds']} seeds" if row["seeds"] else "seeds"
    good, bad, unknown = _AS_BADGE[name]
    return {True: good, False: bad, None: unknown}[passed]


def show(found: list[Line]) -> None:
    """One badge per check, and a table with the values behind them."""
    looks = {True: ("green", "check"), False: ("orange", "close"), None: ("gray", "question_mark")}
    marks = [(looks[line.passed], line.short) for line in found]
    words = " ".join(f":{colour}-badge[:material/{icon}: {text}]" for (colour, icon), text in marks)
    passed = sum(line.passed is True for line in found)
    st.markdown(f"**Artefact checks: {passed} of {len(found)} passed.** {words}")
    with st.expander("Values, limits and what chance would give"):
        st.dataframe(
            pl.DataFrame(
                {
                    "check": [line.question for line in found],
                    "passed": [
                        {True: "yes", False: "no", None: MISSING}[line.passed] for line in found
                    ],
                    "this feature": [line.value for line in found],
                    "limit": [line.limit for line in found],
                    "to compare": [line.compare for line in found],
                    "share": [None if x.share is None else 100 * x.share for x in found],
                },
                schema_overrides={"share": pl.Float64},
            ),
            hide_index=True,
            column_config={
                "share": st.column_config.NumberColumn(
                    "pass here", format="%.0f %%", help="of this dictionary's alive features"
                )
            },
        )


def _seeds(row: dict[str, Any], chance: float | None) -> tuple[str, str, str, str]:
    seeds, found = row["seeds"], row["seeds_found"]
    value = MISSING if seeds is None else f"{found} of {seeds} seeds"
    if row["seed_cosine"] is not None:
        value += f", cosine {row['seed_cosine']:.2f}"
    if row["change_cosine"] is not None:
        value += f", of its change {row['change_cosine']:.2f}"
    return (
        "Do dictionaries of other seeds have it?",
        value,
        f"every seed, cosine {FOUND} or more",
        _form(chance, "chance: cosine {:.2f}"),
    )


def _bound(
    row: dict[str, Any], summary: dict[str, Any], name: str, what: str
) -> tuple[str, str, str, str]:
    share = row[f"top_{name}"]
    value = _form(share, "{:.1%} of its firings in one")
    if name == "document" and row["documents"] is not None:
        value += f" of {row['documents']:,}"
    return (
        f"Is it tied to no single {what}?",
        value,
        f"below {100 * BOUND:.0f} % in one",
        _form(summary[f"top_{name}"], "median here: {:.1%}"),
    )


def _nu(nu_eps: float | None, nu_r: float | None) -> str:
    if nu_eps is None or nu_r is None:
        return MISSING
    return f"nu error {nu_eps:.2f}, nu rec. {nu_r:.2f}"


def _form(value: float | int | None, form: str) -> str:
    return MISSING if value is None else form.format(value).replace("%", " %")
