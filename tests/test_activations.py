"""Harvest: windows and offsets, pairing, hooks, truncated shards."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lib import activations, finetune, models
from lib.activations import Harvest, PairingError, Stream, windows
from lib.config import Finetune
from lib.corpora import Document

TEXTS = [Document("a", "Réd fox.\nTwo"), Document("b", "x" * 50), Document("c", "grass")]


@pytest.fixture(scope="module")
def harvested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harvest")
    documents = [Document(str(i), "some words " * 8 + str(i)) for i in range(6)]
    finetune.train_adapter(
        models.load("tiny-llama"),
        documents,
        Finetune(rank=2, steps=3, seq=32, batch=2, lr=0.05, dtype="float32"),
        folder / "adapter",
        seed=0,
    )
    loaded = models.with_adapter(models.load("tiny-llama"), folder / "adapter")
    activations.harvest(
        loaded,
        documents,
        folder / "out",
        layers=[0, 1],
        hook="mlp",
        window=24,
        drop_first=4,
        dtype=torch.float32,
        shuffle=False,
        final_hidden=True,
    )
    return loaded, documents, Harvest.open(folder / "out")


def test_windows_cut_long_documents_and_offsets_rebuild_the_text():
    tokenizer = models.byte_tokenizer()
    cut, ends = windows(tokenizer, TEXTS, window=16)
    assert [(w.document, w.start, len(w.ids)) for w in cut] == [
        (0, 0, 13), (1, 0, 15), (1, 15, 15), (1, 30, 15), (1, 45, 5), (2, 0, 5)
    ]  # fmt: skip
    for document, document_ends in zip(TEXTS, ends, strict=True):
        starts = [0, *document_ends[:-1]]
        pieces = [document.text[s:e] for s, e in zip(starts, document_ends, strict=True)]
        assert "".join(pieces) == document.text


def test_rows_are_the_activations_of_their_token(harvested):
    """An independent forward pass of one document finds the same numbers on both sides."""
    loaded, documents, harvest = harvested
    index = harvest.index()
    rows = harvest.whole(1)
    ids = loaded.tokenizer(documents[2].text, add_special_tokens=False).input_ids[:23]
    seen = {}
    handle = loaded.mlp(1).register_forward_hook(lambda m, i, o: seen.update(x=o))
    batch = torch.tensor([[loaded.tokenizer.bos_token_id, *ids]])
    with torch.no_grad():
        loaded.model(batch)
        tuned = seen["x"][0]
        with loaded.as_base():
            loaded.model(batch)
        base = seen["x"][0]
    handle.remove()
    mine = (index[:, 0] == 2) & (index[:, 1] < 23)
    assert index[mine, 1].tolist() == list(range(3, 23))  # positions 0..3 of the window are dropped
    torch.testing.assert_close(rows[mine, 0], base[4:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(rows[mine, 1], tuned[4:], atol=1e-5, rtol=1e-4)
    assert (rows[:, 0] - rows[:, 1]).abs().max() > 1e-3


def test_next_tokens_are_the_document_s_own(harvested):
    loaded, documents, harvest = harvested
    coded = [loaded.tokenizer(d.text, add_special_tokens=False).input_ids for d in documents]
    for document, position, token, following in harvest.index().tolist():
        assert coded[document][position] == token
        last_of_window = position % 23 == 22 or position == len(coded[document]) - 1
        assert following == (-1 if last_of_window else coded[document][position + 1])


def test_the_base_is_bitwise_the_model_without_adapter(harvested):
    loaded, _, _ = harvested
    batch = torch.arange(10)[None]
    plain = models.load("tiny-llama")
    with torch.no_grad(), loaded.as_base():
        assert torch.equal(loaded.model(batch).logits, plain.model(batch).logits)


def test_streams_are_seeded_and_keep_every_row_in_an_epoch(harvested):
    _, _, harvest = harvested
    one = torch.cat(list(Stream(harvest, 0, 16, seed=1, block=8)))
    again = torch.cat(list(Stream(harvest, 0, 16, seed=1, block=8)))
    other = torch.cat(list(Stream(harvest, 0, 16, seed=2, block=8)))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    known = {tuple(r) for r in harvest.whole(0).flatten(1).tolist()}
    assert {tuple(r) for r in one.flatten(1).tolist()} <= known
    assert len(one) == len(harvest.whole(0)) // 16 * 16


def test_unpaired_and_truncated_harvests_are_refused(harvested, tmp_path):
    _, _, harvest = harvested
    for file in harvest.directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file({"x": harvest.shard(0, 0)[:-1].contiguous()}, tmp_path / "0000.0.safetensors")
    with pytest.raises(ValueError, match="truncated"):
        Harvest.open(tmp_path).whole(0)
    sealed = json.loads((tmp_path / "harvest.json").read_text())
    sealed["tuned_tokens"] = "f" * 64
    (tmp_path / "harvest.json").write_text(json.dumps(sealed))
    with pytest.raises(PairingError, match="base ran on"):
        Harvest.open(tmp_path)


def stored(folder, sizes, dtype=torch.bfloat16, d=3):
    """A harvest of layer 0 whose row r of shard s holds 1000 s + r."""
    for number, size in enumerate(sizes):
        rows = (1000 * number + torch.arange(size)).float()
        save_file(
            {"x": rows[:, None, None].expand(-1, 2, d).to(dtype).contiguous()},
            folder / f"{number:04d}.0.safetensors",
        )
    facts = {"hook": "mlp", "layers": [0], "tokens": sum(sizes), "d": d, "shards": list(sizes)}
    facts |= {"base_tokens": "a", "tuned_tokens": "a", "dtype": str(dtype)}
    (folder / "harvest.json").write_text(json.dumps(facts))
    return Harvest.open(folder)


@pytest.mark.parametrize("skipped", [0, 1, 6, 7, 20])
def test_a_stream_that_skips_goes_on_as_if_it_had_read(tmp_path, skipped):
    harvest = stored(tmp_path, (90, 64, 75), torch.float32)
    whole = Stream(harvest, 0, batch=32, seed=3, block=8)
    assert len(whole) == 7
    read = [batch for _ in range(4) for batch in whole]
    ahead = Stream(harvest, 0, batch=32, seed=3, block=8)
    ahead.skip(skipped)
    rest = [batch for batch in ahead] + [batch for batch in ahead]
    assert len(rest) == 14 - skipped % 7
    for one, two in zip(rest, read[skipped:], strict=False):
        assert torch.equal(one, two)


def test_a_batch_smaller_than_a_block_reads_every_row(tmp_path):
    harvest = stored(tmp_path, (40, 24), torch.float32)
    rows = torch.cat(list(Stream(harvest, 0, batch=16, seed=0)))[:, 0, 0]
    assert sorted(rows.tolist()) == [*range(40), *range(1000, 1024)]


def test_a_shard_cut_short_on_disk_is_named(tmp_path):
    harvest = stored(tmp_path, (40,))
    shard = tmp_path / "0000.0.safetensors"
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"0000.0.safetensors: the shard is missing or damaged"):
        harvest.shard(0, 0)
    shard.unlink()
    with pytest.raises(ValueError, match="missing or damaged"):
        next(iter(Stream(harvest, 0, batch=8, seed=0)))


def test_a_foreign_dtype_is_named(tmp_path):
    harvest = stored(tmp_path, (40,), torch.int32)
    with pytest.raises(ValueError, match=r"holds torch.int32, expected one of torch.float32"):
        harvest.shard(0, 0)
