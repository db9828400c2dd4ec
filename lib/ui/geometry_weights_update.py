"""One adapter's update, matrix by matrix: figure, where it sits in words, table."""

from typing import NamedTuple

import polars as pl
import streamlit as st

from lib.figures.weights import Quantity, by_module
from lib.ui import geometry_weights_means as means
from lib.ui import tables


class Choice(NamedTuple):
    """One number of every matrix, with the columns that hold it and its chance."""

    label: str
    column: str
    chance: str | None
    shown: Quantity


_SIZE = "by size alone"
_RANDOM = "random factors"
QUANTITIES = {
    "share": Choice(
        "Frobenius share", "share", "chance_share",
        Quantity("share of the update's squared norm", _SIZE, over="sum", percent=True),
    ),
    "spectral": Choice(
        "Spectral norm", "spectral", "spectral_chance",
        Quantity("spectral norm of the update, units of the weights",
                 f"{_RANDOM} of equal Frobenius norm"),
    ),
    "entropy": Choice(
        "Effective rank (entropy)", "entropy_rank", "chance_entropy_rank",
        Quantity("effective rank by entropy, directions", _RANDOM),
    ),
    "stable": Choice(
        "Effective rank (stable)", "stable_rank", "chance_stable_rank",
        Quantity("stable rank, directions", _RANDOM),
    ),
}  # fmt: skip
"""In the address as ``weights``."""
_COLUMNS = {
    "module": ("matrix", None), "layer": ("layer", "%d"), "kind": ("kind", None),
    "outputs": ("outputs", "%d"), "inputs": ("inputs", "%d"), "lora_rank": ("LoRA rank", "%d"),
    "spectral": ("spectral norm", "%.4g"), "spectral_chance": ("random factors ", "%.4g"),
    "frobenius": ("Frobenius norm", "%.4g"), "share": ("share", "percent"),
    "chance_share": ("by size alone", "percent"), "entropy_rank": ("entropy rank", "%.2f"),
    "chance_entropy_rank": ("random factors", "%.2f"), "stable_rank": ("stable rank", "%.2f"),
    "chance_stable_rank": ("random factors  ", "%.2f"),
}  # fmt: skip
_HELPS = {
    "spectral": "largest singular value of the update",
    "spectral_chance": "Frobenius norm / sqrt(stable rank of random factors)",
    "share": "of the adapter's squared Frobenius norm",
    "chance_share": "the matrix's share of the adapted weights: the null of the share",
    "chance_entropy_rank": "both factors Gaussian, mean of 32 draws",
    "chance_stable_rank": "both factors Gaussian, mean of 32 draws",
}


def show(experiment_id: str, modules: pl.DataFrame, shown: str, labels: dict[str, str]) -> None:
    """Heat map, verdict and table of one adapter.

    Args:
        modules: of ``lib.store.weights.modules``: all adapters of one base, this one among them.
        shown: one of ``QUANTITIES``.
        labels: name by experiment id.
    """
    rows = with_chance(modules)
    own = rows.filter(experiment_id=experiment_id)
    if own["share"].null_count() == len(own):
        st.info("This adapter's update is zero everywhere: it has no shares and no ranks.")
    choice = QUANTITIES[shown]
    drawn = own.select(
        "layer", "kind", value=choice.column, chance=choice.chance or pl.lit(None), hover=_hover()
    )
    st.plotly_chart(
        by_module(drawn, choice.shown), key="weights:modules", config={"displayModeBar": False}
    )
    label = labels[experiment_id]
    if shown in means.MEANS:
        st.markdown(means.sentence(rows, experiment_id, label, shown))
    else:
        st.markdown(verdict(rows, experiment_id, label))
    with st.expander(f"Every matrix of {label}"):
        tables.show(own, _COLUMNS, name="weights_modules", helps=_HELPS)


