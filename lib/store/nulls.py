"""Null controls, and the numbers that combine layers; empty frames where a store has none."""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.read import _ask

NULL_LAYERS = pl.Schema({
    "experiment_id": pl.String, "base_model": pl.String, "n_layers": pl.Int32,
    "control": pl.String, "draw": pl.Int32, "layer": pl.Int32, "ratio": pl.Float64,
    "ratio_centred": pl.Float64, "excess_fvu": pl.Float64, "displacement": pl.Float64,
    "relative_displacement": pl.Float64,
})  # fmt: skip
NULL_OUTPUTS = pl.Schema({
    "experiment_id": pl.String, "base_model": pl.String, "control": pl.String, "draw": pl.Int32,
    "text": pl.String, "kl": pl.Float64,
})  # fmt: skip


def null_layers(store: DuckDBPyConnection) -> pl.DataFrame:
    """Every null draw at every layer, columns ``NULL_LAYERS``; displacement = 1 - CKA.

    Ordered by experiment, control, draw and layer.
    """
    return _ask(
        store,
        """
        SELECT n.experiment_id, e.base_model, e.n_layers, n.control, n.draw, n.layer, n.ratio,
               n.ratio_centred, n.excess_fvu, 1 - n.cka AS displacement, n.relative_displacement
        FROM null_layer n JOIN experiment e USING (experiment_id)
        ORDER BY n.experiment_id, n.control, n.draw, n.layer
        """,
    )


def null_outputs(store: DuckDBPyConnection, text: str) -> pl.DataFrame:
    """KL of every null draw on one text, columns ``NULL_OUTPUTS``, by experiment and draw."""
    return _ask(
        store,
        """
        SELECT n.experiment_id, e.base_model, n.control, n.draw, n.text, n.kl
        FROM null_output n JOIN experiment e USING (experiment_id) WHERE n.text = $text
        ORDER BY n.experiment_id, n.control, n.draw
        """,
        text=text,
    )


def profiles(store: DuckDBPyConnection) -> pl.DataFrame:
    """Table ``profile``: peak ratio, late share and late-minus-mid contrast, by experiment."""
    return _ask(store, "SELECT * FROM profile ORDER BY experiment_id")
