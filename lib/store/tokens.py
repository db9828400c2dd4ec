"""Per-token divergence of held-out text. Every query returns polars; NULL scores stay out.

Entry t of a ``token_kl`` row belongs to the prediction OF token t from the tokens before it.
"""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.read import _ask

BINS_PER_DECADE = 10
FLOOR = 1e-6
"""Nats; smaller divergences (rounding, exact zeros) share the lowest bin of the histogram."""


def scored_corpora(store: DuckDBPyConnection, experiment_id: str) -> pl.DataFrame:
    """``corpus, n_documents`` of the scored texts; the fine-tune's own first."""
    return _ask(
        store,
        """
        SELECT k.corpus, count(*) AS n_documents
        FROM token_kl AS k JOIN experiment AS e USING (experiment_id)
        WHERE experiment_id = $experiment_id
        GROUP BY k.corpus ORDER BY any_value(k.corpus = e.corpus) DESC, k.corpus
        """,
        experiment_id=experiment_id,
    )


def documents(store: DuckDBPyConnection, experiment_id: str, corpus: str) -> pl.DataFrame:
    """``document_id, n_tokens, mean_kl, max_kl`` of scored tokens; largest mean
    first, documents of under 20 scored tokens last: their means are mostly chance."""
    return _ask(
        store,
        """
        SELECT document_id, len(list_filter(kl, lambda x: x IS NOT NULL)) AS n_tokens,
               list_avg(kl) AS mean_kl, list_max(kl) AS max_kl
        FROM token_kl WHERE experiment_id = $experiment_id AND corpus = $corpus
        ORDER BY n_tokens >= 20 DESC, mean_kl DESC NULLS LAST, document_id
        """,
        experiment_id=experiment_id,
        corpus=corpus,
    )


def document(
    store: DuckDBPyConnection, experiment_id: str, corpus: str, document_id: str
) -> pl.DataFrame:
    """Scores of one document with its token ends and text hash: one row, or none."""
    return _ask(
        store,
        """
        SELECT k.kl, k.nll_base, k.nll_tuned, d.sha256, d.char_ends
        FROM token_kl AS k
        JOIN experiment AS e USING (experiment_id)
        LEFT JOIN document AS d ON d.base_model = e.base_model AND d.corpus = k.corpus
            AND d.document_id = k.document_id
        WHERE experiment_id = $experiment_id AND k.corpus = $corpus
          AND k.document_id = $document_id
        """,
        experiment_id=experiment_id,
        corpus=corpus,
        document_id=document_id,
    )


def top_tokens(
    store: DuckDBPyConnection, experiment_id: str, corpus: str, *, limit: int
) -> pl.DataFrame:
    """The most divergent tokens of a text, with what is needed to cut out their context."""
    return _ask(
        store,
        """
        WITH token AS (
            SELECT document_id, unnest(range(len(kl))) AS position, unnest(kl) AS kl,
                   unnest(nll_base) AS nll_base, unnest(nll_tuned) AS nll_tuned
            FROM token_kl WHERE experiment_id = $experiment_id AND corpus = $corpus
        ), strongest AS (
            SELECT * FROM token WHERE kl IS NOT NULL
            ORDER BY kl DESC, document_id, position LIMIT $limit
        )
        SELECT s.document_id, s.position, s.kl, s.nll_base, s.nll_tuned, d.sha256, d.char_ends
        FROM strongest AS s
        JOIN experiment AS e ON e.experiment_id = $experiment_id
        LEFT JOIN document AS d ON d.base_model = e.base_model AND d.corpus = $corpus
            AND d.document_id = s.document_id
        ORDER BY s.kl DESC, s.document_id, s.position
        """,
        experiment_id=experiment_id,
        corpus=corpus,
        limit=limit,
    )


def kl_summary(store: DuckDBPyConnection, experiment_id: str, corpus: str) -> pl.DataFrame:
    """One row: ``n, n_documents, mean, median, p99, top_share`` over the scored tokens of a text.

    ``top_share`` is the part of the summed KL that lies in the tenth of tokens with the largest KL:
    0.1 if all tokens were alike. Null when nothing is scored or no token diverges.
    """
    return _ask(
        store,
        """
        WITH token AS (
            SELECT document_id, unnest(kl) AS kl FROM token_kl
            WHERE experiment_id = $experiment_id AND corpus = $corpus
        ), ranked AS (
            SELECT *, row_number() OVER (ORDER BY kl DESC) AS place, count(*) OVER () AS total
            FROM token WHERE kl IS NOT NULL
        )
        SELECT count(*) AS n, count(DISTINCT document_id) AS n_documents, avg(kl::DOUBLE) AS mean,
               median(kl::DOUBLE) AS median, quantile_cont(kl::DOUBLE, 0.99) AS p99,
               sum(kl::DOUBLE) FILTER (place <= ceil(total / 10)) / nullif(sum(kl::DOUBLE), 0)
                   AS top_share
        FROM ranked
        """,
        experiment_id=experiment_id,
        corpus=corpus,
    )


def kl_histogram(store: DuckDBPyConnection, experiment_id: str, corpus: str) -> pl.DataFrame:
    """``low, high, n, kl_share``: token counts in bins of equal width on a log axis (nats).

    ``kl_share`` is the bin's part of the summed KL. Empty bins have no row.
    """
    return _ask(
        store,
        """
        WITH token AS (
            SELECT unnest(kl)::DOUBLE AS kl FROM token_kl
            WHERE experiment_id = $experiment_id AND corpus = $corpus
        ), binned AS (
            SELECT kl, floor(log10(greatest(kl, $floor)) * $bins) AS bin
            FROM token WHERE kl IS NOT NULL
        )
        SELECT pow(10, bin / $bins) AS low, pow(10, (bin + 1) / $bins) AS high, count(*) AS n,
               sum(kl) / nullif(sum(sum(kl)) OVER (), 0) AS kl_share
        FROM binned GROUP BY bin ORDER BY bin
        """,
        experiment_id=experiment_id,
        corpus=corpus,
        floor=FLOOR,
        bins=BINS_PER_DECADE,
    )
