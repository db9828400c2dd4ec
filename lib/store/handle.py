"""The read-only handle on the store, and what can be wrong with the file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from lib.store import READABLE, SCHEMA, SCHEMA_VERSION, newer_tables


class StoreError(RuntimeError):
    """The store cannot be read; the message says what was found and what to do."""


class StoreMissing(StoreError):
    """There is no store at the path."""


class StoreOutdated(StoreError):
    """The file is a store of another schema version, or no store of ours at all."""


class StoreLocked(StoreError):
    """Another process holds the file for writing, so nobody else can read it."""


class StoreDamaged(StoreError):
    """The file is a store, but parts of it cannot be read."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"The store is damaged: {found[:300]}. Restore it: `{_RESTORE}`, or make it anew: `{_RUN}`"
        )


_DAMAGE = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.SerializationException,
)


@contextmanager
def damage_named() -> Iterator[None]:
    """Whatever DuckDB says inside of a file that is broken, as ``StoreDamaged``.

    A wrong checksum has no class of its own: it is a plain ``duckdb.Error``, while a wrong query
    always has one and passes through.
    """
    try:
        yield
    except duckdb.Error as problem:
        if type(problem) is duckdb.Error or isinstance(problem, _DAMAGE):
            raise StoreDamaged(str(problem)) from problem
        raise


_TABLES = re.compile(r"^CREATE TABLE (\w+) \(.*?^\);", re.MULTILINE | re.DOTALL)
_RUN = "python -m lib run data/experiments/embedded.yaml"
_RESTORE = "git checkout precomputed/store.duckdb"


def open_store(path: Path) -> DuckDBPyConnection:
    """A read-only handle on the store; take ``.cursor()`` of it for every query.

    The file is attached to a database in memory, whose views carry the names of the tables.
    Connecting to the path itself would return the file as it was at the first connection of this
    process (DuckDB keeps one instance per path), even after a newer one was renamed into place.

    Raises:
        StoreMissing: no file at ``path``.
        StoreOutdated: no DuckDB file, no ``meta`` table, or another schema version.
        StoreLocked: another process writes to the file.
        StoreDamaged: a table of the schema is missing, or a part of the file that says what is in it
            has another checksum than it was written with.
    """
    if not path.is_file():
        raise StoreMissing(
            f"There is no store at {path}. Make one: `{_RUN}`, or take the "
            f"committed one: `{_RESTORE}`"
        )
    store = duckdb.connect(config={"python_enable_replacements": False})
    try:
        with damage_named():
            _attach(store, path)
            _name_tables(store)
            _check_tables(store, _check_version(store, path))
    except StoreError:
        store.close()
        raise
    return store


def _attach(store: DuckDBPyConnection, path: Path) -> None:
    quoted = str(path).replace("'", "''")
    try:
        store.execute(f"ATTACH '{quoted}' AS store (READ_ONLY)")
    except duckdb.IOException as problem:
        if "lock" in str(problem):
            raise StoreLocked(
                f"Another process holds {path} open for writing ({problem}). Wait "
                "for it to end, or stop it, then reload this page."
            ) from problem
        raise StoreOutdated(
            f"{path} is not a DuckDB file: {problem}. Restore it: `{_RESTORE}`, "
            f"or make it anew: `{_RUN}`"
        ) from problem


def _name_tables(store: DuckDBPyConnection) -> None:
    tables = store.sql("SELECT table_name FROM duckdb_tables() WHERE database_name = 'store'")
    for (name,) in tables.fetchall():
        store.execute(f'CREATE VIEW main."{name}" AS FROM store.main."{name}"')


def _check_tables(store: DuckDBPyConnection, version: int) -> None:
    """What an older file lacks is there and empty, so that no query needs to ask."""
    found = {name for (name,) in store.sql("SELECT view_name FROM duckdb_views()").fetchall()}
    due = {match[1]: match[0] for match in _TABLES.finditer(SCHEMA.read_text(encoding="utf-8"))}
    absent = [name for name in due if name not in found]
    if missing := [name for name in absent if name not in newer_tables(version)]:
        raise StoreDamaged(f"no table {', '.join(missing)}")
    for name in absent:
        store.execute(due[name])
    for name in newer_tables(version) - {*absent}:  # of another shape then, and never filled
        store.execute(f"DROP VIEW {name}")
        store.execute(due[name])


def _check_version(store: DuckDBPyConnection, path: Path) -> int:
    try:
        rows = store.sql("SELECT schema_version FROM meta").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):  # no such table, or another shape
        rows = []
    version = rows[0][0] if rows else "none"
    if version not in READABLE:
        raise StoreOutdated(
            f"{path} has schema version {version}, this code reads version "
            f"{SCHEMA_VERSION}. Take the committed store: `{_RESTORE}`, or make "
            f"it anew: `{_RUN}`"
        )
    return version
