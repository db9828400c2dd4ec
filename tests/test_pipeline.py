"""The whole pipeline on tiny-llama: results, resume after kill -9, skipping, the B = 0 oracle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from lib import config, paths
from tests.tiny import write_config

pytestmark = pytest.mark.slow

RUN = [sys.executable, "-m", "lib", "run"]
VOLATILE = {
    "experiment": "created_at, train_seconds",
    "dictionary": "seconds",
    "causal_run": "seconds",
    "lens_run": "seconds",
}


def _environment(work: Path) -> dict[str, str]:
    own = {"INSIDEOUT_WORK": str(work), "INSIDEOUT_CACHE": str(work / "cache")}
    return os.environ | own | {"OMP_NUM_THREADS": "1"}


def _run(file: Path, out: Path, work: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, str(file), "--out", str(out), "--jobs", "1", "--quiet"],
        cwd=paths.ROOT,
        env=_environment(work),
        capture_output=True,
        text=True,
        check=False,
    )


def _content(store: Path) -> dict[str, list[tuple]]:
    """Every table's rows without wall-clock columns."""
    with duckdb.connect(str(store), read_only=True) as db:
        tables = [t for (t,) in db.execute("SHOW TABLES").fetchall() if t != "meta"]
        return {
            t: db.execute(
                f"SELECT * EXCLUDE ({VOLATILE[t]}) FROM {t} ORDER BY ALL"
                if t in VOLATILE
                else f"SELECT * FROM {t} ORDER BY ALL"
            ).fetchall()
            for t in tables
        }


def test_every_table_has_rows_and_the_axes_are_in_range(tiny_store: Path):
    with duckdb.connect(str(tiny_store / "store.duckdb"), read_only=True) as db:
        for (table,) in db.execute("SHOW TABLES").fetchall():
            rows = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            asked = not table.startswith(
                ("sweep_", "geometry_")
            )  # tests of their own ask for these
            assert (rows > 0) == asked, table
        kl, agreement = db.execute("SELECT min(kl), max(agreement) FROM output_metric").fetchone()
        assert kl > 0
        assert agreement <= 1
        low, value, high = db.execute(
            "SELECT kl_low, kl, kl_high FROM output_metric WHERE text = 'corpus' LIMIT 1"
        ).fetchone()
        assert low <= value <= high
        layers = db.execute(
            "SELECT layer FROM layer_metric WHERE ratio IS NOT NULL GROUP BY layer ORDER BY layer"
        ).fetchall()
        assert layers == [(0,), (1,)]
        parts = db.execute(
            "SELECT DISTINCT part FROM output_metric WHERE experiment_id LIKE '%instructions%' "
            "AND text = 'corpus' ORDER BY part"
        ).fetchall()
        assert parts == [("all",), ("prompt",), ("response",)]


def test_examples_point_at_the_text_that_fired(tiny_store: Path):
    """The strongest activation lies inside its window, and the document is a known one."""
    with duckdb.connect(str(tiny_store / "store.duckdb"), read_only=True) as db:
        bad = db.execute(
            "SELECT count(*) FROM example e LEFT JOIN document d USING (corpus, document_id) "
            "WHERE d.n_tokens IS NULL OR e.token_end > d.n_tokens OR e.token_start < 0 "
            "OR list_min(e.positions) < e.token_start OR list_max(e.positions) >= e.token_end"
        ).fetchone()[0]
        assert bad == 0
        off = db.execute(
            "SELECT count(*) FROM example e JOIN latent l USING (experiment_id, layer, latent) "
            "WHERE list_max(e.activations) > l.max_activation * 1.006"  # examples: three digits
        ).fetchone()[0]
        assert off == 0


def test_shares_sum_to_one(tiny_store: Path):
    with duckdb.connect(str(tiny_store / "store.duckdb"), read_only=True) as db:
        for energy, difference in db.execute(
            "SELECT sum(energy), sum(difference_share) FROM latent GROUP BY experiment_id, layer"
        ).fetchall():
            assert energy == pytest.approx(1)
            assert difference == pytest.approx(1)


