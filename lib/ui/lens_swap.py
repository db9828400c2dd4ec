"""The Causal test view: is the tuned model worse with base activations along the difference?"""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from lib.figures.lens_dots import Dot, Strip, changes
from lib.lens.against import BOTH, RANDOM, RANDOM_DIFFERENCE, Against, Row, against
from lib.metrics.statistics import holm
from lib.ui import cache, lens_reads, tables
from lib.ui.lens_words import number

CONTROLS = {RANDOM_DIFFERENCE: "differences of base tokens", RANDOM: "random directions"}
LEVEL = 0.05
_COLUMNS = {
    "text": ("text", None), "position": ("position", "%d"), "control": ("against", None),
    "change": ("change, nats per token", "%.4f"), "low": ("95 % low", "%.4f"),
    "high": ("95 % high", "%.4f"), "gap": ("share of the gap", "percent"),
    "control_change": ("controls", "%.4f"), "excess": ("excess", "%.4f"),
    "excess_low": ("excess low", "%.4f"), "excess_high": ("excess high", "%.4f"),
    "p": ("p", "%.3f"), "p_holm": ("p, Holm", "%.3f"), "p_min": ("smallest p", "%.3f"),
    "draws": ("draws", "%d"), "documents": ("documents", "%d"),
}  # fmt: skip
_HELPS = {
    "change": "of the tuned model's loss; positive = worse without this direction",
    "low": "bootstrap over documents",
    "gap": "change / (base loss - tuned loss), which is held; empty where tuned is no better",
    "control_change": "mean over the draws: the null",
    "excess": "change less the mean of the control's draws",
    "excess_low": "documents and draws drawn anew",
    "p": "(1 + draws that change at least as much) / (draws + 1), one-sided",
    "p_holm": "corrected over the positions",
    "p_min": "what so many draws can give at best, uncorrected",
}


@st.cache_data(max_entries=32, show_spinner=False)
def _against(store_id: str, experiment_id: str) -> list[Against]:
    return against(_rows(experiment_id))


def _rows(experiment_id: str) -> list[Row]:
    fields = set(Row._fields)
    return [
        Row(**{name: tuple(value) if isinstance(value, list) else value
               for name, value in row.items() if name in fields})
        for row in lens_reads.table("swap", experiment_id).iter_rows(named=True)
    ]  # fmt: skip


def show(experiment_id: str, run: dict[str, Any]) -> None:
    """Verdict, strips of both texts, and every comparison."""
    rows = _rows(experiment_id)
    if not any(row.position >= 0 for row in rows):
        st.info(f"`{experiment_id}` has no swap: there is no difference to project on, or its recipe "
                "has `lens: {draws: 0}`. This command makes it:")  # fmt: skip
        st.code(lens_reads.command(experiment_id), language="bash")
        return
    found = _against(cache.store_id(), experiment_id)
    titles = {text: f"{run['corpus']}, held out" if text == "corpus" else f"{text} text"
              for text in dict.fromkeys(row.text for row in rows)}  # fmt: skip
    gaps = {row.text: row.base_loss - row.tuned_loss for row in rows}
    st.plotly_chart(
        figure(rows, found, titles, gaps), config={"displayModeBar": False}, key="lens:swap"
    )
    for text, title in titles.items():
        own = main([one for one in found if one.text == text])
        st.markdown(sentence(title, own, gaps[text]))
    st.markdown(f"{specific(found)} {limits(found)}")
    losses = {row.text: (row.tuned_loss, row.base_loss, sum(row.document_tokens)) for row in rows}
    st.caption("; ".join(
        f"{titles[text]}: tuned {tuned:.2f}, base {base:.2f} nats per token, n = {n} tokens"
        for text, (tuned, base, n) in losses.items()
    ) + f". Block {run['layer']}, every position of the text.")  # fmt: skip
    with st.expander("Every comparison"):
        tables.show(frame(found, titles, gaps), _COLUMNS, name="lens_swap", helps=_HELPS)


def main(found: Sequence[Against]) -> list[Against]:
    """Against both kinds of control together, or the one there is."""
    both = [one for one in found if one.control == BOTH]
    return both or list(found)


def sentence(title: str, found: Sequence[Against], gap: float) -> str:
    """Excess over the controls: the interval first, at the position with the most, then over all."""
    if not found:
        return f"**{title}: no controls were run, so there is nothing to hold the change against.**"
    top = max(found, key=lambda one: one.excess)
    above = [one for one in found if one.excess_low is not None and one.excess_low > 0]
    positions = sorted({one.position for one in found})
    least = min(one.excess for one in found)
    share = (
        f", {100 * top.change / gap:.0f} % of what the fine-tune gained there" if gap > 0 else ""
    )
    verb = "gets worse" if top.change > 0 else "gets better"
    return (
        f"**{title}: 95 % {_nats(top.excess_low)} to {_nats(top.excess_high)} nats per token more "
        f"than with control directions** ({_nats(top.excess)} at position {top.position}, the most "
        f"of {len(positions)}, where the tuned model {verb} by {abs(top.change):.3f} in all{share}; "
        f"least {_nats(least)}; n = {top.documents} documents, {top.draws} control draws with mean "
        f"{_nats(top.control_change)}). The interval of this excess lies above 0 at {len(above)} of "
        f"{len(positions)} positions."
    )  # fmt: skip


