"""Novel features of each training over all its depths, with and without their null. No Streamlit."""

from typing import Literal

import polars as pl

from lib.metrics.shares import Share, excess, wilson

KINDS = {
    "strict": "new: norm and scaling",
    "loose": "new: norm only",
    "leaning": "new or amplified",
    "energy_strict": "energy: norm and scaling",
    "energy_loose": "energy: norm only",
}
"""Which latents count as novel, and as a share of what: columns of ``lib.store.novelty.novelty``."""

Null = Literal["model", "own", "kept"]
NULLS: dict[Null, str] = {  # taken off: of all draws of the model, of the training, none
    "model": "the model's",
    "own": "its own",
    "kept": "none",
}


def counts(novelty: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Sums over the depths with a crosscoder; experiments without an alive latent left out.

    Columns: experiment_id; count, alive, layers; null_draws; null_count and null_alive = per draw,
    null where a depth has no control (a part of a null is no null); energy and null_energy = means
    over depths, null for the kinds that are counts; fve_low, fve_high of the difference.
    """
    which, energy = kind.removeprefix("energy_"), kind.startswith("energy")
    none = pl.lit(None, pl.Float64)
    return (
        novelty.group_by("experiment_id", maintain_order=True)
        .agg(
            pl.sum("alive"), pl.len().alias("layers"), count=pl.sum(which),
            null_draws=pl.min("null_draws"), null_count=_whole(f"null_{which}"),
            null_alive=_whole("null_alive"),
            energy=pl.mean(kind) if energy else none,
            null_energy=_whole(f"null_{kind}") / pl.len() if energy else none,
            fve_low=pl.min("fve_difference"), fve_high=pl.max("fve_difference"),
        )
        .filter(pl.col("alive") > 0)
    )  # fmt: skip


def above(rows: pl.DataFrame, null: Null) -> pl.DataFrame:
    """Adds ``novel`` with bounds: a share of alive latents, or of all latents' energy.

    Null taken off: the share less that of the null controls, with Newcombe's interval; null where
    there are none. An energy has no interval.

    Args:
        rows: ``counts`` with base_model, one row per training.
        null: off what; ``model`` pools all draws of a model, ``own`` takes the training's.
    """
    pools = {} if null == "kept" else _pools(rows, null)
    of = "base_model" if null == "model" else "experiment_id"
    values = [_share(row, pools.get(row[of]), null) for row in rows.iter_rows(named=True)]
    columns = list(zip(*values, strict=True)) or [(), (), ()]
    return rows.with_columns(
        pl.Series(name, list(column), dtype=pl.Float64)
        for name, column in zip(("novel", "novel_low", "novel_high"), columns, strict=True)
    )


def _pools(rows: pl.DataFrame, null: Null) -> dict[str, tuple[Share, float | None]]:
    """Share and energy of the null draws, by model or by experiment."""
    weighted = rows.drop_nulls(["null_count", "null_alive"]).with_columns(
        **{c: pl.col(c) * pl.col("null_draws") for c in ("null_count", "null_alive")}
    )
    by = "base_model" if null == "model" else "experiment_id"
    pooled = weighted.group_by(by).agg(
        pl.sum("null_count"), pl.sum("null_alive"), pl.mean("null_energy")
    )
    return {
        name: (wilson(round(count), round(alive)), energy)
        for name, count, alive, energy in pooled.iter_rows()
        if alive
    }


def _share(
    row: dict[str, object], pool: tuple[Share, float | None] | None, null: Null
) -> tuple[float | None, float | None, float | None]:
    if row["count"] is None or (null != "kept" and pool is None):
        return None, None, None
    if row["energy"] is not None:
        return row["energy"] - (pool[1] if pool else 0.0), None, None
    share = wilson(row["count"], row["alive"])
    return tuple(excess(share, pool[0]) if pool else share)


def _whole(column: str) -> pl.Expr:
    return pl.when(pl.col(column).is_not_null().all()).then(pl.col(column).sum())
