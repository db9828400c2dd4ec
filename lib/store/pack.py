"""What the store keeps of a measured table: fewer digits, and details of the latents that matter."""

import json
from collections.abc import Iterable
from pathlib import Path

from duckdb import DuckDBPyConnection

ROUNDED = {
    **dict.fromkeys(("norm_base", "norm_tuned", "delta_norm", "cosine", "nu_eps", "nu_r"), 4),
    **dict.fromkeys(("max_activation", "seed_cosine", "change_cosine"), 4),
    **dict.fromkeys(("top_document", "top_position", "frequency"), 4),
    **dict.fromkeys(("energy", "difference_share"), 6),
}
"""Significant digits of table ``latent``, at least what any page shows: they pack a quarter smaller.
Not decimals, because units differ between models."""
DECIMALS = {
    "causal_draw": {"document_kl": 4, "edit_norm": 3, "difference_norm": 3, "removed": 4},
    "token_kl": {"kl": 4, "nll_base": 3, "nll_tuned": 3},
}
"""Places of lists: of ablations a sum of KL of some ten nats, norms of some units, and a share; of
tokens nats, which pages show to two. Decimals here, because lists of them pack to half of single
precision."""
OVERLAP = ("value", "distance", "angle", "angle_distance")
"""Of table ``weight_overlap``, stored with four significant digits."""
DETAILED = 256
"""Latents per depth of which ``keep: tables`` stores everything: those with most of the difference. Of
the others it stores the numbers and the ``FIRST`` promoted tokens."""
DETAILS = ("histogram_counts", "suppressed", "suppressed_logit")
SHORTENED = ("promoted", "promoted_logit")
FIRST = 4

_TO_DIGITS = (
    "CASE WHEN {0} <> 0 AND isfinite({0}) "
    "THEN round({0}::DOUBLE, {1} - 1 - floor(log10(abs({0})))::INTEGER) ELSE {0} END AS {0}"
)
_PLACE = "row_number() OVER (PARTITION BY layer ORDER BY difference_share DESC NULLS LAST, latent)"


def selection(store: DuckDBPyConnection, table: str, file: Path) -> str:
    """The query that reads a part as it is stored; ``$file`` stands for the file."""
    if table in DECIMALS:
        return _replaced(
            f"list_transform({name}, lambda x: round(x::DOUBLE, {places})) AS {name}"
            for name, places in DECIMALS[table].items()
        )
    if table == "weight_overlap":
        return _replaced(_TO_DIGITS.format(name, 4) for name in OVERLAP)
    if table == "latent":
        return _latents(store, file)
    if table == "example" and _compared_only(file):
        latents = str(file.with_name("latent.parquet")).replace("'", "''")
        return (
            "SELECT * FROM read_parquet($file) SEMI JOIN (SELECT layer, latent FROM "  # noqa: S608
            f"read_parquet('{latents}') QUALIFY {_PLACE} <= {DETAILED}) USING (layer, latent)"
        )
    return "SELECT * FROM read_parquet($file)"


def _latents(store: DuckDBPyConnection, file: Path) -> str:
    described = store.execute("DESCRIBE SELECT * FROM read_parquet($file)", {"file": str(file)})
    there = {row[0] for row in described.fetchall()}
    changed = [_TO_DIGITS.format(name, n) for name, n in ROUNDED.items() if name in there]
    if _compared_only(file):
        changed += [
            f"CASE WHEN {_PLACE} <= {DETAILED} THEN {name} END AS {name}"
            for name in DETAILS
            if name in there
        ]
        changed += [
            f"CASE WHEN {_PLACE} <= {DETAILED} THEN {name} ELSE {name}[:{FIRST}] END AS {name}"
            for name in SHORTENED
            if name in there
        ]
    return _replaced(changed)


def _replaced(changed: Iterable[str]) -> str:
    """All columns of the part, these expressions in the place of their namesakes."""
    columns = ", ".join(changed)
    return f"SELECT * {f'REPLACE ({columns})' if columns else ''} FROM read_parquet($file)"  # noqa: S608


def _compared_only(file: Path) -> bool:
    """Whether the part comes from an experiment with ``keep: tables``."""
    manifest = file.with_name("manifest.json")
    if not manifest.exists():
        return False
    return json.loads(manifest.read_text(encoding="utf-8"))["inputs"].get("keep") == "tables"
