"""Training seeds: one point per recipe and corpus, and how far its seeds lie apart. No Streamlit."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from lib.ui.verdicts import number

CELL = ("base_model", "corpus", "hook", "rank", "steps")
"""What a point is: everything of a recipe but the training seed."""
_WIDTH = 2 * 1.959964  # of a 95 % interval, in standard deviations


class Quantity(NamedTuple):
    """A column with ``*_low`` and ``*_high`` (null = no interval), its name and its unit."""

    column: str
    label: str
    unit: str


def cells(rows: pl.DataFrame, values: Sequence[str]) -> pl.DataFrame:
    """One row per model, corpus and recipe, means over its training seeds.

    Seeds are tests of one and the same corpus: they are no further corpora.

    Args:
        rows: one per experiment, with ``CELL``, seed, experiment_id, and for each of ``values`` its
            ``*_low`` and ``*_high``.

    Returns:
        for each value its mean, the means of its bounds (the documents are the same for every seed,
        so their error does not average out), ``*_sd`` over seeds (n - 1; null with one seed) and
        ``*_seeds`` = seeds with a value; ``seeds`` = seeds of the cell; ``runs`` = their ids; every
        other column as the lowest seed has it. In the order of ``rows``.
    """
    columns = [f"{v}{end}" for v in values for end in ("", "_low", "_high")]
    others = [c for c in rows.columns if c not in columns and c not in CELL]
    return (
        rows.sort("seed", maintain_order=True)
        .group_by(CELL, maintain_order=True)
        .agg(
            pl.col(others).first(),
            pl.col(columns).mean(),
            *(pl.col(v).std().alias(f"{v}_sd") for v in values),
            *(pl.col(v).count().alias(f"{v}_seeds") for v in values),
            runs=pl.col("experiment_id"), seeds=pl.col("seed").n_unique(),
        )
        .join(rows.with_row_index("at").group_by(CELL).agg(pl.min("at")), on=CELL, nulls_equal=True)
        .sort("at").drop("at")
    )  # fmt: skip


def spread(rows: pl.DataFrame, measured: Sequence[Quantity]) -> pl.DataFrame:
    """Test-retest: cells with several training seeds, one row per cell and quantity.

    Columns: name, base_model, corpus, quantity, unit, seeds, mean, sd (over seeds, n - 1), low and
    high (the seeds' range), documents_low and documents_high (95 % over documents, mean of the
    seeds' bounds), in the quantity's unit; ``share`` = sd over seeds / sd over documents.

    Args:
        rows: one per experiment with ``CELL``, seed, name, and the quantities' columns.
    """
    parts = []
    for quantity in measured:
        v = quantity.column
        found = (
            rows.drop_nulls(v)
            .group_by(CELL, maintain_order=True)
            .agg(
                pl.first("name"), seeds=pl.col("seed").n_unique(), mean=pl.mean(v), sd=pl.std(v),
                low=pl.min(v), high=pl.max(v), documents_low=pl.mean(f"{v}_low"),
                documents_high=pl.mean(f"{v}_high"),
            )
            .filter(pl.col("seeds") > 1)
        )  # fmt: skip
        width = (pl.col("documents_high") - pl.col("documents_low")) / _WIDTH
        parts.append(
            found.with_columns(
                quantity=pl.lit(quantity.label), unit=pl.lit(quantity.unit),
                share=pl.when(width > 0).then(pl.col("sd") / width),
            )
        )  # fmt: skip
    return pl.concat(parts).sort("base_model", "corpus", maintain_order=True)


def said(table: pl.DataFrame, inner: str, outer: str) -> str:
    """The spread over seeds on both axes in words, beside the interval over documents.

    Args:
        table: of ``spread``.
        inner, outer: labels of the two axes shown.
    """
    shown = table.filter(pl.col("quantity").is_in([inner, outer]))
    if shown.is_empty():
        return (
            "**Training seeds: none repeated.** How far a point would move if it were trained again "
            "is not known here; intervals hold the documents' error alone."
        )
    lines = [
        f"- {name}, {number(rows['seeds'].max())} seeds: "
        + "; ".join(_one(row) for row in rows.iter_rows(named=True))
        for (name,), rows in shown.group_by("name", maintain_order=True)
    ]
    return "\n".join([
        "**Test-retest: what training again with another seed does.** Two sources of error: the seeds "
        "say how far a number moves when the adapter and its dictionaries are trained again, the "
        "interval how far it moves with other documents. Neither holds the other. P(label) of these "
        "points holds both, of all others the documents alone.",
        *lines,
    ])  # fmt: skip


def _one(row: Mapping[str, object]) -> str:
    mean, sd, low, high = (row[c] for c in ("mean", "sd", "low", "high"))
    documents = "no interval over documents"
    if row["documents_low"] is not None:
        ends = f"{row['documents_low']:.4g} to {row['documents_high']:.4g}"
        documents = f"95\u00a0% over documents {ends}"
    unit = " nats" if row["unit"] == "nats per token" else ""
    return (
        f"{row['quantity']} {mean:.4g}{unit}, sd {sd:.2g}, range {low:.4g} to {high:.4g} "
        f"({documents})"
    )
