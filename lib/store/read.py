"""What the store knows about experiments: output axis, layers, training. Returns polars.

One function per question; SQL parametrised; a cursor per call, because a DuckDB connection that
several threads share fails. Latents and their examples are in latents.py.
"""

import json

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.handle import (
    StoreError,
    StoreLocked,
    StoreMissing,
    StoreOutdated,
    damage_named,
    open_store,
)

__all__ = [
    "StoreError",
    "StoreLocked",
    "StoreMissing",
    "StoreOutdated",
    "axes",
    "curves",
    "dictionaries",
    "dictionary_layers",
    "experiment",
    "experiments",
    "layers",
    "open_store",
    "output",
    "store_id",
    "versions",
]

TEXTS = ("corpus", "neutral")
PARTS = ("all", "response", "prompt")


def _ask(store: DuckDBPyConnection, sql: str, **values: object) -> pl.DataFrame:
    with damage_named(), store.cursor() as cursor:
        return cursor.sql(sql, params=values).pl()


def store_id(store: DuckDBPyConnection) -> str:
    """Content hash of everything in the store."""
    return str(_ask(store, "SELECT store_id FROM meta").item())


def experiments(store: DuckDBPyConnection) -> pl.DataFrame:
    """Every column of every experiment, by model size, corpus, and then id."""
    return _ask(
        store,
        """SELECT * FROM experiment
        ORDER BY n_parameters NULLS LAST, base_model, corpus, experiment_id""",
    )


def experiment(store: DuckDBPyConnection, experiment_id: str) -> dict[str, object]:
    """All columns of one experiment by name.

    Raises:
        LookupError: no such experiment; the message lists those there are.
    """
    found = _ask(store, "SELECT * FROM experiment WHERE experiment_id = $id", id=experiment_id)
    if found.is_empty():
        known = ", ".join(experiments(store)["experiment_id"])
        raise LookupError(f"no experiment {experiment_id!r} in the store; it has: {known}")
    return found.row(0, named=True)


def axes(store: DuckDBPyConnection, text: str, part: str = "all") -> pl.DataFrame:
    """One row per experiment that has both axes: output on ``text`` and internal at its peak.

    Columns: experiment_id, base_model, n_parameters, corpus, rank, steps, seed, hook, provenance,
    n_layers; of output_metric all but the keys; of the peak layer: peak_layer, peak_depth,
    n_peak_tokens, ratio* (its interval includes the choice of the layer), ratio_centred,
    ratio_in_sample, excess_fvu*, fve_self, ratio_bound, peak_share; over all layers: displacement* =
    largest 1 - CKA (its interval turned round) at displacement_layer, moved* = largest relative
    displacement at moved_layer.
    """
    return _ask(
        store,
        """
        WITH far AS (
            SELECT experiment_id, layer AS displacement_layer, 1 - cka AS displacement,
                   1 - cka_high AS displacement_low, 1 - cka_low AS displacement_high
            FROM layer_metric WHERE cka IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY experiment_id ORDER BY cka, layer) = 1),
        moved AS (
            SELECT experiment_id, layer AS moved_layer, relative_displacement AS moved,
                   relative_displacement_low AS moved_low, relative_displacement_high AS moved_high
            FROM layer_metric WHERE relative_displacement IS NOT NULL
            QUALIFY row_number() OVER (
                PARTITION BY experiment_id ORDER BY relative_displacement DESC, layer) = 1),
        peak AS (
            SELECT experiment_id, layer AS peak_layer, depth AS peak_depth,
                   n_tokens AS n_peak_tokens, ratio,
                   coalesce(p.peak_ratio_low, ratio_low) AS ratio_low,
                   coalesce(p.peak_ratio_high, ratio_high) AS ratio_high, ratio_centred,
                   ratio_in_sample, excess_fvu, excess_fvu_low, excess_fvu_high, fve_self,
                   ratio_bound, peak_share
            FROM layer_metric l LEFT JOIN profile p USING (experiment_id) WHERE is_peak
            QUALIFY row_number() OVER (PARTITION BY experiment_id ORDER BY layer) = 1)
        SELECT e.experiment_id, e.base_model, e.n_parameters, e.n_layers, e.corpus, e.rank, e.steps,
               e.seed, e.hook, e.provenance, o.* EXCLUDE (experiment_id),
               peak.* EXCLUDE (experiment_id), far.* EXCLUDE (experiment_id),
               moved.* EXCLUDE (experiment_id)
        FROM experiment e
        JOIN output_metric o ON o.experiment_id = e.experiment_id
                            AND o.text = $text AND o.part = $part
        LEFT JOIN peak ON peak.experiment_id = e.experiment_id
        LEFT JOIN far ON far.experiment_id = e.experiment_id
        LEFT JOIN moved ON moved.experiment_id = e.experiment_id
        ORDER BY e.n_parameters NULLS LAST, e.base_model, e.corpus, e.experiment_id
        """,
        text=text,
        part=part,
    )


def output(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """The output axis of one experiment, every text and part; text and part in alphabetic order."""
    return _ask(
        store,
        "SELECT * FROM output_metric WHERE experiment_id = $id ORDER BY text, part",
        id=experiment_id,
    )


def layers(store: DuckDBPyConnection, experiment_ids: list[str]) -> pl.DataFrame:
    """All layer metrics of some experiments with corpus, base_model and n_layers, by layer.

    Adds ``displacement`` = 1 - CKA with its interval.
    """
    return _ask(
        store,
        """
        SELECT l.*, 1 - l.cka AS displacement, 1 - l.cka_high AS displacement_low,
               1 - l.cka_low AS displacement_high, e.corpus, e.base_model, e.n_layers
        FROM layer_metric l JOIN experiment e ON e.experiment_id = l.experiment_id
        WHERE l.experiment_id IN (SELECT unnest($ids::VARCHAR[]))
        ORDER BY l.experiment_id, l.layer
        """,
        ids=experiment_ids,
    )


def dictionary_layers(store: DuckDBPyConnection, experiment_id: str) -> list[int]:
    """Layers of one experiment that have a crosscoder, ascending; the first block is 0."""
    found = _ask(
        store,
        """SELECT DISTINCT layer FROM dictionary
        WHERE experiment_id = $id AND kind = 'crosscoder' ORDER BY layer""",
        id=experiment_id,
    )
    return found["layer"].to_list()


def dictionaries(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """Every dictionary of one experiment as it ended, by layer and kind."""
    return _ask(
        store,
        "SELECT * FROM dictionary WHERE experiment_id = $id ORDER BY layer, kind",
        id=experiment_id,
    )


def curves(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """Training curves of one experiment: adapter and dictionaries, by run, layer and step."""
    return _ask(
        store,
        """SELECT * FROM training_curve WHERE experiment_id = $id
        ORDER BY run, layer NULLS FIRST, step""",
        id=experiment_id,
    )


def versions(row: dict[str, object]) -> dict[str, str]:
    """Package versions of an experiment row; empty when the record has none."""
    recorded = row.get("versions")
    return json.loads(recorded) if isinstance(recorded, str) and recorded else {}
