"""Publishing: other experiments stay, readers are never locked out, old schemas are not carried on."""

import json
import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest

from lib.store import causal, newer_tables, read, write
from lib.store.handle import StoreDamaged
from lib.store.read import StoreMissing, StoreOutdated, open_store


def _part(folder: Path, experiment: str, kl: float, key: str) -> Path:
    part = folder / key
    part.mkdir(parents=True)
    row = {"experiment_id": experiment, "base_model": "m", "corpus": "c", "provenance": "measured"}
    pl.DataFrame([row | {"part": key}]).write_parquet(part / "experiment.parquet")
    metric = {"experiment_id": experiment, "text": "corpus", "part": "all", "kl": kl}
    pl.DataFrame([metric | {"n_documents": 2, "n_tokens": 9}]).write_parquet(
        part / "output_metric.parquet"
    )
    pl.DataFrame(
        {
            "base_model": ["m"],
            "corpus": ["c"],
            "document_id": ["d1"],
            "split": ["train"],
            "sha256": ["0"],
            "n_tokens": [1],
            "char_ends": [[3]],
        }
    ).write_parquet(part / "document.parquet")
    return part


def _kl(folder: Path) -> dict[str, float]:
    with duckdb.connect(str(folder / "store.duckdb"), read_only=True) as db:
        return dict(db.execute("SELECT experiment_id, kl FROM output_metric").fetchall())


def test_publishing_one_experiment_keeps_the_others_and_replaces_itself(tmp_path: Path):
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    write.publish({"b": [_part(tmp_path, "b", 0.2, "k2")]}, tmp_path)
    write.publish({"a": [_part(tmp_path, "a", 0.3, "k3")]}, tmp_path)
    assert _kl(tmp_path) == {"a": 0.3, "b": 0.2}
    assert write.published_parts(tmp_path) == {"a": ["k3"], "b": ["k2"]}
    with duckdb.connect(str(tmp_path / "store.duckdb"), read_only=True) as db:
        assert db.execute("SELECT count(*) FROM document").fetchone() == (1,)  # shared, not doubled


def test_the_store_id_is_about_content_not_about_order(tmp_path: Path):
    ids = []
    for order in (("a", "b"), ("b", "a")):
        out = tmp_path / "".join(order)
        for name in order:
            write.publish({name: [_part(out / name, name, 0.1, f"k-{name}")]}, out)
        with duckdb.connect(str(out / "store.duckdb"), read_only=True) as db:
            ids.append(db.execute("SELECT store_id FROM meta").fetchone())
    assert ids[0] == ids[1]


def test_an_open_reader_keeps_its_store_while_a_new_one_is_published(tmp_path: Path):
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    reader = open_store(tmp_path / "store.duckdb")
    write.publish({"a": [_part(tmp_path, "a", 0.9, "k2")]}, tmp_path)
    with reader.cursor() as cursor:
        assert cursor.sql("SELECT kl FROM output_metric").fetchall() == [(0.1,)]
    assert _kl(tmp_path) == {"a": 0.9}


def test_a_published_store_has_small_blocks_and_none_that_is_free(tmp_path: Path):
    for number in range(4):
        write.publish({f"e{number}": [_part(tmp_path, f"e{number}", 0.1, f"k{number}")]}, tmp_path)
    with duckdb.connect(str(tmp_path / "store.duckdb"), read_only=True) as db:
        ((block, free, total),) = db.sql(
            "SELECT block_size, free_blocks, total_blocks FROM pragma_database_size()"
        ).fetchall()
        assert (block, free) == (write.BLOCK, 0) and total > 0
        keys = db.sql(
            "SELECT count(*) FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'"
        ).fetchall()
    assert keys == [(2,)]
    assert [file.name for file in tmp_path.glob("store.duckdb*")] == ["store.duckdb"]


def test_a_store_of_another_schema_version_is_refused_and_not_carried_over(tmp_path: Path):
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    with duckdb.connect(str(tmp_path / "store.duckdb")) as db:
        db.execute("UPDATE meta SET schema_version = 0")
    with pytest.raises(StoreOutdated, match="python -m lib run"):
        open_store(tmp_path / "store.duckdb")
    write.publish({"b": [_part(tmp_path, "b", 0.2, "k2")]}, tmp_path)
    assert _kl(tmp_path) == {"b": 0.2}


def test_a_store_from_before_the_standard_ablation_is_read_and_carried_over(tmp_path: Path):
    file = tmp_path / "store.duckdb"
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    with duckdb.connect(str(file)) as db:
        for name in newer_tables(3):
            db.execute(f"DROP TABLE {name}")
        db.execute("UPDATE meta SET schema_version = 3")
    old = open_store(file)
    assert old.sql("SELECT count(*) FROM lens_run").fetchall() == [(0,)]
    assert causal.runs(old).is_empty() and causal.runs(old).schema == causal.RUNS
    assert causal.result(old, "a") is None
    assert write.published_parts(tmp_path) == {}
    write.publish({"b": [_part(tmp_path, "b", 0.2, "k2")]}, tmp_path)
    assert _kl(tmp_path) == {"a": 0.1, "b": 0.2}
    assert write.published_parts(tmp_path) == {"a": ["k1"], "b": ["k2"]}
    assert causal.runs(open_store(file)).is_empty()


