"""The Directions view: how far from chance, and how far from another seed, never a bare angle."""

from collections import Counter

import polars as pl
import streamlit as st

from lib.figures.geometry import Mark, Panel, directions
from lib.ui import geometry_reads, tables
from lib.ui.geometry_words import AGAINST, RELATED, SCORES, distance_words, number, plus

ROWS = [AGAINST[name] for name in ("pretrained", "adapter_seeds", "pretrained_seeds")]
KINDS = {
    "new": ("new", "no nearer to the pretrained one than chance, though another seed finds them"),
    "partly": ("partly new", "nearer than chance, less near than another seed of the adapter SAE"),
    "old": ("not new", "as near as another seed of the adapter SAE"),
    "unclear": ("undecided", "another seed of the adapter SAE is no nearer than chance"),
    "related": ("unreadable", "the simulated chance is related to the rows"),
}  # fmt: skip
"""What one rank's three distances say together: the word, and what it means."""
_COLUMNS = {
    "rank": ("rank", "%d"), "score": ("score", None), "against": ("compared", None),
    "nearer": ("nearer than chance, sd", "%.2f"), "null_half": ("95 % of chance, \u00b1 sd", "%.2f"),
    "errors": ("standard errors", "%.1f"), "chance": ("chance level", "%.3f"),
    "value": ("beside it: bare value", "%.3f"), "chance_sd": ("sd of chance", "%.4f"),
    "expected": ("random rows, exact", "%.3f"), "n": ("n", "%d"), "k": ("k", "%d"),
}  # fmt: skip
_HELPS = {
    "nearer": "(value - chance) / sd of one chance score, angles turned round: more = nearer",
    "null_half": "what unrelated directions would give a mean of n",
    "errors": "the same in standard errors of a mean of n: a significance; angles not turned round",
    "value": "of no meaning without the chance level beside it; angles in degrees",
    "expected": "of cosines: exact chance if the rows of the dictionary were random too",
    "n": "directions averaged; 1 = one pair of subspaces",
    "k": "directions on each side",
}


def show(experiment_id: str, hook: str, layer: int) -> None:
    """Figure, verdict and every number of one place."""
    rows = geometry_reads.table("score", experiment_id).filter(hook=hook, layer=layer)
    st.plotly_chart(
        directions(panels(rows), rows["rank"].unique().to_list()),
        config={"displayModeBar": False}, key="geometry:directions",
    )  # fmt: skip
    st.caption(
        "0 = chance, grey = 95 % of chance, right = nearer. Point at a mark for the bare value beside "
        "its chance level. Panels have scales of their own: sd of one chance score. "
        + "; ".join(f"*{word}*: {meaning}" for word, meaning in KINDS.values()) + "."
    )  # fmt: skip
    where = f"layer {layer}, {geometry_reads.HOOKS[hook]}"
    for score in ("signed_max_cosine", "angle"):
        st.markdown(sentence(rows.filter(score=score), score, where))
    st.markdown(alike(rows.filter(score="cka")))
    if problem := suspect(rows):
        st.warning(problem, icon=":material/warning:")
    orders = [pl.col(name).replace_strict({key: i for i, key in enumerate(known)})
              for name, known in (("score", SCORES), ("against", AGAINST))]  # fmt: skip
    table = rows.sort(*orders, "rank")
    table = table.with_columns(
        score=pl.col("score").replace_strict(SCORES),
        against=pl.col("against").replace_strict(AGAINST),
    )
    tables.show(table, _COLUMNS, name="geometry_directions", helps=_HELPS)


def panels(rows: pl.DataFrame) -> list[Panel]:
    """One for every score that is stored; CKA has a single row, of no name."""
    found = []
    for score, title in SCORES.items():
        part = rows.filter(score=score).drop_nulls("nearer")
        if part.is_empty():
            continue
        k = part["k"].drop_nulls()
        own = [""] if score == "cka" else ROWS
        marks = [
            Mark("" if score == "cka" else AGAINST[row["against"]], row["rank"], row["nearer"], None,
                 None, distance_words(row))
            for row in part.iter_rows(named=True)
        ]  # fmt: skip
        named = title if k.is_empty() else f"{title}, k = {geometry_reads.span(k)}"
        found.append(Panel(named, marks, own, part["null_half"].max()))
    return found


