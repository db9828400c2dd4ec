"""Short names of experiments: the corpus, and whatever else tells them apart in this store."""

import polars as pl

_PARTS = (
    ("base_model", "", ""),
    ("rank", "rank ", ""),
    ("steps", "", " steps"),
    ("seed", "seed ", ""),
)


def label(rows: pl.DataFrame) -> pl.Expr:
    """Corpus, then model, rank, steps and seed where ``rows`` differ in them."""
    parts: list[pl.Expr] = [pl.col("corpus")]
    parts += [
        pl.format(f"{before}{{}}{after}", column)
        for column, before, after in _PARTS
        if rows[column].n_unique() > 1
    ]
    return pl.concat_str(parts, separator=" \u00b7 ", ignore_nulls=True)


def labels(experiments: pl.DataFrame) -> dict[str, str]:
    """Name by experiment_id; the id itself where two names would be the same."""
    named = experiments.select("experiment_id", name=label(experiments)).with_columns(
        name=pl.when(pl.len().over("name") > 1).then("experiment_id").otherwise("name")
    )
    return dict(named.iter_rows())
