"""The geometry of adapters over ranks and depths; empty frames with their columns where there is none.

What was not defined (NaN in the measures) is null here.
"""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.read import _ask

NULL_SDS = 1.96
"""Standard deviations of the normal distribution that hold 95 % of it."""


def runs(store: DuckDBPyConnection) -> pl.DataFrame:
    """One row per experiment that has geometry, by model, corpus and seed.

    Columns: experiment_id, base_model, corpus, seed, n_layers; ``ranks`` (ascending list), ``places``
    (hooks x layers), ``part`` (key of the pipeline stage).
    """
    return _ask(
        store,
        """
        SELECT e.experiment_id, e.base_model, e.corpus, e.seed, e.n_layers,
               list_sort(list(DISTINCT g.rank)) AS ranks, count(DISTINCT (g.hook, g.layer)) AS places,
               max(g.part) AS part
        FROM geometry_place g JOIN experiment e USING (experiment_id)
        GROUP BY ALL ORDER BY e.base_model, e.corpus, e.seed, e.experiment_id
        """,
    )


def places(store: DuckDBPyConnection, experiment_ids: list[str]) -> pl.DataFrame:
    """Table ``geometry_place`` of some experiments with ``corpus``, by experiment, hook, layer, rank.

    Adds ``relative`` = mean norm of the deltas over that of the base's activations.
    """
    return _known(
        store,
        """
        SELECT g.*, g.delta_norm / nullif(g.base_norm, 0) AS relative, e.corpus
        FROM geometry_place g JOIN experiment e USING (experiment_id)
        WHERE experiment_id IN (SELECT unnest($ids::VARCHAR[]))
        ORDER BY experiment_id, g.hook, g.layer, g.rank
        """,
        experiment_ids,
    )


def fits(store: DuckDBPyConnection, experiment_ids: list[str]) -> pl.DataFrame:
    """Table ``geometry_fit`` of some experiments, by experiment, hook, layer, fit and rank."""
    return _known(
        store,
        """
        SELECT * FROM geometry_fit WHERE experiment_id IN (SELECT unnest($ids::VARCHAR[]))
        ORDER BY experiment_id, hook, layer, fit, rank
        """,
        experiment_ids,
    )


def added(store: DuckDBPyConnection, experiment_ids: list[str]) -> pl.DataFrame:
    """Table ``geometry_added`` of some experiments, by experiment, rank, layer and kind.

    ``layer`` = ``module_layer``; ``kind`` without its ``_proj``.
    """
    return _known(
        store,
        """
        SELECT * EXCLUDE (kind, module_layer), module_layer AS layer, short AS kind
        FROM (SELECT *, regexp_replace(kind, '_proj$', '') AS short FROM geometry_added)
        WHERE experiment_id IN (SELECT unnest($ids::VARCHAR[]))
        ORDER BY experiment_id, rank, layer, array_position(['q', 'k', 'v', 'o'], short), short
        """,
        experiment_ids,
    )


def written(store: DuckDBPyConnection, experiment_ids: list[str]) -> pl.DataFrame:
    """Table ``geometry_written`` of some experiments, by experiment, rank and layer."""
    return _known(
        store,
        """
        SELECT * FROM geometry_written WHERE experiment_id IN (SELECT unnest($ids::VARCHAR[]))
        ORDER BY experiment_id, rank, layer
        """,
        experiment_ids,
    )


def scores(store: DuckDBPyConnection, experiment_ids: list[str]) -> pl.DataFrame:
    """Table ``geometry_score`` of some experiments, by experiment, hook, layer, score, against, rank.

    Adds, in standard deviations of one chance score: ``nearer``, the distance from chance turned so
    that more is nearer (angles count the other way), and ``null_half``, half the width of what 95 %
    of chance would give a mean of ``n`` (the error of the simulated mean counted). Besides ``related``:
    of cosines, by how many standard errors the simulated chance lies above the exact one for random
    rows. It may lie below, since rows of a dictionary have much in common; far above it cannot, unless
    what was drawn as chance is related to the rows.
    """
    found = _known(
        store,
        """
        SELECT *, (chance - expected) / (chance_sd / sqrt(n)) AS related,
               CASE WHEN score = 'angle' THEN -distance ELSE distance END AS nearer
        FROM geometry_score WHERE experiment_id IN (SELECT unnest($ids::VARCHAR[]))
        ORDER BY experiment_id, hook, layer, score, against, rank
        """,
        experiment_ids,
    )
    half = NULL_SDS * (pl.col("distance") / pl.col("errors")).abs()
    return found.with_columns(null_half=half).with_columns(pl.col("null_half").fill_nan(None))


def _known(store: DuckDBPyConnection, sql: str, experiment_ids: list[str]) -> pl.DataFrame:
    return _ask(store, sql, ids=experiment_ids).with_columns(pl.col(pl.Float64).fill_nan(None))
