"""Texts of the outer axis, and what is said of experiments that a figure cannot hold."""

import shutil
from pathlib import Path

import duckdb
import pytest

from lib import config, paths
from lib.store import handle, read
from lib.ui import definitions, late, texts

COMMITTED = paths.store_file(paths.ROOT / "precomputed")


def test_responses_leave_out_prompts_and_nothing_else():
    store = handle.open_store(COMMITTED)
    whole, parts = texts.axes(store, "corpus"), texts.axes(store, "responses")
    assert parts["experiment_id"].to_list() == whole["experiment_id"].to_list()
    for one, other in zip(whole.iter_rows(named=True), parts.iter_rows(named=True), strict=True):
        has_prompts = one["corpus"] in ("alpaca", "instructions")
        assert (other["n_tokens"] < one["n_tokens"]) == has_prompts
        assert (other["kl"] == one["kl"]) != has_prompts
    alpaca = read.output(store, "smollm2-135m.alpaca.r16.t50.s0").filter(part="response")
    assert parts.filter(corpus="alpaca")["kl"].to_list() == alpaca["kl"].to_list()


def test_a_store_that_lacks_tables_is_named_damaged(tmp_path: Path):
    file = tmp_path / "store.duckdb"
    shutil.copy(COMMITTED, file)
    with duckdb.connect(str(file)) as store:
        store.execute("DROP TABLE null_layer")
        store.execute("DROP TABLE profile")
    with pytest.raises(handle.StoreDamaged, match="no table profile, null_layer"):
        handle.open_store(file)


def test_a_key_given_twice_is_refused(tmp_path: Path):
    file = tmp_path / "twice.yaml"
    file.write_text("models: [a]\ncorpora: [b]\nseeds: [0]\nseeds: [1]\n", encoding="utf-8")
    with pytest.raises(config.ConfigError, match=r"'seeds' is given twice(.|\n)*line 3"):
        config.load(file)


def test_a_folder_is_no_experiments_file(tmp_path: Path):
    with pytest.raises(config.ConfigError, match="a folder"):
        config.load(tmp_path)


def test_display_mathematics_starts_a_paragraph():
    """Inside a paragraph everything after it would be read as LaTeX."""
    for name in definitions.DEFINITIONS:
        for line in definitions.chosen([name]).splitlines():
            assert "$$" not in line or line.count("$$") == 2 or line.strip().startswith("$$"), name
            assert not line.startswith(f"**{name}.** $$"), name


def test_without_an_interval_nothing_is_above_all_draws():
    row = {"late_share": 0.9, "late_share_low": None, "late_share_high": None}
    assert late.placed(row, "late_share", [0.2, 0.3]) == "not defined"
    assert late.placed(
        row | {"late_share_low": 0.8, "late_share_high": 1.0}, "late_share", [0.2]
    ) == ("above all of them")
