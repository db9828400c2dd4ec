"""Paths in the plane: one row per adapter and text, or adapter and layer; empty without a sweep."""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.read import _ask

OUTPUTS = pl.Schema({
    "experiment_id": pl.String, "base_model": pl.String, "corpus": pl.String, "seed": pl.Int32,
    "own_rank": pl.Int32, "own_steps": pl.Int32, "path": pl.String, "value": pl.Float64,
    "rank": pl.Int32, "scale": pl.Float64, "loss": pl.Float64, "own": pl.Boolean,
    "text": pl.String, "documents": pl.Int32, "tokens": pl.Int64,
    "kl": pl.Float64, "kl_low": pl.Float64, "kl_high": pl.Float64,
    "agreement": pl.Float64, "agreement_low": pl.Float64, "agreement_high": pl.Float64,
    "nll": pl.Float64, "nll_base": pl.Float64,
})  # fmt: skip
LAYERS = pl.Schema({
    "experiment_id": pl.String, "base_model": pl.String, "path": pl.String, "value": pl.Float64,
    "layer": pl.Int32, "tokens": pl.Int64,
    "displacement": pl.Float64, "displacement_low": pl.Float64, "displacement_high": pl.Float64,
    "relative": pl.Float64, "relative_low": pl.Float64, "relative_high": pl.Float64,
    "offset_share": pl.Float64,
})  # fmt: skip


def outputs(store: DuckDBPyConnection) -> pl.DataFrame:
    """Every point of every path on every text, columns ``OUTPUTS``; by model, corpus, seed, path,
    value and text.

    ``own_rank`` and ``own_steps`` are the experiment's; ``own`` marks points that are its own adapter
    at full strength. KL and losses in nats per token, intervals 95 % over ``documents``; ``loss`` is
    that of the training, NULL where there was none.
    """
    return _ask(
        store,
        """
        SELECT p.experiment_id, e.base_model, e.corpus, e.seed, e.rank AS own_rank,
               e.steps AS own_steps, p.path, p.value, p.rank, p.scale, p.loss,
               coalesce(p.adapter_hash = e.adapter_hash AND p.scale = 1, false) AS own,
               o.text, o.documents, o.tokens, o.kl, o.kl_low, o.kl_high, o.agreement,
               o.agreement_low, o.agreement_high, o.nll, o.nll_base
        FROM sweep_point p
        JOIN sweep_output o USING (experiment_id, path, value)
        JOIN experiment e USING (experiment_id)
        ORDER BY e.base_model, e.corpus, e.seed, p.experiment_id, p.path, p.value, o.text
        """,
    )


def layers(store: DuckDBPyConnection, text: str = "both") -> pl.DataFrame:
    """Inner change of every point at every layer, columns ``LAYERS``; by experiment, path, value and
    layer.

    Measured on corpus and neutral text together (``both``), or on ``neutral`` text alone; ``tokens`` of
    it. ``displacement`` = 1 - debiased
    CKA, ``relative`` = rms of change / rms of base, ``offset_share`` = part of the squared change that
    is one constant vector.
    """
    return _ask(
        store,
        """
        SELECT l.experiment_id, e.base_model, l.path, l.value, l.layer, l.tokens,
               l.displacement, l.displacement_low, l.displacement_high,
               l.relative, l.relative_low, l.relative_high, l.offset_share
        FROM sweep_layer l JOIN experiment e USING (experiment_id)
        WHERE l.text = $text
        ORDER BY l.experiment_id, l.path, l.value, l.layer
        """,
        text=text,
    )
