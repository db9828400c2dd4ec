"""The lens stage on the tiny model: its rows against the same numbers made by hand."""

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import torch

from lib import config, models, paths
from lib.config import ConfigError, Lens
from lib.lens.words import word_classes
from lib.pipeline.lens import lens_stage, probe_text
from lib.pipeline.prepare import Prepared, prepare
from lib.pipeline.progress import Progress
from lib.store import lens
from tests.tiny import borrow

LENS = Lens(texts=20, positions=3, k=6, documents=4, tokens=12, draws=3, samples=1, length=12)


def quiet(experiment_id: str) -> Progress:
    return Progress(experiment_id, quiet=True)


@pytest.fixture(scope="module")
def prepared(tiny_config: Path, tiny_work: Path, tmp_path_factory) -> Prepared:
    work = borrow(tiny_work, tmp_path_factory.mktemp("lens"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_WORK", str(work))
        experiment = config.load(tiny_config)[0]
        asked = replace(experiment, recipe=replace(experiment.recipe, lens=LENS))
        yield prepare(asked, quiet(asked.id))


@pytest.fixture(scope="module")
def tables(prepared: Prepared) -> dict[str, pl.DataFrame]:
    stage = lens_stage(prepared, quiet(prepared.experiment.id))
    assert stage is not None and stage.done
    return {f.stem: pl.read_parquet(f) for f in stage.directory.glob("*.parquet")}


def by_hand(prepared: Prepared, position: int) -> tuple[torch.Tensor, models.LoadedModel]:
    """Differences of the last block's output at one position, text by text, without any of the lens."""
    loaded = prepared.loaded()
    seen: list[torch.Tensor] = []
    handle = loaded.block(1).register_forward_hook(lambda m, i, out: seen.append(out))
    rows = []
    for document in probe_text(prepared):
        ids = loaded.tokenizer(document.text, add_special_tokens=False).input_ids[:3]
        given = torch.tensor([[loaded.tokenizer.bos_token_id, *ids]])
        seen.clear()
        with torch.no_grad():
            loaded.model(given)
            with loaded.as_base():
                loaded.model(given)
        rows.append((seen[0] - seen[1])[0, position + 1])
    handle.remove()
    return torch.stack(rows).double(), loaded


def test_the_mean_difference_and_its_tokens_are_those_made_by_hand(prepared, tables):
    moved, loaded = by_hand(prepared, 1)
    run = tables["lens_run"].row(0, named=True)
    assert (run["layer"], run["texts"], run["probe"]) == (1, 20, "tiny_neutral")
    row = tables["lens_difference"].row(
        by_predicate=(pl.col("probe") == "tiny_neutral") & (pl.col("layer") == 1)
        & (pl.col("position") == 1), named=True,
    )  # fmt: skip
    assert row["n"] == 20  # no token of the tiny model is massive
    mean = moved.mean(0)
    assert row["norm"] == pytest.approx(float(mean.norm()), rel=1e-4)
    share = float(20 * mean.square().sum() / moved.square().sum())
    assert row["offset_share"] == pytest.approx(share, rel=1e-4)
    read = tables["lens_reading"].row(
        by_predicate=(pl.col("reading") == "lens") & (pl.col("layer") == 1)
        & (pl.col("position") == 1), named=True,
    )  # fmt: skip
    with torch.no_grad():
        norm = loaded.causal_lm.model.norm
        best = (norm(mean.float()) @ loaded.unembedding.T).softmax(0).topk(6)
    assert read["ids"] == best.indices.tolist()
    assert read["shares"] == pytest.approx(best.values.tolist(), rel=1e-3)
    assert read["tokens"] == [loaded.tokenizer.decode([i]) for i in read["ids"]]


def test_every_block_and_position_is_read_and_words_are_the_tokenizers(prepared, tables):
    read = tables["lens_reading"]
    plain = read.filter(pl.col("reading") == "lens")
    places = [(layer, position) for layer in (0, 1) for position in range(3)]
    assert sorted(plain.select("layer", "position").rows()) == places
    assert {"lens_negated", "patchscope", "svd_1", "demeaned", "bos"} <= set(read["reading"])
    assert "base_head" not in set(read["reading"])  # the adapter leaves the head alone
    classes = word_classes(prepared.loaded().tokenizer, 258, letters=1)
    for ids, words in read.select("ids", "words").iter_rows():
        assert words == [int(classes[i]) for i in ids]


def test_a_word_that_is_read_first_ranks_first(tables):
    ranked = tables["lens_words"].row(0, named=True)
    percentile = dict(zip(ranked["words"], ranked["percentile"], strict=True))
    assert all(0 <= p <= 1 for p in percentile.values())
    read = tables["lens_reading"].filter((pl.col("reading") == "lens") & (pl.col("layer") == 1))
    first = [w for row in read["words"] for w in row[:3] if w in percentile]
    assert np.mean([percentile[w] for w in first]) > 0.7
    suppressed = tables["lens_reading"].filter(
        (pl.col("reading") == "lens_negated") & (pl.col("layer") == 1)
    )
    last = [w for row in suppressed["words"] for w in row[:3] if w in percentile]
    assert not last or np.mean([percentile[w] for w in last]) < 0.4


def test_the_swap_and_its_controls_score_the_same_tokens(tables):
    swap = tables["lens_swap"]
    counts = swap.group_by("text", "direction").agg(n=pl.len()).rows()
    assert sorted(counts) == [
        (text, direction, 3)
        for text in ("corpus", "neutral")
        for direction in ("difference", "random", "random_difference")
    ]
    assert {tuple(row) for row in swap["document_tokens"]} == {(12,) * 4}
    total = [sum(row) / 48 for row in swap["document_change"]]
    assert swap["change"].to_list() == pytest.approx(total, abs=1e-6)


def test_text_is_kept_only_where_it_may_be(prepared, tables, tmp_path):
    assert tables["lens_generation"]["text"].null_count() == 0
    secret = replace(prepared.experiment.recipe, lens=replace(LENS, keep_text=False))
    other = replace(prepared, experiment=replace(prepared.experiment, recipe=secret))
    stage = lens_stage(other, quiet("x"))
    assert stage is not None
    written = pl.read_parquet(stage.directory / "lens_generation.parquet")
    assert written["text"].null_count() == len(written) == len(tables["lens_generation"])
    assert written["coherent"].to_list() == tables["lens_generation"]["coherent"].to_list()


def test_the_store_answers_for_every_experiment(tiny_store: Path):
    with duckdb.connect(str(paths.store_file(tiny_store)), read_only=True) as store:
        runs = lens.runs(store)
        assert len(runs) == 2
        for name in runs["experiment_id"]:
            assert len(lens.differences(store, name)) > 0
            assert len(lens.readings(store, name, 1)) > 0
            assert len(lens.robustness(store, name)) > 0
            assert len(lens.swaps(store, name)) > 0
            assert len(lens.steering(store, name)) == 1
        assert set(lens.words_read(store, "lens")["experiment_id"]) == set(runs["experiment_id"])
        assert len(lens.rankings(store)) == 2


def test_no_texts_no_lens(prepared):
    none = replace(prepared.experiment.recipe, lens=replace(LENS, texts=0))
    without = replace(prepared, experiment=replace(prepared.experiment, recipe=none))
    assert lens_stage(without, quiet("x")) is None


@pytest.mark.parametrize(
    ("wrong", "said"), [({"depth": 1.0}, "depth"), ({"positions": 0}, "positions"),
                        ({"samples": -1}, "samples"), ({"temperature": 0.0}, "temperature")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Lens(**wrong)
