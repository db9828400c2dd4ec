"""The activation difference lens of every experiment; empty frames where it was not run."""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.read import _ask


def runs(store: DuckDBPyConnection) -> pl.DataFrame:
    """Table ``lens_run`` with ``base_model``, ``corpus``, ``seed`` of the training as
    ``training_seed``, ``n_layers`` and ``d``; by model, corpus and seed."""
    return _ask(
        store,
        """
        SELECT r.*, e.base_model, e.corpus, e.seed AS training_seed, e.n_layers, e.d
        FROM lens_run r JOIN experiment e USING (experiment_id)
        ORDER BY e.base_model, e.corpus, e.seed, experiment_id
        """,
    )


def differences(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """Table ``lens_difference`` of one experiment, with ``relative`` = norm over the base's norm; by
    probe, layer and position."""
    return _ask(
        store,
        """
        SELECT *, norm / base_norm AS relative FROM lens_difference WHERE experiment_id = $id
        ORDER BY probe, layer, position
        """,
        id=experiment_id,
    )


def readings(
    store: DuckDBPyConnection, experiment_id: str, layer: int | None = None
) -> pl.DataFrame:
    """Table ``lens_reading`` of one experiment, at one layer or at all; by layer, kind of reading and
    position."""
    return _ask(
        store,
        """
        SELECT * FROM lens_reading WHERE experiment_id = $id AND ($layer IS NULL OR layer = $layer)
        ORDER BY layer, reading, position
        """,
        id=experiment_id,
        layer=layer,
    )


def words_read(store: DuckDBPyConnection, reading: str) -> pl.DataFrame:
    """Words that every experiment's lens read at its middle block: ``experiment_id``,
    ``base_model``, ``corpus``, ``training_seed``, ``position``, ``words``.

    Args:
        reading: as in column ``reading`` of table ``lens_reading``.
    """
    return _ask(
        store,
        """
        SELECT t.experiment_id, e.base_model, e.corpus, e.seed AS training_seed, t.position, t.words
        FROM lens_reading t JOIN lens_run r USING (experiment_id, layer)
        JOIN experiment e USING (experiment_id) WHERE t.reading = $reading
        ORDER BY e.base_model, e.corpus, e.seed, t.experiment_id, t.position
        """,
        reading=reading,
    )


def rankings(store: DuckDBPyConnection) -> pl.DataFrame:
    """Table ``lens_words`` of every experiment, with ``base_model``, ``corpus``, ``training_seed``."""
    return _ask(
        store,
        """
        SELECT w.*, e.base_model, e.corpus, e.seed AS training_seed
        FROM lens_words w JOIN experiment e USING (experiment_id)
        ORDER BY e.base_model, e.corpus, e.seed, experiment_id
        """,
    )


def robustness(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """Table ``lens_robustness`` of one experiment; by check, position and measure."""
    return _ask(
        store,
        """SELECT * FROM lens_robustness WHERE experiment_id = $id
           ORDER BY check_name, position, measure""",
        id=experiment_id,
    )


def swaps(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """Table ``lens_swap`` of one experiment."""
    return _ask(
        store,
        """SELECT * FROM lens_swap WHERE experiment_id = $id
           ORDER BY text, direction, position, draw""",
        id=experiment_id,
    )


def steering(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """Table ``lens_steering`` of one experiment: one row, or none."""
    return _ask(store, "SELECT * FROM lens_steering WHERE experiment_id = $id", id=experiment_id)


def generations(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """Table ``lens_generation`` of one experiment; ``text`` is NULL where it may not be shown."""
    return _ask(
        store,
        """SELECT * FROM lens_generation WHERE experiment_id = $id
           ORDER BY prompt, kind, sample""",
        id=experiment_id,
    )


def similarities(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """Table ``lens_similarity`` of one experiment, nearest corpus first."""
    return _ask(
        store,
        """SELECT * FROM lens_similarity WHERE experiment_id = $id
           ORDER BY kind, similarity DESC""",
        id=experiment_id,
    )
