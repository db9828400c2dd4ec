"""The Robustness view: is the mean difference one shift for every context? One table, one verdict."""

import html
from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from lib.figures import theme
from lib.lens.shift import EXPLAINED, NO, UNSURE, YES, Answer, Check, family, verdict
from lib.ui import lens_reads, lens_tokens, lens_words, tables
from lib.ui.lens_grid import Column, beside, cell, grid, legend
from lib.ui.lens_robustness_words import RULE, by_position, title

SIGNS = {YES: "\u2713", NO: "\u2717", UNSURE: "?"}
_TINTS = {YES: theme.fill("#009E73", 0.22), NO: theme.fill("#D55E00", 0.22), UNSURE: theme.SHADE}
_MAIN = {"growth": "slope", "base_head": "overlap", "halves": "cosine"}
"""What a row shows of a check: the number that decides, else the one there is; the share otherwise."""
MEASURES = {
    "share": "share in common", "cosine": "cosine", "slope": "log-log slope",
    "overlap": "tokens in common", "norm_ratio": "norm ratio",
}  # fmt: skip
READ = ("lens", "demeaned", "svd_1", "svd_2", "svd_3", "whitespace", "far", "bos")
SHOWN = 10
"""Tokens of each of these readings."""
_COLUMNS = {
    "check": ("check", None), "position": ("position", "%d"), "measure": ("measure", None),
    "value": ("value", "%.3f"), "low": ("95 % low", "%.3f"), "high": ("95 % high", "%.3f"),
    "shift": ("one shift gives", "%g"), "n": ("n", "%d"),
}  # fmt: skip
_HELPS = {
    "position": "of the mean difference; -1 = over positions",
    "low": "over resampled texts; empty where it is no mean over texts",
    "shift": "one vector that every context gets: the null of this panel",
    "n": "texts; tokens for an overlap",
}


def show(experiment_id: str, run: dict[str, Any], position: int) -> None:
    """Verdict, the table of checks, the readings of their vectors, every number."""
    rows = ordered(lens_reads.table("robustness", experiment_id))
    checks = [
        Check(row.pop("check_name"), **row)
        for row in rows.drop("experiment_id").iter_rows(named=True)
    ]
    found = verdict(checks)
    named = tuple(answer._replace(check=title(answer.check)) for answer in found.answers)
    st.markdown(f"**{found._replace(answers=named).in_words}** {RULE}\n\n{by_position(checks)}")
    st.html(panel(checks, found.answers))
    st.caption(
        "*One shift gives*: the value if the fine-tune added one and the same vector in every context. "
        "\u2713 the whole interval is nearer to that, \u2717 the whole interval is not, ? cannot say: "
        "the interval holds the threshold (share one half, slope 1 \u00b1 0.5) or there is none. n and "
        "the other measures: point at a number. "
        "Checks in **bold** change text or position and decide. Those of the start token do not: many "
        "models park attention there, with activations tens of times as long as elsewhere, so it is "
        "no measure of other tokens. The rest, *for comparison* where they have no threshold, do not "
        "tell a shift from a change with context."
    )
    _readings(experiment_id, run, position)
    with st.expander("Every number of the checks"):
        named = rows.with_columns(
            check=pl.col("check_name").map_elements(title, return_dtype=pl.String)
        )
        tables.show(named, _COLUMNS, name="lens_robustness", helps=_HELPS)


def ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """Checks in the order in which ``EXPLAINED`` tells of them, far ones by distance."""
    known = list(EXPLAINED)

    def place(check: str) -> tuple[int, int]:
        kind = family(check)
        return known.index(kind), int(check.removeprefix("far_")) if kind == "far" else 0

    names = sorted(rows["check_name"].unique(), key=place)
    return rows.sort(
        pl.col("check_name").replace_strict(names, range(len(names))), maintain_order=True
    )


