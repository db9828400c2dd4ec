"""Differences over probe text: against the plain mean, whatever the batches, without massive tokens."""

import math

import pytest
import torch

from lib import models
from lib.activations import Recorder
from lib.corpora import Document
from lib.lens.probe import ETA_SKIPPED, differences, first_tokens
from lib.lens.streams import paired, single_differences
from tests.lens.planted import LAYER, POSITIONS, constant, dependent, probe, texts, vector


@torch.no_grad()
def by_hand(loaded, ids, layer):
    """(base, tuned) from two whole passes of the model."""
    found = []
    with Recorder(loaded, [layer], "residual") as recorder:
        with loaded.as_base():
            loaded.causal_lm(ids)
            found.append(recorder.seen[layer])
        loaded.causal_lm(ids)
        found.append(recorder.seen[layer])
    return found


def test_first_tokens_start_with_bos_and_leave_short_documents_out():
    loaded = models.load("tiny-llama", device="cpu")
    given = [Document("a", "abc"), Document("b", "ab"), Document("c", "xyzw")]
    ids = first_tokens(loaded.tokenizer, given, 3)
    assert [loaded.tokenizer.decode(row) for row in ids] == ["<s>abc", "<s>xyz"]
    with pytest.raises(ValueError, match=r"none of 3 documents has 5 tokens \(the longest: 4\)"):
        first_tokens(loaded.tokenizer, given, 5)


def test_the_differences_are_those_of_two_whole_passes():
    loaded = dependent()
    ids = texts(loaded, 30)
    base, tuned = by_hand(loaded, ids, 1)
    got = differences(loaded, ids, positions=POSITIONS, keep=[1], factor=math.inf)
    assert sorted(got.differences) == [0, 1] and (got.texts, got.positions) == (30, 5)
    moved = (tuned - base).mean(0)
    assert torch.allclose(got.differences[1].mean, moved[1:6], atol=1e-12)
    assert torch.allclose(got.bos[1], moved[0], atol=1e-12)
    assert torch.allclose(got.raw[1].double(), (tuned - base)[:, 1:6], atol=1e-6)
    late = tuned[:, 1 + ETA_SKIPPED : 33].norm(dim=2)
    assert got.eta[1] == pytest.approx(float(late.mean()))
    assert got.differences[1].tuned_norm.tolist() == pytest.approx(
        tuned[:, 1:6].norm(dim=2).mean(0).tolist()
    )
    assert math.isnan(differences(loaded, ids[:, :4], positions=3).eta[1])


def test_batches_and_longer_texts_change_nothing_and_progress_is_told():
    loaded, seen = dependent(), []
    ids = texts(loaded, 10)
    one = probe(loaded, ids, progress=lambda done, total: seen.append((done, total)), batch=4)
    assert seen == [(4, 10), (8, 10), (10, 10)]
    other = probe(loaded, ids, batch=10)
    assert torch.allclose(one.differences[LAYER].mean, other.differences[LAYER].mean, atol=1e-12)
    short = probe(loaded, ids[:, : POSITIONS + 1], factor=math.inf)
    long = probe(loaded, ids, factor=math.inf)
    assert torch.allclose(short.differences[LAYER].mean, long.differences[LAYER].mean, atol=1e-12)


def test_a_constant_vector_is_found_at_every_position_and_at_bos():
    """Oracle 14, and nothing before the block: dbar = v, BOS = v, offset share 1, error 0."""
    v = vector()
    loaded = constant(v, layer=1)
    got = differences(loaded, texts(loaded), positions=POSITIONS)
    assert torch.allclose(got.differences[1].mean, v.expand(POSITIONS, -1), atol=1e-12)
    assert torch.allclose(got.bos[1], v, atol=1e-12)
    assert got.differences[1].offset_share.tolist() == pytest.approx([1.0] * POSITIONS)
    assert got.differences[1].error.tolist() == pytest.approx([0.0] * POSITIONS, abs=1e-7)
    assert not got.differences[0].mean.any() and not got.bos[0].any()


def test_massive_tokens_are_left_out_and_counted():
    """One letter's embedding 100 times longer: wherever it stands, the text does not count there."""
    loaded = dependent()
    ids = texts(loaded, 40)
    token = int(ids[0, 2])
    with torch.no_grad():
        loaded.causal_lm.get_input_embeddings().weight[token] *= 100
    massive = ids[:, 1 : POSITIONS + 1] == token
    base, tuned = by_hand(loaded, ids, LAYER)
    norms = base.norm(dim=2)[:, 1:]
    assert (norms[ids[:, 1:] == token] > 5 * norms.median()).all()
    got = probe(loaded, ids)
    assert got.differences[LAYER].n.tolist() == (~massive).sum(0).tolist()
    assert got.differences[LAYER].n.min() < 40
    assert torch.equal(got.raw[LAYER].isnan().all(2), massive)
    moved = (tuned - base)[:, 1 : POSITIONS + 1]
    want = torch.stack([moved[~massive[:, j], j].mean(0) for j in range(POSITIONS)])
    assert torch.allclose(got.differences[LAYER].mean, want, atol=1e-12)
    singles = single_differences(loaded, ids, LAYER, got.limits[LAYER])
    assert singles[:, 1:].isnan().all(2).sum() == (ids[:, 1:] == token).sum()
    assert not single_differences(loaded, ids, LAYER).isnan().any()


def test_a_model_is_as_it_was_after_a_pass_that_was_cut_short():
    loaded = dependent()
    ids = texts(loaded, 6)
    blocks = loaded.causal_lm.model.layers
    before = loaded.causal_lm(ids).logits
    for both in paired(loaded, ids, [0], batch=2):
        assert both.base[0].shape == (2, ids.shape[1], 32)
        assert len(loaded.causal_lm.model.layers) == 1  # the second block is not run
    assert loaded.causal_lm.model.layers is blocks
    assert torch.equal(loaded.causal_lm(ids).logits, before)


def test_positions_that_the_texts_do_not_have_are_refused():
    loaded = dependent()
    with pytest.raises(ValueError, match="41 positions of texts with 40 tokens"):
        differences(loaded, texts(loaded), positions=41)