def specific(found: Sequence[Against]) -> str:
    """Whether the direction matters for unrelated text as well."""
    above = {
        text: sum(
            one.excess_low is not None and one.excess_low > 0
            for one in main([one for one in found if one.text == text])
        )
        for text in dict.fromkeys(one.text for one in found)
    }
    own, neutral = above.get("corpus", 0), above.get("neutral", 0)
    if not own:
        return "**The direction is not shown to carry the fine-tune.**"
    if neutral:
        return (
            "**The direction carries the fine-tune, and not the corpus alone**: neutral text gets "
            f"worse without it too, at {neutral} positions."
        )
    return "**The direction carries the fine-tune on its corpus, and on neutral text not.**"


def limits(found: Sequence[Against]) -> str:
    """What the number of draws lets p say, computed."""
    own = main(found)
    if not own:
        return ""
    positions = len({one.position for one in own})
    draws, smallest = own[0].draws, own[0].p_min
    best = min(smallest * positions, 1.0)
    able = "cannot reach" if best >= LEVEL else "can reach"
    return (
        f"Read the intervals: with {draws} draws the smallest p is {number(smallest)}, times "
        f"{positions} positions (Holm) {number(best)}, so a corrected p {able} {LEVEL:g} here. The "
        "intervals are not corrected for the number of positions."
    )


def figure(
    rows: Sequence[Row], found: Sequence[Against], titles: dict[str, str], gaps: dict[str, float]
) -> go.Figure:
    """Dots of the difference at every position over strips of control draws, a panel per text."""
    positions = sorted({row.position for row in rows if row.position >= 0})
    kinds = [kind for kind in CONTROLS if any(row.direction == kind for row in rows)]
    labels = [f"position {j}" for j in positions] + [CONTROLS[kind] for kind in kinds]
    dots, strips = {}, {}
    for text, title in titles.items():
        dots[title] = [
            Dot(f"position {one.position}", one.change, one.low, one.high, _hover(one, gaps[text]))
            for one in main([one for one in found if one.text == text])
        ] or [
            Dot(f"position {r.position}", r.change, None, None, f"{r.change:.4f} nats per token")
            for r in rows if r.text == text and r.position >= 0
        ]  # fmt: skip
        strips[title] = [_strip(rows, text, kind) for kind in kinds]
    return changes(dots, strips, labels)


def _strip(rows: Sequence[Row], text: str, kind: str) -> Strip:
    part = [row for row in rows if row.text == text and row.direction == kind]
    hovers = [
        f"{CONTROLS[kind]}, draw {row.draw + 1} of {len(part)}: {_nats(row.change)} nats per token"
        f"<br>n = {len(row.document_tokens)} documents; this is the null"
        for row in part
    ]
    return Strip(CONTROLS[kind], tuple(row.change for row in part), tuple(hovers))


def _hover(one: Against, gap: float) -> str:
    share = f"<br>{100 * one.change / gap:.0f} % of the gap of {gap:.2f} nats" if gap > 0 else ""
    span = "" if one.low is None else f" (95 % {_nats(one.low)} to {_nats(one.high)})"
    return (
        f"difference at position {one.position}: {_nats(one.change)} nats per token{span}{share}"
        f"<br>null: {_nats(one.control_change)}, mean of {one.draws} draws; excess "
        f"{_nats(one.excess)} ({_nats(one.excess_low)} to {_nats(one.excess_high)})"
        f"<br>p = {number(one.p)} (smallest {number(one.p_min)}); n = {one.documents} documents"
    )


def frame(found: Sequence[Against], titles: dict[str, str], gaps: dict[str, float]) -> pl.DataFrame:
    """One row for every text, position and kind of control."""
    corrected: dict[tuple[str, int, str], float] = {}
    for text, control in dict.fromkeys((one.text, one.control) for one in found):
        part = [one for one in found if (one.text, one.control) == (text, control)]
        for one, p in zip(part, holm([one.p for one in part]), strict=True):
            corrected[text, one.position, control] = float(p)
    rows = [
        one._asdict() | {
            "text": titles[one.text],
            "control": CONTROLS.get(one.control, "both kinds"),
            "gap": one.change / gaps[one.text] if gaps[one.text] > 0 else None,
            "p_holm": corrected[one.text, one.position, one.control],
        }
        for one in found
    ]  # fmt: skip
    columns = {name: pl.Float64 for name in ("low", "high", "excess_low", "excess_high", "gap")}
    return pl.DataFrame(rows, schema_overrides=columns, infer_schema_length=None)


def _nats(value: float | None) -> str:
    if value is None:
        return "not defined"
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "\u2212")