def kind(rows: pl.DataFrame) -> str | None:
    """What the distances of one rank say: a key of ``KINDS``; None where one of them is missing.

    Args:
        rows: one score at one place and rank.
    """
    found = {row["against"]: row for row in rows.iter_rows(named=True)}
    own, seeds = found.get("pretrained"), found.get("adapter_seeds")
    if own is None or seeds is None or None in (own["nearer"], seeds["nearer"], own["null_half"]):
        return None
    if max(own["related"] or 0.0, seeds["related"] or 0.0) > RELATED:
        return "related"
    if seeds["nearer"] <= seeds["null_half"]:
        return "unclear"
    if own["nearer"] <= own["null_half"]:
        return "new"
    return "partly" if own["nearer"] < seeds["nearer"] else "old"


def sentence(rows: pl.DataFrame, score: str, where: str) -> str:
    """How many ranks add new directions, with the three distances and the width of chance."""
    by_rank = {rank: part for (rank,), part in rows.group_by("rank", maintain_order=True)}
    kinds = Counter(found for part in by_rank.values() if (found := kind(part)))
    title = SCORES[score].capitalize()
    if not kinds:
        return f"**{title}, {where}: too few directions fire to be compared.**"
    total = sum(kinds.values())
    said = ", ".join(f"{KINDS[name][0]} at {kinds[name]}" for name in KINDS if kinds[name])
    spans = [
        f"{AGAINST[name]} {_span(part['nearer'])}"
        for name in ("pretrained", "adapter_seeds", "pretrained_seeds")
        if len(part := rows.filter(against=name).drop_nulls("nearer"))
    ]
    half = rows["null_half"].drop_nulls()
    k = rows["k"].drop_nulls()
    n = (
        f"n = {geometry_reads.span(rows['n'])} directions" if k.is_empty()
        else f"k = {geometry_reads.span(k)}, one pair of subspaces each"
    )  # fmt: skip
    return (
        f"**{title}, {where}: the adapter's directions are {said} of {total} ranks.** In sd of chance, "
        f"more = nearer: {'; '.join(spans)} (95 % of chance \u00b1{number(half.max())}; {n})."
    )


def alike(rows: pl.DataFrame) -> str:
    """Whether deltas vary with the base's activations, in words."""
    known = rows.drop_nulls("nearer")
    if known.is_empty():
        return ""
    beyond = known.filter(pl.col("nearer") > pl.col("null_half"))
    return (
        f"CKA of deltas with base activations lies above its chance (text turned against itself) at "
        f"{len(beyond)} of {len(known)} ranks: {_span(known['nearer'])} sd (95 % of chance "
        f"\u00b1{number(known['null_half'].max())}). Above it, what an adapter adds depends on "
        "what the base had there."
    )


def suspect(rows: pl.DataFrame) -> str:
    """A warning where directions drawn as chance are related to the rows; else empty."""
    bad = rows.filter(pl.col("related") > RELATED)
    if bad.is_empty():
        return ""
    row = bad.sort("related", descending=True).row(0, named=True)
    return (
        f"At {len(bad)} of {len(rows)} numbers the simulated chance lies far above the exact one for "
        f"random rows (for example {number(row['chance'])} against {number(row['expected'])}, "
        f"{AGAINST[row['against']]}): what was drawn as unrelated is related to these rows, as it is "
        "when both start from one seed. Do not read distances of these."
    )


def _span(values: pl.Series) -> str:
    known = values.drop_nulls()
    low, high = plus(known.min()), plus(known.max())
    return low if low == high else f"{low} to {high}"
