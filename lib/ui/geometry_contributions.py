"""The Contributions view: what every adapted matrix adds, and what it wrote into the stream itself."""

from typing import Any

import polars as pl
import streamlit as st

from lib.figures.geometry_written import written
from lib.figures.weights import Quantity, by_module
from lib.ui import geometry_reads, tables

_ADDED = Quantity(
    "what a matrix adds, of what it gives without: rms of (\u03b1/r) B A x over rms of W x",
    "random update of equal norm", percent=True,
)  # fmt: skip
_WRITTEN = (
    "share of the stream's change (sum of squares) that adapted matrices wrote there themselves; "
    "dotted: the same writes at other tokens"
)
_ADDED_COLUMNS = {
    "rank": ("rank", "%d"), "module": ("matrix", None), "layer": ("layer", "%d"),
    "kind": ("kind", None), **tables.with_bounds("relative", "adds", "percent"),
    "chance": ("random update", "percent"), "tokens": ("tokens", "%d"),
}  # fmt: skip
_WRITTEN_COLUMNS = {
    "rank": ("rank", "%d"), "layer": ("layer", "%d"),
    **tables.with_bounds("direct", "written directly", "percent"),
    "moved": ("at other tokens", "percent"),
    **tables.with_bounds("size", "rms of the writes / of the change", "percent"),
    "tokens": ("tokens", "%d"),
}  # fmt: skip
_HELPS = {
    "relative": "rms of (alpha/r) B A x over rms of W x, same inputs, tuned run, held-out text",
    "chance": "the same of a random update with the Frobenius norm of this one",
    "direct": "1 - |change - direct writes|^2 / |change|^2, writes of all blocks up to here",
    "moved": "the same writes given to other tokens: what is not of the token scores here",
}


def show(experiment_id: str, rank: int) -> None:
    """Both figures with their sentences, and every number."""
    added = geometry_reads.table("added", experiment_id)
    streams = geometry_reads.table("written", experiment_id)
    own = added.filter(rank=rank)
    own = own.with_columns(hover=pl.Series(_matrices(own), dtype=pl.String))
    st.plotly_chart(
        by_module(
            own.select("layer", "kind", "chance", "hover", value="relative"), _ADDED
        ),
        config={"displayModeBar": False}, key="geometry:added",
    )  # fmt: skip
    st.markdown(added_sentence(own, rank))
    if streams.is_empty():
        st.info(
            "What was written directly has no share here: this model's blocks pass what their matrices "
            "give through a norm before they add it to the stream, so that there is nothing to sum.",
            icon=":material/visibility_off:",
        )
    else:
        shown = streams.with_columns(hover=pl.Series(_hovers(streams), dtype=pl.String))
        st.plotly_chart(
            written(shown, streams["rank"].unique().to_list(), _WRITTEN),
            config={"displayModeBar": False}, key="geometry:written",
        )  # fmt: skip
        st.markdown(written_sentence(streams, rank))
    tables.show(own, _ADDED_COLUMNS, name="geometry_added", helps=_HELPS)
    if len(streams):
        tables.show(streams, _WRITTEN_COLUMNS, name="geometry_written", helps=_HELPS)


def added_sentence(own: pl.DataFrame, rank: int) -> str:
    """The largest contribution with its interval, every kind's mean and its chance.

    Args:
        own: of ``lib.store.geometry.added`` at one rank.
    """
    top = own.sort("relative").row(-1, named=True)
    kinds = own.group_by("kind", maintain_order=True).agg(pl.col("relative", "chance").mean())
    listed = ", ".join(
        f"{row['kind']} {_percent(row['relative'])} ({_percent(row['chance'])})"
        for row in kinds.iter_rows(named=True)
    )
    least, most = own["relative"].min(), own["relative"].max()
    above = own.filter(pl.col("relative") > pl.col("chance"))
    return (
        f"**At rank {rank} an adapted matrix adds {_number(least)} to {_percent(most)} of what it "
        f"gives without the adapter**, most in {top['kind']} of layer {top['layer']} "
        f"({_percent(top['relative'])}, {_span(top, 'relative')}). Mean by kind, in brackets what "
        f"a random update of equal norm adds: {listed}. {len(above)} of {len(own)} matrices add more "
        f"than that: their updates lie along what they read. n = {top['tokens']:,} held-out tokens."
    )


def written_sentence(streams: pl.DataFrame, rank: int) -> str:
    """After the last block at one rank, the range over blocks, and the ranks beside each other."""
    own = streams.filter(rank=rank).sort("layer")
    last = own.row(-1, named=True)
    rest = ", ".join(
        f"{_percent(row['direct'])} at rank {row['rank']}"
        for row in streams.filter(pl.col("rank") != rank, layer=last["layer"])
        .sort("rank")
        .iter_rows(named=True)
    )
    return (
        f"**Of what the adapter of rank {rank} changes in the stream by the end (layer "
        f"{last['layer']}), {_interval(last, 'direct')} was written there by adapted matrices "
        f"themselves**; the rest is what other weights made of changed inputs, so the change is not "
        f"B A x. Over the blocks {_number(own['direct'].min())} to {_percent(own['direct'].max())}; "
        f"the writes together are {_interval(last, 'size')} of the change's size; given to other "
        f"tokens they account for {_percent(last['moved'])}{_constant(last)}."
        + (f" Other ranks at the same layer: {rest}." if rest else "")
    )


def _constant(row: dict[str, Any]) -> str:
    """What it means that writes of other tokens do as well."""
    return (
        ", so most of what they do account for is the same at every token"
        if 0 < row["direct"] < 2 * row["moved"] else ""
    )  # fmt: skip


def _matrices(own: pl.DataFrame) -> list[str]:
    return [
        f"{row['module']}, rank {row['rank']}<br>adds {_interval(row, 'relative')} of what it gives "
        f"without<br>random update of equal norm: {_percent(row['chance'])}; n = {row['tokens']:,} "
        "held-out tokens"
        for row in own.iter_rows(named=True)
    ]


def _hovers(streams: pl.DataFrame) -> list[str]:
    return [
        f"rank {row['rank']}, layer {row['layer']}: {_interval(row, 'direct')} written directly"
        f"<br>at other tokens {_percent(row['moved'])}; size of the writes {_percent(row['size'])} of "
        f"the change's<br>n = {row['tokens']:,} held-out tokens"
        for row in streams.iter_rows(named=True)
    ]


def _interval(row: dict[str, Any], name: str) -> str:
    return f"{_percent(row[name])} ({_span(row, name)})"


def _span(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "no interval" if low is None else f"95 % {_number(low)} to {_number(high)} %"


def _percent(share: float) -> str:
    return f"{_number(share)} %"


def _number(share: float) -> str:
    return f"{100 * share:.3g}".replace("-", "\u2212")
