"""The Steering view: what the model writes along the difference, and whose text that is like."""

from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from lib.figures.lens_dots import Dot, search, similarities
from lib.lens.similarity import Similarity, Verdict, verdict
from lib.metrics.intervals import Interval
from lib.metrics.shares import wilson
from lib.ui import lens_reads, lens_texts, tables

WANTED = 0.8
"""Share of samples that must stay coherent: ``lib.lens.coherence.WANTED``, which brings torch along."""
MEASURES = {"tfidf": "words and pairs of words (TF-IDF)"}
_COLUMNS = {
    "kind": ("text", None), "corpus": ("corpus", None), "own": ("is its own", None),
    "similarity": ("similarity, 0 to 1", "%.3f"), "low": ("95 % low", "%.3f"),
    "high": ("95 % high", "%.3f"), "n": ("prompts", "%d"),
}  # fmt: skip
_HELPS = {
    "similarity": "cosine with the corpus, mean over prompts; null: the unsteered text",
    "low": "bootstrap over prompts", "high": "bootstrap over prompts",
}  # fmt: skip


def show(experiment_id: str, run: dict[str, Any]) -> None:
    """How far it was pushed, the verdict, whose text it is like, and every text."""
    rows = lens_reads.table("steering", experiment_id).to_dicts()
    if not rows:
        st.info(f"`{experiment_id}` was not steered (`lens: {{samples: 0}}` in its recipe). Set it to "
                "1 or more and run this again:")  # fmt: skip
        st.code(lens_reads.command(experiment_id), language="bash")
        return
    row = rows[0]
    written = lens_reads.table("generation", experiment_id)
    similar = lens_reads.table("similarity", experiment_id)
    left, right = st.columns([1.35, 1], gap="medium")
    with left:
        st.markdown("**Whose text is it like?**")
        _dots(similar, run["corpus"], row["measure"])
    with right:
        st.markdown("**How far can it be pushed?**")
        samples = written.filter(kind="unsteered").height
        if row["tried"]:
            st.plotly_chart(
                search(row["tried"], row["tried_coherent"], row["coefficient"], WANTED, samples),
                config={"displayModeBar": False}, key="lens:search",
            )  # fmt: skip
    found = judged(similar, run["corpus"])
    st.markdown(sentence(found, run["corpus"], row["measure"], similar["prompts"].list.len().max()))
    st.markdown(pushed(row, written, run["layer"]))
    lens_texts.show(written)
    with st.expander("Every similarity"):
        shown = similar.with_columns(
            n=pl.col("prompts").list.len(),
            own=pl.when(pl.col("corpus") == run["corpus"]).then(pl.lit("yes")).otherwise(pl.lit("")),
        )  # fmt: skip
        tables.show(shown, _COLUMNS, name="lens_similarity", helps=_HELPS)


def pushed(row: dict[str, Any], written: pl.DataFrame, layer: int) -> str:
    """Coefficient and coherence, steered and not, with n and interval."""
    where = f"the mean difference of position {row['position']} at layer {layer}"
    if row["coefficient"] == 0:
        return f"**Nothing was added along {where}.** {row['note']}"
    shares = {}
    for kind in ("steered", "unsteered"):
        part = written.filter(kind=kind)
        held = wilson(int(part["coherent"].sum()), len(part)) if len(part) else None
        shares[kind] = "not measured" if held is None else (
            f"{100 * held.value:.0f} % (95 % {100 * held.low:.0f} to {100 * held.high:.0f} %, "
            f"n = {len(part)} texts)"
        )  # fmt: skip
    return (
        f"**Pushed by {row['coefficient']:.3g} \u03b7 along {where}**, the largest push tried that "
        f"leaves {100 * WANTED:.0f} % of the texts coherent: {shares['steered']}; without a push "
        f"{shares['unsteered']}. Coherent: no loops, and at most {row['loss_bound']:.2f} nats per "
        f"token for the base. {row['tokens']} tokens a text, temperature {row['temperature']:g}."
    )


def judged(similar: pl.DataFrame, own: str) -> Verdict | None:
    """None without steered text, or without another corpus to compare with."""
    kinds = {kind: _similarity(similar.filter(kind=kind)) for kind in ("steered", "unsteered")}
    steered, unsteered = kinds["steered"], kinds["unsteered"]
    if steered is None or unsteered is None or own not in steered.corpora:
        return None
    return verdict(steered, unsteered, own) if len(steered.corpora) > 1 else None


def _similarity(rows: pl.DataFrame) -> Similarity | None:
    if rows.is_empty():
        return None
    rows = rows.sort("corpus")
    values = np.array(rows["prompt_similarity"].to_list(), dtype=np.float64).T
    return Similarity(np.array(rows["prompts"][0].to_list()), tuple(rows["corpus"]), values)


def sentence(found: Verdict | None, own: str, measure: str, prompts: int | None) -> str:
    """Is steered text nearer to the corpus, and more so than to others: differences with intervals."""
    if found is None:
        return "**No verdict: there is no steered text to compare, or only one corpus.**"
    if not found.nearer_than_unsteered:
        start = f"Steering does not bring the text nearer to {own} than chance would"
    elif found.selective.low is not None and found.selective.low > 0:
        start = f"Steering brings the text nearer to {own}, and more than to any other corpus"
    else:
        start = (
            f"Steering brings the text nearer to {own}, but the gain cannot be told from that to "
            f"{found.gained_other}"
        )
    nearest = "is nearest to it" if found.nearest else "is not clearly nearest to it"
    return (
        f"**{start}** (similarity by {MEASURES.get(measure, measure)}: {_signed(found.gain)} against "
        f"unsteered text; gain over {found.gained_other}'s {_signed(found.selective)}; n = {prompts} "
        f"prompts). Steered text {nearest}: {_signed(found.margin)} against {found.nearest_other}."
    )


def _signed(found: Interval) -> str:
    def shown(value: float) -> str:
        return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "\u2212")

    if found.low is None or found.high is None:
        return f"{shown(found.value)} (no interval: one prompt)"
    return f"{shown(found.value)} (95 % {shown(found.low)} to {shown(found.high)})"


def _dots(similar: pl.DataFrame, own: str, measure: str) -> None:
    corpora = similar.group_by("corpus").agg(pl.max("similarity")).sort("similarity")
    others = [name for name in reversed(corpora["corpus"].to_list()) if name != own]
    named = {own: f"<b>{own}</b> (own)"} | {name: name for name in others}
    dots = {
        kind: [
            Dot(named[r["corpus"]], r["similarity"], r["low"], r["high"], _hover(r, measure))
            for r in similar.filter(kind=kind).iter_rows(named=True)
        ]
        for kind in ("steered", "unsteered")
    }
    figure = similarities(dots, list(named.values()), "similarity (cosine, 0 = no word in common)")
    st.plotly_chart(figure, config={"displayModeBar": False}, key="lens:similarity")


def _hover(row: dict[str, Any], measure: str) -> str:
    span = "" if row["low"] is None else f" (95 % {row['low']:.3f} to {row['high']:.3f})"
    null = "; null: the hollow dot" if row["kind"] == "steered" else "; this is the null"
    return (
        f"{row['kind']} text to {row['corpus']}: {row['similarity']:.3f}{span}"
        f"<br>n = {len(row['prompts'])} prompts; {MEASURES.get(measure, measure)}{null}"
    )
