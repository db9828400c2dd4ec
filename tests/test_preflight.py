"""What a run and a plan refuse before anything is computed."""

import re
from pathlib import Path

import pytest

from lib.__main__ import main
from lib.pipeline import run
from lib.store import write
from tests.tiny import write_config


@pytest.fixture(autouse=True)
def _nothing_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The work folder is one that no test may fill; a refusal comes before it is made."""
    monkeypatch.setenv("INSIDEOUT_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("INSIDEOUT_CACHE", str(tmp_path / "cache"))


def changed(folder: Path, old: str, new: str) -> Path:
    file = write_config(folder)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


REFUSED = [
    ("rank: 4,", "rank: 33,", "`recipe.finetune.rank` is 33, above the width 32 of tiny-llama"),
    ("rank: 4,", f"rank: {10**11},", "above the width 32"),
    ("rank: 4,", "targets: [zzz_proj],", "has `zzz_proj`, which tiny-llama does not; it has"),
    (
        "rank: 4,",
        "targets: [q_proj, o_pro],",
        "has `o_pro`, .*q_proj, k_proj, v_proj, o_proj, gate",
    ),
    ("k: 6,", f"k: {10**9},", "`recipe.sparse.k` is 1,000,000,000, more than the 128 latents"),
    ("live_latents: 24", "sweep: {ranks: [2, 64]}", "`recipe.sweep.ranks` is 64, above the width"),
    ("live_latents: 24", "geometry: {ranks: [64]}", "`recipe.geometry.ranks` is 64, above the"),
    ("depths: [0.0, 0.5]", "depths: [0.1, 0.2]", "at least two depths"),
    ("minimum_words: 100", "minimum_words: 100000", "too small"),
    ("live_latents: 24", "lens: {probe: no_such_corpus}", "unknown corpus `no_such_corpus`"),
]


@pytest.mark.parametrize(("old", "new", "says"), REFUSED, ids=[new for _, new, _ in REFUSED])
def test_run_and_plan_refuse_the_same_before_any_stage(tmp_path, capsys, old, new, says):
    file = changed(tmp_path, old, new)
    for command in (["plan", str(file)], ["run", str(file), "--out", str(tmp_path / "out")]):
        assert main(command) == 1
        assert re.search(says, capsys.readouterr().err)
    assert not (tmp_path / "work").exists()


def one_adapter(folder: Path, adapter: str) -> Path:
    file = write_config(folder)
    one, two = (f"path:{folder}/tiny_{name}.jsonl" for name in ("stoic_notes", "instructions"))
    text = file.read_text().replace(f'"{one}", "{two}"', f'"{one}"')
    file.write_text(f"adapter: {adapter}\n{text}")
    return file


@pytest.mark.parametrize("there", [False, True])
def test_an_adapter_that_is_none_is_refused_before_any_stage(tmp_path, capsys, there):
    folder = tmp_path / "adapter"
    if there:
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}')
        (folder / "adapter_model.safetensors").touch()
    says = "only LORA adapters" if there else "no such folder"
    file = one_adapter(tmp_path, str(folder))
    for command in (["plan", str(file)], ["run", str(file), "--out", str(tmp_path / "out")]):
        assert main(command) == 1
        assert says in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_the_last_file_is_read_before_the_first_is_run(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    good, bad = write_config(tmp_path), changed(tmp_path / "other", "k: 6,", "k: 129,")
    assert main(["run", str(good), str(bad), "--out", str(tmp_path / "out")]) == 1
    assert "`recipe.sparse.k` is 129" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("what", ["file", "below a file", "proc", "too long", "store"])
def test_an_output_folder_that_cannot_be_used_is_refused_first(tmp_path, capsys, what):
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "full" / "store.duckdb").mkdir(parents=True)
    out, says = {
        "file": (tmp_path / "taken", "a file is in the way"),
        "below a file": (tmp_path / "taken" / "deeper", "a file is in the way"),
        "proc": (Path("/proc/insideout"), "cannot be written ("),
        "too long": (tmp_path / ("x" * 300), "File name too long"),
        "store": (tmp_path / "full", "store.duckdb is a folder"),
    }[what]
    assert main(["run", str(write_config(tmp_path)), "--out", str(out)]) == 1
    assert says in (told := capsys.readouterr().err) and str(out)[:20] in told
    assert (tmp_path / "taken").read_text() == "mine"
    assert not (tmp_path / "work").exists()


def test_a_store_there_that_cannot_be_read_is_noticed_first(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    write.paths.store_file(tmp_path / "out").write_bytes(b"no store" * 999)
    assert main(["run", str(write_config(tmp_path)), "--out", str(tmp_path / "out")]) == 1
    assert "the store in the output folder cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--out", "", "argument --out: the name of the folder is empty"),
        ("--jobs", "0", "argument --jobs: give a whole number of at least 1, got '0'"),
        ("--jobs", "-2", "argument --jobs: give a whole number of at least 1, got '-2'"),
    ],
)
def test_options_are_refused_by_name(tmp_path, capsys, option, value, says):
    with pytest.raises(SystemExit, match="2"):
        main(["run", str(write_config(tmp_path)), option, value])
    assert says in capsys.readouterr().err


def test_a_caller_from_python_is_told_too(tmp_path):
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        run(write_config(tmp_path), tmp_path / "out", jobs=0)
