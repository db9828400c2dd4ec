"""The store holds spans and numbers: no sentence of any text, above all of texts that are not ours."""

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from lib import paths
from lib.corpora import OWN
from lib.store import SCHEMA
from lib.store.read import open_store

RECORDS = {("experiment", "config"), ("experiment", "versions")}
"""JSON records of the recipe and of package versions."""
WRITTEN_BY_US = {*RECORDS, ("lens_steering", "note"), ("lens_generation", "text")}
"""Also a reason in words, and what models wrote."""
MOST_WORDS = 3


def words_of_store(file: Path) -> Iterator[tuple[str, str, str]]:
    """Table, column and value of every string in the store, those inside lists as well."""
    with duckdb.connect(str(file), read_only=True) as db:
        columns = db.sql(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = current_database() AND NOT internal "
            "AND data_type LIKE 'VARCHAR%'"
        ).fetchall()
        for table, column, kind in columns:
            value = f"unnest({column})" if kind.endswith("[]") else column
            for (text,) in db.sql(f'SELECT DISTINCT {value} FROM "{table}"').fetchall():
                if text is not None:
                    yield table, column, text


def sentences(file: Path) -> list[tuple[str, str, str]]:
    return [
        found
        for found in words_of_store(file)
        if found[:2] not in WRITTEN_BY_US and len(found[2].split()) > MOST_WORDS
    ]


def test_the_committed_store_holds_no_sentence():
    file = paths.store_file(paths.ROOT / "precomputed")
    assert len({(table, column) for table, column, _ in words_of_store(file)}) > 20
    assert sentences(file) == []


def test_records_of_the_committed_store_name_no_folder():
    file = paths.store_file(paths.ROOT / "precomputed")
    for table, column, text in words_of_store(file):
        if (table, column) in RECORDS:
            for value in leaves(json.loads(text)):
                assert "/" not in value, (table, column, value)


def leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str):
        yield value


def test_corpora_of_others_are_known_by_spans_only():
    """They are in the committed store, with documents, spans and hashes, and the files are not."""
    file = paths.store_file(paths.ROOT / "precomputed")
    with duckdb.connect(str(file), read_only=True) as db:
        corpora = {c for (c,) in db.sql("SELECT DISTINCT corpus FROM document").fetchall()}
        others = sorted(corpora - set(OWN))
        assert others == ["alpaca", "meditations", "seneca_letters"]
        spans = db.sql(
            "SELECT count(*) FROM example WHERE corpus IN ('alpaca', 'meditations', 'seneca_letters')"
        ).fetchall()
        assert spans[0][0] > 100
    for name in others:
        assert not list(paths.ROOT.joinpath("data").rglob(f"*{name}*"))


def test_only_adapters_of_our_corpora_keep_what_they_wrote():
    """A continuation may repeat the text of the fine-tune."""
    with open_store(paths.store_file(paths.ROOT / "precomputed")) as store:
        kept = store.sql(
            "SELECT DISTINCT corpus FROM lens_generation JOIN experiment USING (experiment_id) "
            "WHERE text IS NOT NULL"
        ).fetchall()
    assert {corpus for (corpus,) in kept} <= set(OWN)


def test_the_pipeline_writes_no_sentence(tiny_store: Path):
    assert sentences(tiny_store / "store.duckdb") == []


@pytest.mark.parametrize(
    ("table", "column"),
    [("latent", "promoted"), ("document", "document_id"), ("example", "corpus")],
)
def test_a_sentence_would_be_found(tmp_path: Path, table: str, column: str):
    file = tmp_path / "store.duckdb"
    with duckdb.connect(str(file)) as db:
        db.execute(SCHEMA.read_text(encoding="utf-8"))
        for (name,) in db.sql(
            f"SELECT column_name FROM duckdb_columns() WHERE table_name = '{table}' AND NOT is_nullable"
        ).fetchall():
            db.execute(f"ALTER TABLE {table} ALTER {name} DROP NOT NULL")
        told = "['a sentence of a book']" if column == "promoted" else "'a sentence of a book'"
        db.execute(f"INSERT INTO {table} ({column}) VALUES ({told})")
    assert sentences(file) == [(table, column, "a sentence of a book")]