def test_a_missing_store_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(StoreMissing, match="python -m lib run"):
        open_store(tmp_path / "store.duckdb")


@pytest.mark.parametrize("offset", [5000, 9000])
def test_a_wrong_checksum_is_damage_with_its_remedy(tmp_path: Path, offset: int):
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    file = tmp_path / "store.duckdb"
    _flip(file, offset)
    with pytest.raises(StoreDamaged, match=r"checksum.*git checkout precomputed/store\.duckdb"):
        open_store(file)


def test_damage_anywhere_in_the_file_is_never_another_error(tmp_path: Path):
    """Most of it shows in a later read only: one byte of every block in turn."""
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    file, broken = tmp_path / "store.duckdb", tmp_path / "broken.duckdb"
    shown = {"opened": 0, "read": 0}
    for offset in range(12_288 + 112, file.stat().st_size, write.BLOCK):
        shutil.copy(file, broken)
        _flip(broken, offset)
        try:
            store = open_store(broken)
        except StoreDamaged:
            shown["opened"] += 1
            continue
        try:
            for (name,) in store.sql(
                "SELECT view_name FROM duckdb_views() WHERE NOT internal"
            ).fetchall():
                read._ask(store, f'SELECT * FROM "{name}"')
        except StoreDamaged as problem:
            assert "git checkout" in str(problem)
            shown["read"] += 1
    assert min(shown.values()) > 0


def test_a_wrong_query_is_not_called_damage(tmp_path: Path):
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    with pytest.raises(duckdb.CatalogException, match="no_such_table"):
        read._ask(open_store(tmp_path / "store.duckdb"), "SELECT * FROM no_such_table")


def _flip(file: Path, offset: int) -> None:
    with file.open("r+b") as raw:
        raw.seek(offset)
        byte = raw.read(1)[0]
        raw.seek(offset)
        raw.write(bytes([byte ^ 0xFF]))


def test_a_part_for_an_unknown_table_is_refused_and_the_old_store_stays(tmp_path: Path):
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    bad = _part(tmp_path, "b", 0.2, "k2")
    pl.DataFrame({"x": [1]}).write_parquet(bad / "surprise.parquet")
    with pytest.raises(ValueError, match="no table 'surprise'"):
        write.publish({"b": [bad]}, tmp_path)
    assert _kl(tmp_path) == {"a": 0.1}
    assert list(tmp_path.glob("*.building-*")) == []


def test_a_corpus_that_changed_under_its_name_is_refused(tmp_path: Path):
    write.publish({"a": [_part(tmp_path, "a", 0.1, "k1")]}, tmp_path)
    part = _part(tmp_path, "b", 0.2, "k2")
    document = pl.read_parquet(part / "document.parquet").with_columns(sha256=pl.lit("other"))
    document.write_parquet(part / "document.parquet")
    with pytest.raises(ValueError, match="another text"):
        write.publish({"b": [part]}, tmp_path)
    assert _kl(tmp_path) == {"a": 0.1}


def test_comparisons_keep_details_of_the_features_with_most_of_the_difference(tmp_path: Path):
    """``keep: tables``: numbers of every latent, histograms and examples of the first 256 per depth."""
    part = _part(tmp_path, "a", 0.1, "k1")
    many = 300
    latents = pl.DataFrame(
        {
            "experiment_id": ["a"] * many,
            "layer": [1] * many,
            "latent": list(range(many)),
            "class": ["shared"] * many,
            "difference_share": [(i + 1) / many for i in range(many)],
            "histogram_counts": [[1, 2]] * many,
            "promoted": [["x"]] * many,
        }
    )
    latents.write_parquet(part / "latent.parquet")
    example = {
        "experiment_id": "a", "layer": 1, "rank": 0, "corpus": "c", "document_id": "d",
        "token_start": 0, "token_end": 1, "positions": [0], "activations": [1.0],
    }  # fmt: skip
    pl.DataFrame([example | {"latent": i} for i in (10, 299)]).write_parquet(
        part / "example.parquet"
    )
    for keep, kept, shown in (("full", many, [10, 299]), ("tables", 256, [299])):
        (part / "manifest.json").write_text(json.dumps({"inputs": {"keep": keep}}))
        write.publish({"a": [part]}, tmp_path)
        with duckdb.connect(str(tmp_path / "store.duckdb"), read_only=True) as db:
            counted = "SELECT count(*), count(promoted), count(histogram_counts), "
            found = db.sql(
                f"{counted} min(latent) FILTER (histogram_counts IS NOT NULL) FROM latent"
            ).fetchall()
            assert found == [(many, many, kept, many - kept)]
            assert db.sql("SELECT latent FROM example ORDER BY ALL").fetchall() == [
                (i,) for i in shown
            ]
