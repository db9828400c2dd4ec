"""Which adapters have a causal link, from the standard ablation in the store. No Streamlit."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from lib.evidence.wording import CONTROLS, extra_digits, percent
from lib.ui.verdicts import listed

SUPPORTED, OPEN, MISSING = "supported", "not supported", "not measured"
MARK = "\u2713"
"""Behind the name of a point whose causal link is supported."""


class Link(NamedTuple):
    """What the standard ablation says of one point."""

    state: str
    """supported (in every training of the point that was measured) | not supported | not measured"""
    says: str
    """For the pointer."""


def links(runs: pl.DataFrame, points: Mapping[str, Collection[str]]) -> dict[str, Link]:
    """The link of each point, by its experiment_id; all depths together decide.

    Args:
        runs: ``lib.store.causal.runs``.
        points: the trainings of each point, by experiment_id.
    """
    whole = {row["experiment_id"]: row for row in together(runs).iter_rows(named=True)}
    alone = {str(key): part for (key,), part in singly(runs).group_by("experiment_id")}
    made = {}
    for point, trainings in points.items():
        known = [e for e in sorted(trainings) if e in whole]
        made[point] = _link([whole[e] for e in known], [alone.get(e) for e in known])
    return made


def together(runs: pl.DataFrame) -> pl.DataFrame:
    """Of each experiment the run at all its depths."""
    return runs.filter(pl.col("depths") == pl.col("depths").max().over("experiment_id"))


def singly(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs at one depth alone."""
    return runs.filter(pl.col("depths") == 1)


def _link(whole: list[dict[str, object]], alone: list[pl.DataFrame | None]) -> Link:
    if not whole:
        return Link(MISSING, "causal link not measured")
    supported = sum(bool(row["claim"]) for row in whole)
    state = SUPPORTED if supported == len(whole) else OPEN
    if len(whole) > 1:
        return Link(state, f"causal link supported in {supported} of {len(whole)} trainings")
    depths = _depths(alone[0])
    return Link(state, f"causal link {state}: {outcome(whole[0])}{f'; {depths}' if depths else ''}")


def outcome(row: Mapping[str, object]) -> str:
    """Share with interval, strongest control, p and n of one row of ``lib.store.causal.runs``."""
    if row["share"] is None:
        return "base and tuned predict the same, nothing to undo"
    low, high, strongest = row["share_low"], row["share_high"], row["strongest_share"]
    span, more = "", 0
    if low is not None and high is not None:
        more = 0 if strongest is None else extra_digits(low, strongest)
        span = f" (95 % {percent(low, more)} to {percent(high, more)})"
    told = f"clamp undoes {percent(row['share'])}{span}"
    if row["strongest"] is not None:
        name = CONTROLS.get(str(row["strongest"]), str(row["strongest"]))
        told += f", strongest control {percent(strongest, more)} ({name})"
    p = "" if row["p"] is None else f"p {row['p']:.2g}, "
    return f"{told}, {p}{row['documents']} documents"


def _depths(alone: pl.DataFrame | None) -> str:
    if alone is None or alone.is_empty():
        return ""
    held = alone.filter("claim")["layers"].to_list()
    if not held:
        return f"at no single depth of {len(alone)}"
    return f"alone at {'layer' if len(held) == 1 else 'layers'} {', '.join(held)}"


def marked(points: pl.DataFrame, found: Mapping[str, Link]) -> pl.DataFrame:
    """Points of the scatter: the link told by the pointer, and ``mark`` to stand behind the name."""
    states = [found[e] for e in points["experiment_id"]]
    ends = [f" {MARK}" if link.state == SUPPORTED else "" for link in states]
    return points.with_columns(
        says=pl.col("says") + "<br>" + pl.Series([link.says for link in states], dtype=pl.String),
        mark=pl.Series(ends, dtype=pl.String),
    )


def said(
    points: pl.DataFrame, found: Mapping[str, Link], runs: pl.DataFrame, read: Sequence[int]
) -> str:
    """How many points have a causal link, which have none, and what was run.

    Args:
        read: tokens that were read of each document, by experiments that differ in it.
    """
    by: dict[str, list[str]] = {SUPPORTED: [], OPEN: [], MISSING: []}
    for name, experiment_id in points.select("name", "experiment_id").iter_rows():
        by[found[experiment_id].state].append(name)
    measured = len(by[SUPPORTED]) + len(by[OPEN])
    if not measured:
        return (
            "**Causal links are not measured yet**: `python -m lib run FILE` adds the standard "
            "ablation to a store made before there was one."
        )
    told = (
        f"**Causal link ({MARK}): supported in {len(by[SUPPORTED])} of {measured} measured points**"
    )
    if by[OPEN]:
        told += f", not supported in {listed(sorted(by[OPEN]))}"
    if by[MISSING]:
        told += f", not measured in {listed(sorted(by[MISSING]))}"
    held = together(runs)["documents"]
    few, many = held.min(), held.max()
    draws = listed(sorted({str(n) for n in together(runs)["draws"]}))
    return (
        f"{told}. Supported = clamping the latents with most of the change to base, at all "
        f"dictionary depths together, undoes more of the output change on "
        f"{many if few == many else f'{few} to {many}'} held-out documents "
        f"({listed([str(n) for n in read])} tokens of each) than each matched control ({draws} draws "
        "each) at its 97.5th percentile, the whole 95 % interval over documents above it; in every "
        "training of the point. It is asked of the latents, not of the adapter, and at these depths "
        "only."
    )


def columns(runs: pl.DataFrame) -> pl.DataFrame:
    """By experiment_id, for the table: columns ``TABLE``."""
    held = (
        singly(runs).filter("claim").group_by("experiment_id", maintain_order=True)
        .agg(causal_alone=pl.col("layers").str.join(", "))
    )  # fmt: skip
    names = {name: label for name, label in CONTROLS.items()}
    return (
        together(runs)
        .with_columns(
            causal=pl.when("claim").then(pl.lit(SUPPORTED)).otherwise(pl.lit(OPEN)),
            strongest=pl.col("strongest").replace(names),
        )
        .join(held, on="experiment_id", how="left", maintain_order="left")
        .select("experiment_id", "causal", "causal_alone",
                *(pl.col(c).alias(f"causal_{c}") for c in _NUMBERS))
    )  # fmt: skip


_NUMBERS = {
    "share": ("undone by the clamp", "percent"), "share_low": ("undone, low", "percent"),
    "share_high": ("undone, high", "percent"), "ceiling": ("undone by the full patch", "percent"),
    "strongest": ("strongest control", None), "strongest_share": ("it undoes", "percent"),
    "p": ("largest p over controls", "%.2g"), "documents": ("documents of the ablation", "%d"),
    "damage": ("neutral text after the clamp, nats over base", "%.3g"),
    "damage_tuned": ("neutral text before it, nats over base", "%.3g"),
}  # fmt: skip
TABLE = {
    "causal": ("causal link", None), "causal_alone": ("supported alone at layers", None),
    **{f"causal_{column}": look for column, look in _NUMBERS.items()},
}  # fmt: skip
"""Columns of the table of points: heading and format."""
