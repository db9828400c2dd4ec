"""The seeds' published table as points, and our rule and tests run on it. No Streamlit."""

import polars as pl

from lib.figures.scatter import COLUMNS, Cuts
from lib.metrics.regimes import classify
from lib.metrics.statistics import spearman_exact
from lib.ui import labelling
from lib.ui.verdicts import chance, number, signed

CUTS = Cuts(55.4, 0.587)
"""Ours, not the seeds': geometric middles of the gaps (39.8, 77.1) and (0.478, 0.72) at 70B."""


def published(cells: pl.DataFrame) -> pl.DataFrame:
    """The seeds' cells that have both values, labelled by our rule at ``CUTS`` (no margin).

    In the columns of the scatter, and those of ``lib.ui.orders``: seeds are unknown, so 1.
    """
    none = pl.lit(None, pl.Float64)
    rows = cells.drop_nulls(["ratio", "kl"]).with_columns(
        name=pl.col("corpus") + " " + pl.col("scale"), experiment_id=pl.lit(None, pl.String),
        model="scale", published=pl.lit(True), n=pl.lit(None, pl.Int64), x="ratio", y="kl",
        says=pl.lit(None, pl.String), seeds=pl.lit(1), x_sd=none, y_sd=none,
        **{bound: none for bound in ("x_low", "x_high", "y_low", "y_high")},
    )  # fmt: skip
    return rows.with_columns(
        regime=pl.struct("x", "y").map_elements(
            lambda p: classify(p["x"], p["y"], *CUTS[:2], margin=0.0),
            return_dtype=pl.String,
        )
    ).select(*COLUMNS, "seeds", "x_sd", "y_sd")


def within_margin(points: pl.DataFrame, cuts: Cuts) -> dict[str, list[str]]:
    """Points that our margin would call indeterminate, with the axes in whose band they lie."""
    plain = points.drop("seeds", "x_sd", "y_sd", strict=False)
    found = {
        name: judgement.undecided
        for name, judgement in zip(
            points["name"], labelling.judged(plain, cuts, redrawn=False), strict=True
        )
    }
    return {name: list(axes) for name, axes in found.items() if axes}


def compared(cells: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The published label of each cell beside the one that our rule gives its two numbers.

    Columns: corpus, scale, ratio, kl, words, label (published), ours (at ``CUTS``, no margin),
    agrees, margin (what our margin leaves undecided; null = nothing), source.
    """
    points = published(cells)
    near = {name: " and ".join(axes) for name, axes in within_margin(points, CUTS).items()}
    ours = points.select("corpus", "name", scale="model", ratio="x", kl="y", ours="regime")
    return labels.join(ours, on=["corpus", "scale"], maintain_order="left").with_columns(
        agrees=pl.col("label") == pl.col("ours"),
        margin=pl.col("name").replace_strict(near, default=None, return_dtype=pl.String),
    )


def verdict(table: pl.DataFrame, aggregates: pl.DataFrame) -> str:
    """What our code makes of the published numbers, against what is published.

    Args:
        table: of ``compared``.
        aggregates: the published ones; the first row within 70B is rho of ratio and KL.
    """
    stated = aggregates.filter(scope="within 70B", name="spearman(ratio; kl)")["value"][0]
    test = spearman_exact(table["ratio"], table["kl"])
    same = int(table["agrees"].sum())
    met = "reproduced" if abs(test.rho - stated) < 0.005 else "not reproduced"
    return (
        f"**Our rule gives {number(same)} of {number(len(table))} published labels; the published "
        f"\u03c1 = {signed(stated)} is {met}: {signed(test.rho)} (n = {test.n}).** No p is "
        f"published; exactly and two-sided it is {test.p:.3f}: by chance {chance(test.p)}. The cuts "
        "were placed in the gaps that give these labels, so the labels test the code, not the rule."
    )
