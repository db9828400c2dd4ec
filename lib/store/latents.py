"""What the store knows about the latents of one crosscoder. Every query returns polars.

``store`` is an open DuckDB connection; each call takes a cursor of its own, because a shared
connection is not safe across threads. Nothing here reads more rows than a screen needs: a
dictionary can hold 65,536 latents.
"""

from dataclasses import dataclass

import polars as pl
from duckdb import DuckDBPyConnection

from lib.metrics.artefacts import CHECKS
from lib.store.crosscoder import ask_checked
from lib.store.read import _ask

CLASSES = ("eliminated", "suppressed", "shared", "amplified", "new", "dead")
SORTS = {
    "difference_share": "share of the difference's energy",
    "energy": "share of the energy",
    "delta_norm": "relative norm (0 base only, 1 tuned only)",
    "cosine": "cosine of the two directions",
    "frequency": "frequency",
    "norm_base": "decoder norm, base",
    "norm_tuned": "decoder norm, tuned",
    "nu_eps": "nu, error",
    "nu_r": "nu, reconstruction",
    "max_activation": "largest activation",
    "seed_cosine": "cosine across seeds",
    "checks": "artefact checks passed",
    "latent": "number",
}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which latents of one dictionary, in which order. The order ends with the latent's number,
    so it is total and a place in it is stable; latents without a value stand last."""

    experiment_id: str
    layer: int
    classes: tuple[str, ...] = ()
    """Empty = every class."""
    min_frequency: float = 0.0
    """Share of held-out tokens, 0..1; above 0 it also leaves out latents without a frequency."""
    token: str = ""
    """Part of a promoted token, upper and lower case alike; empty = any."""
    all_checks: bool = False
    """Only latents that pass every artefact check; what was not measured passes none."""
    sort: str = "difference_share"
    """One of ``SORTS``."""
    descending: bool = True

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise ValueError(
                f"cannot sort latents by {self.sort!r}; choose from {', '.join(SORTS)}"
            )
        if unknown := set(self.classes) - set(CLASSES):
            raise ValueError(f"unknown latent class {sorted(unknown)}; choose from {CLASSES}")


def latent_page(
    store: DuckDBPyConnection, chosen: Selection, *, offset: int, limit: int
) -> pl.DataFrame:
    """Rows ``offset .. offset + limit`` of the selection; ``place`` counts from 1."""
    return _ask_ordered(
        store,
        chosen,
        """
        SELECT place, latent, class, delta_norm, norm_base, norm_tuned, cosine, nu_eps, nu_r,
               frequency, energy, difference_share, max_activation, seed_cosine, checks_passed,
               checks_unknown, list_slice(promoted, 1, 5) AS promoted
        FROM ordered WHERE place > $offset AND place <= $offset + $limit ORDER BY place
        """,
        offset=offset,
        limit=limit,
    )


def class_counts(store: DuckDBPyConnection, chosen: Selection) -> pl.DataFrame:
    """``class, n, difference_share`` of the selection; an empty class has no row."""
    return _ask_ordered(
        store,
        chosen,
        """
        SELECT class, count(*) AS n, sum(difference_share) AS difference_share
        FROM ordered GROUP BY class ORDER BY class
        """,
    )


def latent_map(store: DuckDBPyConnection, chosen: Selection, *, limit: int = 3000) -> pl.DataFrame:
    """The ``limit`` latents of the selection that carry most of the difference, largest first.
    Latents without a positive share have no place on a log axis and are left out."""
    return _ask_ordered(
        store,
        chosen,
        """
        SELECT latent, class, delta_norm, frequency, difference_share,
               list_slice(promoted, 1, 3) AS promoted
        FROM ordered WHERE difference_share > 0 AND delta_norm IS NOT NULL
        ORDER BY difference_share DESC, latent LIMIT $limit
        """,
        limit=limit,
    )


def latent(store: DuckDBPyConnection, experiment_id: str, layer: int, number: int) -> pl.DataFrame:
    """Every column of one latent, checks_passed and checks_unknown: one row, or none."""
    return ask_checked(
        store,
        """
        SELECT * FROM latent JOIN checked USING (latent)
        WHERE experiment_id = $experiment_id AND layer = $layer AND latent = $number
        """,
        experiment_id=experiment_id,
        layer=layer,
        number=number,
    )


def neighbours(store: DuckDBPyConnection, chosen: Selection, number: int) -> pl.DataFrame:
    """``place, total, previous, next`` (latent numbers) of one latent; no row if filtered out."""
    return _ask_ordered(
        store,
        chosen,
        """
        SELECT place, total, previous, next FROM (
            SELECT latent, place, count(*) OVER () AS total,
                   lag(latent) OVER (ORDER BY place) AS previous,
                   lead(latent) OVER (ORDER BY place) AS next
            FROM ordered
        ) WHERE latent = $number
        """,
        number=number,
    )


def examples(
    store: DuckDBPyConnection, experiment_id: str, layer: int, number: int
) -> pl.DataFrame:
    """Windows where it fires most, strongest first; ``split`` to ``char_ends`` null if unlisted."""
    return _ask(
        store,
        """
        SELECT x.rank, x.corpus, x.document_id, token_start, token_end, positions, activations,
               split, sha256, char_ends
        FROM example AS x
        JOIN experiment AS e USING (experiment_id)
        LEFT JOIN document AS d ON d.base_model = e.base_model AND d.corpus = x.corpus
            AND d.document_id = x.document_id
        WHERE experiment_id = $experiment_id AND layer = $layer AND latent = $number
        ORDER BY x.rank
        """,
        experiment_id=experiment_id,
        layer=layer,
        number=number,
    )


# The sort column is a value, not a piece of SQL, so no name ever reaches the statement's text.
_ORDERED = """
    WITH chosen AS (
        SELECT *, CASE $sort
            WHEN 'difference_share' THEN difference_share WHEN 'energy' THEN energy
            WHEN 'delta_norm' THEN delta_norm WHEN 'cosine' THEN cosine
            WHEN 'frequency' THEN frequency WHEN 'norm_base' THEN norm_base
            WHEN 'norm_tuned' THEN norm_tuned WHEN 'nu_eps' THEN nu_eps WHEN 'nu_r' THEN nu_r
            WHEN 'max_activation' THEN max_activation WHEN 'seed_cosine' THEN seed_cosine
            -- a share is at most 1: it only orders latents that pass equally many checks
            WHEN 'checks' THEN checks_passed + coalesce(difference_share, 0) / 2
            ELSE latent END AS sort_value
        FROM latent JOIN checked USING (latent)
        WHERE experiment_id = $experiment_id AND layer = $layer
          AND (len($classes::VARCHAR[]) = 0 OR list_contains($classes::VARCHAR[], class))
          AND ($min_frequency <= 0 OR frequency >= $min_frequency)
          AND (NOT $all_checks OR checks_passed = $checks)
          AND ($token = '' OR len(
                list_filter(promoted, lambda t: contains(lower(t), lower($token)))) > 0)
    ), ordered AS (
        SELECT *, row_number() OVER (
            ORDER BY CASE WHEN $descending THEN -sort_value ELSE sort_value END NULLS LAST, latent
        ) AS place
        FROM chosen
    )
"""


def _ask_ordered(
    store: DuckDBPyConnection, chosen: Selection, question: str, **values: object
) -> pl.DataFrame:
    """Ask a constant question about ``ordered``, the selection with its places."""
    selection = {**vars(chosen), "classes": list(chosen.classes), "checks": len(CHECKS)}
    return ask_checked(store, _ORDERED + question, **selection, **values)