def panel(checks: Sequence[Check], answers: Sequence[Answer]) -> str:
    """HTML of the one table: a row for every check, a cell for every position."""
    # The base's head has no threshold: "cannot say" beside the value of a shift would only puzzle.
    by_name = {answer.check: answer for answer in answers if answer.check != "base_head"}
    positions = sorted({check.position for check in checks if check.position >= 0})
    heads = ["check", "what it looks at", *(f"position {j}" for j in positions), "one shift gives",
             "one shift?"]  # fmt: skip
    widths = [15, 25, *([44 / max(len(positions), 1)] * len(positions)), 7, 9]
    rows = [
        _row(name, [c for c in checks if c.name == name], by_name.get(name), positions)
        for name in dict.fromkeys(check.name for check in checks)
    ]
    return (
        '<div style="overflow-x:auto"><table style="width:100%;min-width:46rem;table-layout:fixed;'
        'border-collapse:collapse;font-size:0.84rem;line-height:1.3"><colgroup>'
        + "".join(f'<col style="width:{width:.1f}%">' for width in widths)
        + "</colgroup><thead><tr>"
        + "".join(f'<th scope="col" style="{_CELL};opacity:0.7">{head}</th>' for head in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


_CELL = "padding:3px 6px;text-align:left;font-weight:400;vertical-align:top"


def _row(name: str, checks: list[Check], answer: Answer | None, positions: Sequence[int]) -> str:
    measure = _MAIN.get(family(name), "share")
    own = {check.position: check for check in checks if check.measure == measure}
    decides = answer is not None and answer.decides
    weight = "font-weight:700" if decides else ""
    shift = f"{next(iter(own.values())).shift:g}" if own else ""
    if -1 in own:
        cells = _value(own[-1], checks, span=len(positions))
    else:
        cells = "".join(
            _value(own[j], [c for c in checks if c.position == j]) if j in own
            else f'<td style="{_CELL}">not measured</td>'
            for j in positions
        )  # fmt: skip
    says = "for comparison" if answer is None else f"{SIGNS[answer.says]} {answer.says}"
    tint = "" if answer is None else f";background:{_TINTS[answer.says]}"
    what = "share of their squares" if name.startswith("svd") else MEASURES[measure]
    looks = f"{EXPLAINED.get(family(name), '')} ({what})"
    return (
        '<tr style="border-top:1px solid rgba(138,143,152,0.3)">'
        f'<th scope="row" style="{_CELL};{weight}">{html.escape(title(name))}</th>'
        f'<td style="{_CELL};opacity:0.85">{html.escape(looks)}</td>{cells}'
        f'<td style="{_CELL}">{shift}</td><td style="{_CELL}{tint};{weight}">{says}</td></tr>'
    )


def _value(check: Check, beside_it: Sequence[Check], span: int = 1) -> str:
    """Value, interval, and a sign of what this position alone says."""
    answers = verdict(list(beside_it)).answers
    said = answers[0].says if answers and check.position >= 0 else None
    sign = "" if said is None else f"{SIGNS[said]} "
    tint = "" if said is None else f";background:{_TINTS[said]}"
    value = "not defined" if check.value is None else f"{check.value:.2f}"
    held = "" if check.low is None or check.high is None else f"{check.low:.2f} to {check.high:.2f}"
    every = "; ".join(_told(one) for one in beside_it)
    return (
        f'<td colspan="{span}" style="{_CELL}{tint}" title="{html.escape(every, quote=True)}">'
        f'{sign}{value}<br><span style="opacity:0.7;font-size:0.76rem">{held}</span></td>'
    )


def _told(one: Check) -> str:
    value = "not defined (no longer than its noise)" if one.value is None else f"{one.value:.3g}"
    held = "" if one.low is None else f" (95 % {one.low:.3g} to {one.high:.3g})"
    return f"{MEASURES[one.measure]} {value}{held}, one shift gives {one.shift:g}, n = {one.n}"


def _readings(experiment_id: str, run: dict[str, Any], position: int) -> None:
    """What the vectors of the checks read as, beside the lens itself."""
    rows = lens_reads.readings(experiment_id, run["layer"])
    own, columns = frozenset(run["words"]), []
    for name in READ:
        kept = rows.filter(pl.col("reading") == name, pl.col("position").is_in([position, -1]))
        for row in kept.iter_rows(named=True):
            overlap = lens_words.overlaps([row], run)[0]
            listed = zip(row["tokens"], row["words"], row["shares"], strict=True)
            columns.append(
                Column(
                    head=lens_tokens.READINGS[name], note="",
                    tooltip=f"{SHOWN} of {len(row['tokens'])} tokens",
                    cells=tuple(
                        cell(token, word, share, rank, own, run["corpus"])
                        for rank, (token, word, share) in enumerate(list(listed)[:SHOWN], 1)
                    ),
                    foot=(f"{overlap.found.overlap} of {overlap.found.read}",),
                )
            )  # fmt: skip
    st.subheader(f"What these vectors read as, position {position}", anchor=False)
    st.html(legend(run["corpus"]))
    st.html(beside([grid(f"Strongest {SHOWN} tokens, layer {run['layer']}", columns)]))
