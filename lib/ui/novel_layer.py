"""Novel features of one dictionary: counts, shares, and the same in its null control, in words.

Pure but for ``panel``.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl
import streamlit as st

from lib.metrics.shares import Share, excess, wilson
from lib.ui import reads

FEW = 10
"""A count below this is given without a quotient over the null."""
KINDS = {"strict": "strict: norm and scaling", "loose": "loose: norm alone"}
Row = Mapping[str, object]


class Novel(NamedTuple):
    """One definition of novel in one dictionary."""

    count: int
    share: Share
    """Of the alive latents."""
    energy: float
    """Share of all latents' energy, in [0, 1]."""
    null_draws: int
    null: float | None
    """Mean count of the random-LoRA draws; None without any."""
    null_energy: float | None
    above: Share | None
    """Share of alive latents above the null's share, with its interval; None without a null."""
    over: float | None
    """Share over the null's share; None when either count is under ``FEW`` or there is no null."""


def novel(row: Row, kind: str) -> Novel | None:
    """One definition of ``KINDS``; None where no latent is alive.

    Args:
        row: of ``lib.store.novelty.novelty``.
    """
    if not row["alive"]:
        return None
    count, share = row[kind], wilson(row[kind], row["alive"])
    draws, mean = row["null_draws"], row[f"null_{kind}"]
    if not draws or not row["null_alive"]:
        return Novel(count, share, row[f"energy_{kind}"], 0, None, None, None, None)
    total, alive = round(mean * draws), round(row["null_alive"] * draws)
    null = wilson(total, alive)
    over = share.value / null.value if count >= FEW and total >= FEW else None
    return Novel(count, share, row[f"energy_{kind}"], draws, mean, row[f"null_energy_{kind}"],
                 excess(share, null), over)  # fmt: skip


def table(row: Row) -> pl.DataFrame:
    """One row of text per definition."""
    found = {kind: novel(row, kind) for kind in KINDS}
    return pl.DataFrame(
        [{
            "novel features": name,
            "count": f"{n.count:,} of {row['alive']:,} alive",
            "share of alive (95 %)": _interval(n.share),
            "share of energy": _percent(n.energy),
            "null count (random LoRA)": _null(n),
            "minus the null": _minus(n),
            "above null, share of alive (95 %)": _interval(n.above) if n.above else "not defined",
            "over the null": _over(n),
            "null, share of energy": _percent(n.null_energy),
        } for kind, name in KINDS.items() if (n := found[kind]) is not None]
    )  # fmt: skip


def said(row: Row | None, layer: int) -> str:
    """Counts, null and what the dictionary could have found at all, in words."""
    if row is None:
        return f"Novel features of layer {layer} were not counted."
    strict, loose = novel(row, "strict"), novel(row, "loose")
    if strict is None or loose is None:
        return f"Novel features are **not defined because** no latent of layer {layer} is alive."
    text = (
        f"**Novel features: {strict.count:,} strict and {loose.count:,} loose, of {row['alive']:,} "
        f"alive** ({_percent(strict.energy)} and {_percent(loose.energy)} of the energy). "
    )
    if strict.null is None or loose.null is None:
        text += "Their null count was not measured for this experiment, so none is taken off. "
    else:
        plural = "s" * (strict.null_draws != 1)
        text += (
            f"A random LoRA of the same size gives {strict.null:g} and {loose.null:g} (n = "
            f"{strict.null_draws} draw{plural}); that leaves {_minus(strict)} and {_minus(loose)}. "
        )
    if row["unscaled"]:
        text += f"{row['unscaled']:,} of the loose ones have no nu and so are not strict. "
    if strict.count < FEW or loose.count < FEW:
        text += f"Counts under {FEW} are given without a quotient. "
    return text + _seen(row, loose.count)


def panel(experiment_id: str, layer: int) -> None:
    """One sentence, and a small table one click away."""
    rows = reads.novelty().filter(experiment_id=experiment_id, layer=layer)
    row = rows.row(0, named=True) if len(rows) else None
    st.markdown(said(row, layer))
    if row is not None and row["alive"]:
        with st.expander("Novel features beside their null: shares, intervals, n"):
            st.dataframe(table(row), hide_index=True, width="stretch", key="features:novel",
                         column_config=_HELP)  # fmt: skip


def _seen(row: Row, loose: int) -> str:
    share = row["fve_difference"]
    if share is None:
        return "How much of the change this dictionary sees was not measured."
    null = row.get("null_fve_difference")
    beside = "" if null is None else f" (of a random LoRA's: {100 * null:.0f} %)"
    text = f"This dictionary sees {100 * max(share, 0):.0f} % of the change{beside}"
    if loose:
        return f"{text}; in the rest there may be more."
    return f"{text}: **none found is not none there**."


def _null(n: Novel) -> str:
    return "not measured" if n.null is None else f"{n.null:g} (n = {n.null_draws})"


def _minus(n: Novel) -> str:
    return "not defined" if n.null is None else _signed(n.count - n.null)


def _over(n: Novel) -> str:
    if n.over is not None:
        return f"{n.over:.1f}\u00d7"
    return "no null" if n.null is None else f"a count is under {FEW}"


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "\u2212") if value else "0"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{_short(100 * share)} %"


def _interval(share: Share) -> str:
    value, low, high = (_short(100 * v) for v in share)
    return f"{value} % ({low} to {high})"


def _short(value: float) -> str:
    return (f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}").replace("-", "\u2212")


_HELP = {
    "count": st.column_config.TextColumn(
        help="Latents of class new; strict: nu error < 0.2 and nu reconstruction < 0.5 as well. n = "
        "the alive latents of this dictionary."
    ),
    "share of alive (95 %)": st.column_config.TextColumn(help="Wilson's interval; null beside it"),
    "share of energy": st.column_config.TextColumn(
        help="E[a²]·|d_tuned|² of these latents over that of all; no interval is stored"
    ),
    "null count (random LoRA)": st.column_config.TextColumn(
        help="Mean count over adapters of random directions with the same norm per matrix"
    ),
    "above null, share of alive (95 %)": st.column_config.TextColumn(
        help="Difference of the two shares; Newcombe's interval, counts taken as independent"
    ),
    "over the null": st.column_config.TextColumn(
        help=f"Share over the null's share; only where both counts are {FEW} or more"
    ),
}
