"""Reading the store: real DuckDB files from schema.sql, in tmp_path."""

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from lib import paths
from lib.store import SCHEMA_VERSION, geometry, read, sweep

SCHEMA = paths.ROOT / "lib" / "store" / "schema.sql"
ONE = "m.dtc_ads.r16.t50.s0"
TWO = "m.stoic_notes.r16.t50.s0"


def make(path: Path, *statements: str, version: int = SCHEMA_VERSION, mark: str = "") -> Path:
    """A store at ``path``; reads are cached by its id, so ``mark`` is the folder unless given."""
    with duckdb.connect(str(path)) as store:
        store.execute(SCHEMA.read_text())
        store.execute(
            "INSERT INTO meta VALUES (?, ?, now()::TIMESTAMP)", [version, mark or path.parent.name]
        )
        for statement in statements:
            store.execute(statement)
    return path


def experiment(name: str, corpus: str) -> str:
    return f"""INSERT INTO experiment (experiment_id, base_model, n_layers, corpus, provenance)
               VALUES ('{name}', 'm', 4, '{corpus}', 'measured')"""


def layer(name: str, number: int, cka: float, ratio: str = "NULL", peak: str = "NULL") -> str:
    return f"""INSERT INTO layer_metric (experiment_id, layer, depth, hook, n_tokens, cka, cka_low,
                   cka_high, relative_displacement, ratio, is_peak)
               VALUES ('{name}', {number}, {number / 4}, 'mlp', 100, {cka}, {cka - 0.02},
                   {cka + 0.01}, {number / 10}, {ratio}, {peak})"""


def output(name: str, text: str, kl: float, part: str = "all") -> str:
    return f"""INSERT INTO output_metric (experiment_id, text, part, n_documents, n_tokens, kl)
               VALUES ('{name}', '{text}', '{part}', 5, 50, {kl})"""


def dictionary(name: str, number: int, kind: str) -> str:
    return f"""INSERT INTO dictionary (experiment_id, layer, kind, latents, latents_asked, k,
                   train_tokens, heldout_tokens, steps, stopped)
               VALUES ('{name}', {number}, '{kind}', 8, 8, 2, 9, 9, 9, 'flat')"""


@pytest.fixture
def store(tmp_path):
    path = make(
        tmp_path / "store.duckdb",
        experiment(TWO, "stoic_notes"), experiment(ONE, "dtc_ads"),
        output(ONE, "corpus", 0.5), output(ONE, "neutral", 0.1), output(TWO, "corpus", 0.25),
        output(ONE, "corpus", 0.7, part="response"),
        layer(ONE, 0, 0.98), layer(ONE, 1, 0.90, "1.2", "false"),
        layer(ONE, 2, 0.95, "1.5", "true"), layer(ONE, 3, 0.96),
        dictionary(ONE, 2, "crosscoder"), dictionary(ONE, 1, "crosscoder"),
        dictionary(ONE, 3, "sae_base"),
    )  # fmt: skip
    return read.open_store(path)


def test_axes_join_output_at_the_text_with_the_peak_layer_and_the_extremes(store):
    row = read.axes(store, "corpus").filter(experiment_id=ONE).row(0, named=True)
    assert (row["kl"], row["part"]) == (0.5, "all")
    assert (row["peak_layer"], row["ratio"]) == (2, 1.5)
    assert row["displacement_layer"] == 1
    assert row["displacement"] == pytest.approx(0.10)
    assert row["displacement_low"] == pytest.approx(0.09)  # from the upper end of CKA
    assert row["displacement_high"] == pytest.approx(0.12)
    assert (row["moved_layer"], row["moved"]) == (3, pytest.approx(0.3))


def test_axes_keep_an_experiment_without_layers_and_drop_one_without_the_text(store):
    rows = read.axes(store, "corpus")
    assert rows["experiment_id"].to_list() == [ONE, TWO]
    assert rows.filter(experiment_id=TWO)["ratio"].to_list() == [None]
    assert read.axes(store, "neutral")["experiment_id"].to_list() == [ONE]


