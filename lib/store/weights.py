"""Weights of adapters: norms, ranks and shares of every matrix, and overlaps of pairs.

Empty frames where the stage has not run. Spaces: ``outputs`` (column space, from B), ``inputs`` (row
space, from A), ``update`` (as one vector).
"""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.read import _ask

MODULES = pl.Schema({
    "experiment_id": pl.String, "corpus": pl.String, "seed": pl.Int32, "module": pl.String,
    "layer": pl.Int32, "kind": pl.String, "outputs": pl.Int32, "inputs": pl.Int32,
    "lora_rank": pl.Int32, "spectral": pl.Float64, "frobenius": pl.Float64,
    "entropy_rank": pl.Float64, "stable_rank": pl.Float64, "share": pl.Float64,
    "chance_share": pl.Float64, "chance_entropy_rank": pl.Float64,
    "chance_stable_rank": pl.Float64,
})  # fmt: skip
"""Columns of ``modules``; ``seed`` = of the experiment."""

PAIRS = pl.Schema({
    "one": pl.String, "other": pl.String, "one_corpus": pl.String, "other_corpus": pl.String,
    "same_corpus": pl.Boolean, "seed": pl.Int64, "other_seed": pl.Int64, "same_start": pl.Boolean,
    "space": pl.String, "modules": pl.Int64, "value": pl.Float64, "chance": pl.Float64,
    "distance": pl.Float64, "angle": pl.Float64, "angle_chance": pl.Float64,
    "angle_distance": pl.Float64,
})  # fmt: skip
"""Columns of ``pairs``: means over the ``modules`` matrices on which they are defined."""

PAIR = pl.Schema({
    "module": pl.String, "layer": pl.Int32, "kind": pl.String, "rank": pl.Int32,
    "other_rank": pl.Int32, "value": pl.Float64, "chance": pl.Float64, "chance_sd": pl.Float64,
    "distance": pl.Float64, "angle": pl.Float64, "angle_chance": pl.Float64,
    "angle_distance": pl.Float64,
})  # fmt: skip
"""Columns of ``pair``."""


def modules(store: DuckDBPyConnection, base_model: str) -> pl.DataFrame:
    """Every adapted matrix of all adapters of one base, columns ``MODULES``; by corpus, seed, id,
    layer, name."""
    found = _ask(
        store,
        f"""
        SELECT {", ".join(MODULES)} FROM weight_module
        JOIN (SELECT experiment_id, corpus, seed FROM experiment WHERE base_model = $base)
            USING (experiment_id)
        ORDER BY corpus, seed, experiment_id, layer NULLS FIRST, module
        """,  # noqa: S608
        base=base_model,
    )
    return found.cast(MODULES)


def pairs(store: DuckDBPyConnection, base_model: str) -> pl.DataFrame:
    """Every pair of adapters of one base, once for each space, columns ``PAIRS``; by ids.

    ``same_start`` = trained from one seed at one rank, so both began with the same A; null where a
    training seed is not known. Pairs with an adapter that was made anew since are left out.
    """
    found = _ask(
        store,
        f"""
        SELECT w.experiment_id AS one, w.other_id AS other, e.corpus AS one_corpus,
               o.corpus AS other_corpus, e.corpus = o.corpus AS same_corpus, w.seed, w.other_seed,
               w.seed = w.other_seed AND e.rank = o.rank AS same_start, w.space,
               count(w.value) AS modules, avg(w.value) AS value, avg(w.chance) AS chance,
               avg(w.distance) AS distance, avg(w.angle) AS angle,
               avg(w.angle_chance) AS angle_chance, avg(w.angle_distance) AS angle_distance
        {_CURRENT} WHERE e.base_model = $base GROUP BY ALL ORDER BY one, other, w.space
        """,
        base=base_model,
    )
    return found.cast(PAIRS)


def pair(store: DuckDBPyConnection, one: str, other: str, space: str) -> pl.DataFrame:
    """The matrices of one pair in one space, columns ``PAIR``; by layer and name. The order of the two
    makes no difference but to ``rank`` and ``other_rank``, which follow the order asked for."""
    found = _ask(
        store,
        f"""
        SELECT w.module, w.layer, w.kind,
               CASE WHEN w.experiment_id = $one THEN w.rank ELSE w.other_rank END AS rank,
               CASE WHEN w.experiment_id = $one THEN w.other_rank ELSE w.rank END AS other_rank,
               w.value, w.chance, w.chance_sd, w.distance, w.angle, w.angle_chance,
               w.angle_distance
        {_CURRENT} WHERE w.space = $space AND (
            (w.experiment_id = $one AND w.other_id = $other)
            OR (w.experiment_id = $other AND w.other_id = $one))
        ORDER BY w.layer NULLS FIRST, w.module
        """,
        one=one,
        other=other,
        space=space,
    )
    return found.cast(PAIR)


_CURRENT = """FROM weight_overlap w JOIN experiment e USING (experiment_id)
        JOIN experiment o ON o.experiment_id = w.other_id AND o.adapter_hash = w.other_adapter"""