def test_every_alive_latent_was_looked_for_in_the_dictionaries_of_other_seeds(tiny_store: Path):
    """One replica: a latent is in one or two dictionaries, a dead one in none."""
    with duckdb.connect(str(tiny_store / "store.duckdb"), read_only=True) as db:
        rows = db.execute(
            "SELECT DISTINCT class = 'dead' AS dead, seeds, seeds_found IN (1, 2), "
            "seed_cosine BETWEEN -1 AND 1, seeds_found = 2 AND seed_cosine < 0.7 "
            "FROM latent ORDER BY dead"
        ).fetchall()
        assert rows == [(False, 2, True, True, False), (True, 2, False, None, False)]
        spread = db.execute(
            "SELECT min(documents), min(top_document) > 0, max(top_document) <= 1, "
            "max(top_position) <= 1, bool_and((documents = 1) = (top_document = 1)) "
            "FROM latent WHERE firings > 0"
        ).fetchone()
        assert spread[0] >= 1 and spread[1:] == (True, True, True, True)
        for share, carried, chance in db.execute(
            "SELECT stable_share, stable_difference, seed_chance FROM dictionary "
            "WHERE kind = 'crosscoder'"
        ).fetchall():
            assert 0 <= share <= 1 and 0 <= carried <= 1 and 0 < chance < 0.7
        assert db.execute(
            "SELECT count(stable_share) FROM dictionary WHERE kind <> 'crosscoder'"
        ).fetchone() == (0,)


def test_killed_and_resumed_gives_identical_results(tmp_path: Path, tiny_store: Path):
    file = write_config(tmp_path)
    work, out = tmp_path / "killed", tmp_path / "out"
    # In the middle of the harvest, in the middle of the dictionaries, in the second experiment.
    for glob, count in (("activations/*/*/*", 1), ("sparse/*/*/log.json", 3), ("metrics/*/*", 12)):
        running = subprocess.Popen(
            [*RUN, str(file), "--out", str(out), "--jobs", "1", "--quiet"],
            cwd=paths.ROOT,
            env=_environment(work),
        )
        while len(list(work.glob(glob))) < count:
            assert running.poll() is None, "finished before it could be killed"
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
    done = _run(file, out, work)
    assert done.returncode == 0, done.stderr
    resumed, fresh = _content(out / "store.duckdb"), _content(tiny_store / "store.duckdb")
    for table, rows in fresh.items():
        assert resumed[table] == rows, table


def test_an_unchanged_run_measures_nothing_and_leaves_the_store_alone(
    tiny_store: Path, tiny_work: Path, tiny_config: Path
):
    before = (tiny_store / "store.duckdb").stat()
    again = _run(tiny_config, tiny_store, tiny_work)
    assert again.returncode == 0, again.stderr
    after = (tiny_store / "store.duckdb").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_adapter_with_zero_b_changes_exactly_nothing(tmp_path: Path):
    """Oracle 3: KL 0, agreement 1, CKA 1, displacement 0, ratio 1, equal decoders, nothing new."""
    from lib import finetune, models

    file = write_config(tmp_path)
    adapter = tmp_path / "zero"
    finetune.train_adapter(
        models.load("tiny-llama"),
        [d for e in config.load(file)[:1] for d in _documents(e)],
        config.Finetune(rank=2, steps=0, seq=32),
        adapter,
        seed=0,
    )
    lines = [
        line
        for line in file.read_text(encoding="utf-8").splitlines()
        if not line.startswith("corpora")
    ]
    one = tmp_path / "zero.yaml"
    one.write_text(
        f'adapter: {adapter}\ncorpora: ["path:{tmp_path / "tiny_stoic_notes.jsonl"}"]\n'
        + "\n".join(lines)
    )
    out = tmp_path / "out"
    done = _run(one, out, tmp_path / "work0")
    assert done.returncode == 0, done.stderr
    with duckdb.connect(str(out / "store.duckdb"), read_only=True) as db:
        assert db.execute("SELECT DISTINCT kl, reverse_kl, js FROM output_metric").fetchall() == [
            (0.0, 0.0, 0.0)
        ]
        assert db.execute("SELECT DISTINCT agreement FROM output_metric").fetchall() == [(1.0,)]
        for cka, moved in db.execute(
            "SELECT cka, relative_displacement FROM layer_metric"
        ).fetchall():
            assert cka == pytest.approx(1, abs=1e-9)
            assert moved == 0
        ratios = db.execute(
            "SELECT ratio, excess_fvu FROM layer_metric WHERE ratio IS NOT NULL"
        ).fetchall()
        assert ratios == [(1.0, 0.0)] * 2
        apart = db.execute("SELECT max(abs(norm_base - norm_tuned)), min(cosine) FROM latent")
        difference, cosine = apart.fetchone()
        assert difference == pytest.approx(0, abs=1e-6)
        assert cosine == pytest.approx(1, abs=1e-6)
        classes = {c for (c,) in db.execute("SELECT DISTINCT class FROM latent").fetchall()}
        assert classes <= {"shared", "dead"}