def test_layers_come_in_order_with_the_interval_turned_round(store):
    rows = read.layers(store, [ONE, TWO])
    assert rows["layer"].to_list() == [0, 1, 2, 3]
    assert rows["displacement_high"].to_list() == pytest.approx([0.04, 0.12, 0.07, 0.06])
    assert read.layers(store, []).is_empty()


def test_only_layers_with_a_crosscoder_can_be_picked(store):
    assert read.dictionary_layers(store, ONE) == [1, 2]
    assert read.dictionary_layers(store, TWO) == []


def test_an_id_is_a_value_and_never_sql(store):
    assert read.dictionary_layers(store, "' OR 1 = 1 --") == []


def test_an_unknown_experiment_is_named_beside_the_known_ones(store):
    with pytest.raises(LookupError, match=f"'nonsense'.*{ONE}"):
        read.experiment(store, "nonsense")


def test_the_store_cannot_be_written_through_the_handle(store):
    with pytest.raises(duckdb.Error), store.cursor() as cursor:
        cursor.execute("DELETE FROM store.main.experiment")
    assert len(read.experiments(store)) == 2


def test_a_store_renamed_into_place_is_seen_while_the_old_one_is_open(tmp_path):
    path = make(tmp_path / "store.duckdb", mark="first")
    old = read.open_store(path)
    newer = make(tmp_path / "store.new", experiment(ONE, "dtc_ads"), mark="second")
    newer.replace(path)
    new = read.open_store(path)
    assert (read.store_id(new), len(read.experiments(new))) == ("second", 1)
    assert (read.store_id(old), len(read.experiments(old))) == ("first", 0)


def test_many_threads_share_one_handle(store):
    found = []

    def ask():
        for _ in range(8):
            found.append(read.axes(store, "corpus")["kl"].to_list())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[0.5, 0.25]] * 32


def test_a_missing_store_names_path_and_command(tmp_path):
    with pytest.raises(read.StoreMissing, match=r"absent\.duckdb.*python -m lib run"):
        read.open_store(tmp_path / "absent.duckdb")


def test_another_schema_version_names_both(tmp_path):
    path = make(tmp_path / "store.duckdb", version=SCHEMA_VERSION + 1)
    with pytest.raises(read.StoreOutdated, match=f"version {SCHEMA_VERSION + 1}.*git checkout"):
        read.open_store(path)


def test_tables_of_an_older_shape_are_empty_ones_of_ours(tmp_path):
    path = make(
        tmp_path / "store.duckdb", experiment(ONE, "dtc_ads"),
        "ALTER TABLE sweep_layer DROP COLUMN text",
        "ALTER TABLE geometry_place DROP COLUMN pretrained", version=5,
    )  # fmt: skip
    store = read.open_store(path)
    assert read.experiments(store)["experiment_id"].to_list() == [ONE]
    assert sweep.layers(store).schema == sweep.LAYERS
    assert "pretrained" in geometry.places(store, [ONE]).columns


def test_a_database_that_is_not_ours_and_a_file_that_is_none_are_refused(tmp_path):
    with duckdb.connect(str(tmp_path / "other.duckdb")) as other:
        other.execute("CREATE TABLE t (a INTEGER)")
    with pytest.raises(read.StoreOutdated, match="version none"):
        read.open_store(tmp_path / "other.duckdb")
    (tmp_path / "text.duckdb").write_text("not a database " * 1000)
    with pytest.raises(read.StoreOutdated, match="not a DuckDB file"):
        read.open_store(tmp_path / "text.duckdb")


def test_a_store_that_another_process_writes_to_is_called_locked(tmp_path):
    path = make(tmp_path / "store.duckdb")
    hold = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(read.StoreLocked, match="open for writing"):
            read.open_store(path)
        writer.stdin.close()
    read.open_store(path)


def test_versions_of_a_record_without_any_are_empty():
    assert read.versions({"versions": '{"torch": "2"}'}) == {"torch": "2"}
    assert read.versions({"versions": None}) == {}
