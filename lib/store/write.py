"""Publish: a new store is built beside the old one and renamed over it.

A dashboard that is open keeps reading the old file and notices the new one by itself.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from lib import paths
from lib.store import ADDED, READABLE, SCHEMA, SCHEMA_VERSION
from lib.store.pack import selection

BY_EXPERIMENT = (
    "experiment",
    "training_curve",
    "output_metric",
    "layer_metric",
    "dictionary",
    "latent",
    "example",
    "token_kl",
    "null_layer",
    "null_output",
    "profile",
    "latent_count",
    *(name for names in ADDED.values() for name in names),
)
"""Tables whose rows belong to one experiment."""
PARTS = (
    "experiment",
    "causal_run",
    "lens_run",
    "sweep_point",
    "geometry_place",
    "weight_module",
)
"""Tables that name the pipeline stage of their rows, in the order of ``lib.pipeline.run``."""
BLOCK = 65536
"""Bytes a block of a published store. Measured on the committed one: 16.0 MB, with DuckDB's own 262,144
21.0 MB, with 16,384 31.1 MB, since dictionaries of strings do not fit into small blocks."""


def publish(parts: Mapping[str, Sequence[Path]], directory: Path) -> Path:
    """Write DIR/store.duckdb from Parquet parts, keeping the other experiments already in it.

    ``parts`` maps experiment id to folders with one Parquet file per table. An old store of a schema
    version that is not ``READABLE`` is not carried over: its experiments must be measured again.
    """
    target = paths.store_file(directory)
    directory.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f"{target.name}.building-{os.getpid()}")
    for stale in directory.glob(f"{target.name}.building-*"):  # of a killed run
        stale.unlink()
    compact = building.with_name(f"{building.name}-compact")
    try:
        _build(building, parts, target)
        _copy(building, compact)
        compact.replace(target)
    finally:
        building.unlink(missing_ok=True)
        compact.unlink(missing_ok=True)
    return target


def _copy(source: Path, target: Path) -> None:
    """Without the blocks that were freed while the rows came in: a fifth of the file and more. In small
    blocks: most tables do not fill one of DuckDB's own size, another quarter."""
    with duckdb.connect() as store:
        store.execute(f"ATTACH '{_quoted(source)}' AS grown (READ_ONLY)")
        store.execute(f"ATTACH '{_quoted(target)}' AS compact (BLOCK_SIZE {BLOCK})")
        store.execute("COPY FROM DATABASE grown TO compact")
        store.execute("CHECKPOINT compact")


def _build(building: Path, parts: Mapping[str, Sequence[Path]], old: Path) -> None:
    with duckdb.connect(str(building)) as store:
        store.execute(SCHEMA.read_text(encoding="utf-8"))
        _carry_over(store, old, sorted(parts))
        for experiment_id in sorted(parts):
            for file in sorted(
                f for folder in parts[experiment_id] for f in folder.glob("*.parquet")
            ):
                _insert(store, file.stem, file)
        store.execute(
            "INSERT INTO meta VALUES (?, ?, ?)",
            [SCHEMA_VERSION, _store_id(store), datetime.now(UTC).replace(tzinfo=None)],
        )
        store.execute("CHECKPOINT")


def published_parts(directory: Path) -> dict[str, list[str]]:
    """Experiment id -> the parts its rows were made from (metrics, ablation, lens, sweep, geometry,
    weights), of the store in DIR; empty without one."""
    target = paths.store_file(directory)
    if not target.exists():
        return {}
    with duckdb.connect(str(target), read_only=True) as store:
        version = store.execute("SELECT schema_version FROM meta").fetchone()
        if version is None or version[0] != SCHEMA_VERSION:
            return {}
        return _parts(store)


def _parts(store: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table in PARTS:
        for experiment_id, part in store.execute(
            f"SELECT DISTINCT experiment_id, part FROM {table} ORDER BY ALL"  # noqa: S608
        ).fetchall():
            found.setdefault(experiment_id, []).append(part)
    return found


def _store_id(store: duckdb.DuckDBPyConnection) -> str:
    """Hash of the parts: their keys name content, so equal ids mean equal results."""
    return hashlib.sha256(repr(sorted(_parts(store).items())).encode()).hexdigest()[:12]


def _insert(store: duckdb.DuckDBPyConnection, table: str, file: Path) -> None:
    if table == "document":  # shared by experiments on the same model and corpus
        _refuse_changed_text(store, file)
        store.execute(
            "INSERT INTO document BY NAME SELECT * FROM read_parquet($file) p WHERE NOT EXISTS ("
            "SELECT 1 FROM document d WHERE d.base_model = p.base_model AND d.corpus = p.corpus "
            "AND d.document_id = p.document_id)",
            {"file": str(file)},
        )
        return
    if table not in BY_EXPERIMENT:
        raise ValueError(f"{file}: no table {table!r} in schema.sql")
    store.execute(
        f"INSERT INTO {table} BY NAME {selection(store, table, file)}", {"file": str(file)}
    )


def _refuse_changed_text(store: duckdb.DuckDBPyConnection, file: Path) -> None:
    changed = store.execute(
        "SELECT p.corpus, p.document_id FROM read_parquet($file) p JOIN document d "
        "USING (base_model, corpus, document_id) WHERE p.sha256 <> d.sha256 LIMIT 1",
        {"file": str(file)},
    ).fetchall()
    if changed:
        corpus, document = changed[0]
        raise ValueError(
            f"document {document!r} of corpus {corpus!r} has another text than in the experiments "
            "already in this store; give the changed corpus a name of its own, or use --out"
        )


def _carry_over(store: duckdb.DuckDBPyConnection, old: Path, replaced: Sequence[str]) -> None:
    """Copy the rows of the old store's other experiments."""
    if not old.exists():
        return
    store.execute(f"ATTACH '{_quoted(old)}' AS old (READ_ONLY)")
    version = store.execute("SELECT schema_version FROM old.meta").fetchone()
    if version is None or version[0] not in READABLE:
        store.execute("DETACH old")
        return
    marks = ", ".join("?" for _ in replaced)
    others = store.execute(
        f"SELECT experiment_id FROM old.experiment WHERE experiment_id NOT IN ({marks})",  # noqa: S608
        list(replaced),
    ).fetchall()
    if others:
        known = store.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'old'"
        ).fetchall()
        for table in sorted({name for (name,) in known} & set(BY_EXPERIMENT)):
            store.execute(
                f"INSERT INTO {table} BY NAME SELECT * FROM old.{table} "  # noqa: S608
                f"WHERE experiment_id NOT IN ({marks})",
                list(replaced),
            )
        store.execute(
            "INSERT INTO document SELECT * FROM old.document d WHERE (base_model, corpus) IN ("
            "SELECT e.base_model, x.corpus FROM experiment e JOIN (SELECT experiment_id, corpus "
            "FROM token_kl UNION SELECT experiment_id, corpus FROM example UNION "
            "SELECT experiment_id, corpus FROM experiment) x USING (experiment_id))"
        )
    store.execute("DETACH old")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