def _documents(experiment: config.Experiment) -> list:
    from lib import corpora

    return list(corpora.load(experiment.corpus, minimum=100).documents)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("corpora: [stoic_note]", "stoic_note"),
        ("recipe: {finetune: {rnak: 4}}", "the nearest valid one is `rank`"),
        ("model: [x]", "the nearest valid one is `models`"),
        ("recipe: {harvest: {depths: [0.5]}}", "at least two depths"),
        ("recipe: {sparse: {k: 0}}", "`recipe.sparse.k` must be above 0"),
    ],
)
def test_bad_experiments_files_say_what_to_do(tmp_path: Path, change: str, says: str):
    base = {"models": "models: [tiny-llama]", "corpora": "corpora: [stoic_notes]"}
    lines = [v for k, v in base.items() if not change.startswith(k + ":")]
    file = tmp_path / "bad.yaml"
    file.write_text("\n".join([*lines, change]))
    done = _run(file, tmp_path / "out", tmp_path / "work")
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_no_text_and_no_path_of_a_users_corpus_is_in_the_store(tiny_store: Path, tiny_config: Path):
    """Spans only: neither a sentence of a document nor the folder it came from."""
    raw = (tiny_store / "store.duckdb").read_bytes()
    assert str(tiny_config.parent).encode() not in raw
    with duckdb.connect(str(tiny_store / "store.duckdb"), read_only=True) as db:
        for (table,) in db.execute("SHOW TABLES").fetchall():
            for column, kind, *_ in db.execute(f"DESCRIBE {table}").fetchall():
                if kind != "VARCHAR":
                    continue
                found = db.execute(
                    f"SELECT {column} FROM {table} WHERE {column} ILIKE '%<script>%' "
                    f"OR {column} LIKE '%shutters are opened%' OR {column} LIKE '%/%tiny%'"
                ).fetchall()
                assert found == [], (table, column)


def test_the_plan_lists_every_stage_and_adds_up(tiny_config: Path):
    from lib.pipeline.plan import forecast

    lines = forecast(tiny_config).splitlines()
    stages = [line.split()[0] for line in lines if line.startswith("  ")]
    assert stages.count("sampled") == 1, "sampled text is shared by experiments on one model"
    for stage in ("finetune", "activations", "sparse", "metrics"):
        assert stages.count(stage) == 2

    def disk(line: str) -> float:
        return float(line.split(" MB")[0].split()[-1].replace(",", ""))

    parts = sum(disk(line) for line in lines if line.startswith("  "))
    assert lines[-1].startswith("to do")
    assert disk(lines[-1]) == pytest.approx(parts, abs=len(stages) / 2)


def test_the_plan_says_what_is_done_and_it_costs_nothing_more(_tiny: Path, monkeypatch):
    from lib.pipeline.plan import forecast

    monkeypatch.setenv("INSIDEOUT_WORK", str(_tiny / "work"))
    lines = forecast(_tiny / "tiny.yaml").splitlines()
    stages = [line for line in lines if line.startswith("  ")]
    assert len(stages) > 10
    assert [line for line in stages if " done " not in line] == []
    assert lines[-1].split() == ["to", "do", "0.0", "min", "0", "MB", "0.0", "GB"]


def test_a_killed_trainer_ends_the_run_with_a_message(tmp_path: Path):
    """As when the system kills it for want of memory: no hang, and no lock left behind."""
    config = write_config(tmp_path)
    text = config.read_text().replace("max_steps: 120", "max_steps: 20000, flat_gain: 0.0")
    config.write_text(text)
    environment = os.environ | {"INSIDEOUT_WORK": str(tmp_path / "work")}
    command = [sys.executable, "-m", "lib", "run", str(config), "--jobs", "2", "--quiet"]
    running = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        env=environment, cwd=paths.ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("work/sparse/*/*/training.safetensors")):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.05)
    children = subprocess.run(
        ["ps", "-ww", "--ppid", str(running.pid), "-o", "pid=,args="],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    trainers = [
        line.split()[0] for line in children.splitlines() if "multiprocessing.spawn" in line
    ]
    os.kill(int(trainers[0]), signal.SIGKILL)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "a training process died" in said