def with_chance(modules: pl.DataFrame) -> pl.DataFrame:
    """With the spectral norm of random factors of the same Frobenius norm."""
    return modules.with_columns(
        spectral_chance=pl.col("frobenius") / pl.col("chance_stable_rank").sqrt()
    )


def _hover() -> pl.Expr:
    def shown(column: str, factor: int = 1, unit: str = "") -> pl.Expr:
        number = (pl.col(column) * factor).round_sig_figs(3).cast(pl.String) + unit
        return number.fill_null("not defined")

    share, size = shown("share", 100, " %"), shown("chance_share", 100, " %")
    return pl.format(
        "{} ({} x {}, LoRA rank {})<br>share {} (by size alone {})<br>spectral norm {} (random factors "
        "of equal Frobenius norm {})<br>entropy rank {} (random {})<br>stable rank {} (random {})",
        "module", "outputs", "inputs", "lora_rank", share, size, shown("spectral"),
        shown("spectral_chance"), shown("entropy_rank"), shown("chance_entropy_rank"),
        shown("stable_rank"), shown("chance_stable_rank"),
    )  # fmt: skip


class Place(NamedTuple):
    """Where one adapter's update sits; shares of its squared norm, 0..1."""

    late: float
    """In the last third of the layers."""
    late_size: float
    """Of the adapted weights."""
    kinds: dict[str, tuple[float, float]]
    """Share, and share by size, of every kind; most for its size first."""
    rank: float
    """Mean effective rank by entropy."""
    rank_chance: float | None


def place(own: pl.DataFrame) -> Place | None:
    """From the rows of one adapter; None for an update of zero."""
    if not own["share"].count():
        return None
    late = pl.col("layer") >= late_start(own)
    kinds = own.group_by("kind").agg(pl.col("share", "chance_share").sum())
    ordered = kinds.sort(pl.col("share") / pl.col("chance_share"), "kind", descending=[True, False])
    mean = own.select(pl.col("entropy_rank", "chance_entropy_rank").mean()).row(0)
    return Place(
        own.filter(late)["share"].sum(), own.filter(late)["chance_share"].sum(),
        {kind: (share, size) for kind, share, size in ordered.iter_rows()}, *mean,
    )  # fmt: skip


def late_start(own: pl.DataFrame) -> int:
    """First of the last third of the layers that are adapted, at least one of them."""
    layers = own["layer"].drop_nulls()
    if layers.is_empty():
        return 0
    count = int(layers.max()) + 1
    return count - max(1, count // 3)


def verdict(rows: pl.DataFrame, experiment_id: str, label: str) -> str:
    """Share of the last third and of every kind against their size, ranks against random factors; the
    range over the other adapters of the model stands for an interval."""
    own = rows.filter(experiment_id=experiment_id)
    found = place(own)
    if found is None:
        return f"**The update of {label} is zero** (n = {len(own)} matrices)."
    others = [
        other
        for (name,), part in rows.group_by("experiment_id")
        if name != experiment_id and (other := place(part))
    ]
    top = [
        f"{kind} {_percent(share)} ({_percent(size)})"
        for kind, (share, size) in found.kinds.items()
    ]
    chance = "" if found.rank_chance is None else f" (random factors: {found.rank_chance:.1f})"
    return (
        f"**{_percent(found.late)} of the update of {label} lies in the last third of the layers, from "
        f"layer {late_start(own)} on** (by size alone {_percent(found.late_size)}"
        f"{_range([o.late for o in others], percent=True)}). By kind, with what size alone gives: "
        f"{', '.join(top)}. On average {found.rank:.1f} of {own['lora_rank'].max()} directions carry "
        f"a matrix's update{chance}{_range([o.rank for o in others])}; n = {len(own)} matrices. "
        "Nothing is sampled, so there is no interval: read the range over the other adapters instead."
    )


def _range(values: list[float], *, percent: bool = False) -> str:
    shown = [100 * value for value in values] if percent else values
    said = means.span(shown, ".0f" if percent else ".1f", " %" if percent else "")
    return f"; {said}" if said else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
