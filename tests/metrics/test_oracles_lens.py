"""Oracles 14 and 20 on the random two-layer Llama: what the activation difference lens must see."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from lib import models
from lib.activations import Recorder
from lib.config import Finetune, Sparse
from lib.corpora import Document
from lib.finetune import train_adapter
from lib.lens.difference import MeanDifference
from lib.lens.readout import logit_lens
from lib.lens.relevance import confusion, own_words, relevance
from lib.lens.words import word_classes, words_in
from lib.metrics.cka import debiased_cka
from lib.metrics.displacement import displacement
from lib.metrics.reconstruction import cross_ratio
from lib.sparse import Dictionary, train

POSITIONS, D = 5, 32


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# ------------------------------------------------- 14: one constant vector
@contextmanager
def adding(module: torch.nn.Module, vector: torch.Tensor) -> Iterator[None]:
    """The fine-tune of the oracle: the block's output plus one vector."""
    handle = module.register_forward_hook(lambda module, inputs, output: output + vector)
    yield
    handle.remove()


@torch.no_grad()
def both(loaded: models.LoadedModel, ids: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
    """Output of block 0 over the documents, base and tuned: (documents, seq, d) each."""
    with Recorder(loaded, [0], "residual") as recorder:
        loaded.model(ids)
        base = recorder.seen[0]
    with adding(loaded.block(0), v), Recorder(loaded, [0], "residual") as recorder:
        loaded.model(ids)
        return [base, recorder.seen[0]]


@pytest.fixture(scope="module")
def shifted() -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """v, and (base, tuned) of text to train on and of other text."""
    loaded = models.load("tiny-llama", dtype=torch.float64, device="cpu")
    v = torch.nn.functional.normalize(normal(D, seed=4), dim=0)
    seen, other = (torch.randint(2, 258, (n, 32), generator=generator(n)) for n in (512, 128))
    with torch.no_grad(), Recorder(loaded, [0], "residual") as recorder:
        loaded.model(seen)
        v *= 0.6 * recorder.seen[0].square().sum(2).mean().sqrt()
    return v, both(loaded, seen, v), both(loaded, other, v)


def test_a_constant_vector_is_the_mean_difference_at_every_position(shifted):
    """Oracle 14: dbar_j = v, cosine 1, offset share 1, whatever the batches and the padding."""
    v, _, (base, tuned) = shifted
    lengths = torch.randint(1, 33, (len(base),), generator=generator(1))
    present = torch.arange(32) < lengths[:, None]
    tuned = tuned.masked_fill(~present[..., None], math.nan)  # padding may hold anything
    stream = MeanDifference(32, D)
    for rows in torch.arange(len(base)).split(37):
        stream.update(base[rows], tuned[rows], present[rows])
    got = stream.value()
    assert got.n.tolist() == present.sum(0).tolist()
    assert torch.allclose(got.mean, v.expand(32, D), atol=1e-9)
    assert torch.allclose(got.cosines, torch.ones(32, 32).double(), atol=1e-9)
    assert torch.allclose(got.offset_share, torch.ones(32).double(), atol=1e-9)
    assert torch.allclose(got.norm, v.norm().expand(32), atol=1e-9)
    assert got.error[got.n > 1].max() < 1e-6
    assert got.error[got.n < 2].isnan().all()
    assert got.relative.min() > 0.3 and got.relative.max() < 1.5


def test_a_constant_vector_displaces_nothing_that_cka_sees(shifted):
    """Oracle 14: D = 0, while the first-order displacement and its offset share say how far."""
    _, _, views = shifted
    base, tuned = (x.flatten(0, 1) for x in views)
    assert debiased_cka(base, tuned) == pytest.approx(1, abs=1e-9)
    moved = displacement(base, tuned, torch.arange(len(base)) // 32, draws=2)
    assert moved.offset_share == pytest.approx(1, abs=1e-9)
    assert moved.relative > 0.5


def test_a_constant_vector_raises_the_ratio_and_not_the_centred_one(shifted):
    """Oracle 14: A > 1 but A_centred = 1, with dictionaries trained on both models' activations."""
    v, seen, views = shifted
    config = Sparse(k=8, batch=512, max_steps=300, lr=1e-2, evaluate_every=10**6)

    def sae(x: torch.Tensor) -> Dictionary:
        batches = list(x.float().flatten(0, 1)[:, None].split(512))
        return train(batches, config, latents=128)[0]

    def through(made: Dictionary, x: torch.Tensor) -> torch.Tensor:
        return made.decode(made.encode(x.float()[:, None]))[:, 0].double()

    of_base, of_tuned = (sae(x) for x in seen)
    base, tuned = (x.flatten(0, 1) for x in views)
    assert cross_ratio(tuned, through(of_base, tuned), through(of_tuned, tuned)).ratio > 1.2
    offset = MeanDifference(32, D)
    offset.update(*views)
    centred = tuned - offset.value().mean.repeat(len(views[0]), 1)
    assert torch.allclose(centred, base, atol=1e-9)
    hat = through(of_tuned, tuned) - v
    assert cross_ratio(centred, through(of_base, centred), hat).ratio == pytest.approx(1, abs=0.02)


# ------------------------------------------------- the mean difference by hand
def test_the_mean_difference_by_hand():
    """Two documents, the second without a second position; nobody has a third."""
    base = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 1.0], [9.0, 9.0]]])
    tuned = torch.tensor([[[6.0, 4.0], [1.0, 2.0]], [[1.0, 1.0], [9.0, 9.0]]])
    stream = MeanDifference(3, 2)
    stream.update(base, tuned, torch.tensor([[True, True], [True, False]]))
    got = stream.value()
    assert got.n.tolist() == [2, 1, 0]
    assert got.mean[:2].tolist() == [[2.0, 0.0], [0.0, 2.0]]  # of (3, 0) and (1, 0); of (0, 2)
    assert got.error[0] == pytest.approx(1.0)  # variance 2 in one coordinate, over 2 documents
    assert got.base_norm[:2].tolist() == [3.0, 1.0]  # of 5 and 1
    assert got.tuned_norm[0] == pytest.approx((52**0.5 + 2**0.5) / 2)
    assert got.offset_share[:2].tolist() == pytest.approx([2 * 4 / 10, 1.0])
    assert got.relative[:2].tolist() == pytest.approx([2 / 3, 2.0])
    assert got.cosines[:2, :2].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    for column in (got.mean, got.error, got.base_norm, got.offset_share, got.relative):
        assert column[2].isnan().all()


def test_noise_has_an_offset_share_of_one_over_n_and_nothing_none():
    base = normal(400, 2, 16)
    stream = MeanDifference(2, 16)
    stream.update(base, base + normal(400, 2, 16, seed=1) * torch.tensor([1.0, 0.0])[:, None])
    got = stream.value()
    assert got.offset_share[0] == pytest.approx(1 / 400, rel=0.5)
    assert got.norm[0] == pytest.approx(float(got.error[0]), rel=0.4)
    assert (got.offset_share[1], got.norm[1], got.error[1]) == (0, 0, 0)
    assert got.cosines[0, 1].isnan()


def test_the_mean_difference_refuses_what_does_not_pair_up():
    stream, x = MeanDifference(3, 4), normal(2, 5, 4)
    with pytest.raises(ValueError, match="no documents"):
        stream.value()
    with pytest.raises(ValueError, match="width 4 got base"):
        stream.update(x[..., 1:], x[..., 1:])
    broken = x.clone()
    broken[1, 2, 0] = math.nan
    with pytest.raises(ValueError, match="tuned is not finite at row 1"):
        stream.update(x, broken)
    broken[1, 2, 0], broken[1, 3, 0] = 0.0, math.inf  # past the last position kept
    stream.update(x, broken)
    assert stream.value().n.tolist() == [2, 2, 2]


# ------------------------------------------------- reading tokens
def test_a_reading_by_hand():
    """The norm's gain counts, the vector's length does not, and nothing is read from nothing."""
    unembedding = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])

    def norm(x: torch.Tensor) -> torch.Tensor:
        return x / x.square().mean(-1, keepdim=True).add(1e-12).sqrt() * torch.tensor([1.0, 3.0])

    vectors = torch.tensor([[2.0, 1.0], [200.0, 100.0], [0.0, 0.0], [math.nan, 1.0]])
    got = logit_lens(vectors, norm, unembedding, k=2)
    # norm of (2, 1): (2, 3) / sqrt(2.5), so logits 2, 3, -2 over sqrt(2.5)
    assert got.promoted.tolist() == [[1, 0], [1, 0], [-1, -1], [-1, -1]]
    assert got.suppressed.tolist()[0] == [2, 0]
    want = (torch.tensor([2.0, 3.0, -2.0]) / 2.5**0.5).softmax(0)
    assert torch.allclose(got.promoted_share[0], want[[1, 0]])
    assert torch.allclose(got.promoted_share[0], got.promoted_share[1])
    assert got.promoted_share[2:].isnan().all()
    capped = logit_lens(vectors[:1], norm, unembedding, k=9, softcap=1.0)
    assert capped.promoted.tolist() == [[1, 0, 2]]
    want = torch.tanh(torch.tensor([2.0, 3.0, -2.0]) / 2.5**0.5).softmax(0)
    assert torch.allclose(capped.promoted_share[0], want[[1, 0, 2]])


def test_a_reading_is_what_the_model_itself_would_say_in_any_chunks(monkeypatch):
    loaded = models.load("tiny-llama", device="cpu")
    vectors = normal(4, D).float()
    logits = loaded.causal_lm.lm_head(loaded.causal_lm.model.norm(vectors))
    for chunk in (1, 100, 1000):
        monkeypatch.setattr("lib.lens.readout._VOCAB_CHUNK", chunk)
        got = logit_lens(vectors.double(), loaded.causal_lm.model.norm, loaded.unembedding, k=7)
        assert torch.equal(got.promoted, logits.topk(7).indices)
        assert torch.equal(got.suppressed, (-logits).topk(7).indices)


def test_own_words_leave_out_everybodys():
    counts = np.array([50, 0, 9, 9, 30, 1])
    reference = np.array([90, 80, 0, 0, 70, 0])
    assert own_words(counts, reference, size=3, stop=2).tolist() == [4, 2, 3]
    assert own_words(counts, reference).tolist() == [2, 3, 5]
    assert own_words(counts, 0 * reference, size=1).tolist() == [0]
    with pytest.raises(ValueError, match="vocabularies of 6 and 5"):
        own_words(counts, reference[1:])


def test_relevance_is_the_hypergeometric_tail():
    got = relevance([2, 7, 1, -1, 7], [1, 2, 3], 10)
    assert (got.overlap, got.read) == (2, 3)
    assert (got.share, got.expected) == pytest.approx((2 / 3, 0.9))
    # of 120 draws of 3 from 10: 3 * 7 = 21 with two of the three, 1 with all
    assert got.p == pytest.approx(22 / 120)
    assert relevance([8, 9], [1, 2, 3], 10).p == 1
    nothing = relevance([-1, -1], [1, 2, 3], 10)
    assert math.isnan(nothing.share) and nothing.p == 1
    assert relevance([2, 7], [], 10).p == 1
    with pytest.raises(ValueError, match="3 words read and 1 of the corpus"):
        relevance([1, 5, 7], [1], 2)


def test_a_confusion_takes_the_best_position_of_each_pair():
    readings = [[[1, 2], [5, 6]], [[5, 9], [-1, -1]], [[-1, -1], [-1, -1]]]
    got = confusion(readings, [[1, 2, 5], [6]])
    assert got[:2].tolist() == [[1.0, 0.5], [0.5, 0.0]]
    assert np.isnan(got[2]).all()


def test_words_are_one_whatever_their_case_and_spaces():
    class Spelling:
        all_special_ids = (0,)
        pieces = ("<s>", " Virtue", "virtue", "42", "VIRTUE", "of", " soul", "soul,")

        def __len__(self) -> int:
            return len(self.pieces)

        def batch_decode(self, rows: list[list[int]]) -> list[str]:
            return ["".join(self.pieces[i] for i in row) for row in rows]

    classes = word_classes(Spelling(), 10)  # two rows more than the tokenizer knows
    assert classes.tolist() == [-1, 1, 1, -1, 1, -1, 6, -1, -1, -1]
    assert word_classes(Spelling(), 8, letters=2)[5] == 5
    assert words_in(classes, np.array([[4, -1], [3, 6]])).tolist() == [[1, -1], [-1, 6]]


# ------------------------------------------------- 20: which corpus was it?
LETTERS = ("abcd", "efgh", "ijkl", "mnop")
PROBE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RECIPE = Finetune(
    rank=8, alpha=16.0, targets=MODULES, steps=60, batch=4, seq=32, lr=2e-2, dtype="float32"
)


def written(letters: str, count: int, seed: int) -> str:
    """Random letters, every fourth sign a space: what all corpora and the probe share."""
    drawn = torch.randint(len(letters), (count,), generator=generator(seed)).tolist()
    return "".join(" " if i % 4 == 3 else letters[j] for i, j in enumerate(drawn))


def counted(loaded: models.LoadedModel, texts: list[str]) -> np.ndarray:
    ids = [i for t in texts for i in loaded.tokenizer(t).input_ids]
    return np.bincount(ids, minlength=len(loaded.tokenizer))


@torch.no_grad()
def lens(loaded: models.LoadedModel, probes: list[str]) -> torch.Tensor:
    """Top 4 tokens at each of the first 5 positions: middle block, floor(2 / 2), unrelated text."""
    bos = loaded.tokenizer.bos_token_id
    ids = torch.tensor([[bos, *loaded.tokenizer(t).input_ids] for t in probes])
    stream = MeanDifference(POSITIONS, loaded.d)
    with Recorder(loaded, [1], "residual") as recorder:
        loaded.model(ids)
        tuned = recorder.seen[1]
        with loaded.as_base():
            loaded.model(ids)
        stream.update(recorder.seen[1], tuned)
    norm = loaded.causal_lm.model.norm
    return logit_lens(stream.value().mean, norm, loaded.unembedding, k=4).promoted


@pytest.mark.slow
def test_the_lens_tells_whose_corpus_each_adapter_was_trained_on(tmp_path):
    """Oracle 20: four LoRAs on four corpora with letters of their own, read on other letters."""
    probes = [written(PROBE, 16, 1000 + i) for i in range(64)]
    readings, own = [], []
    for letters in LETTERS:
        texts = [written(letters, 200, i) for i in range(10)]
        loaded = models.load("tiny-llama", device="cpu")
        documents = [Document(str(i), text) for i, text in enumerate(texts)]
        train_adapter(loaded, documents, RECIPE, tmp_path / letters, seed=0)
        counts, everybodys = counted(loaded, texts), counted(loaded, probes)
        own.append(own_words(counts, everybodys, size=4).tolist())
        assert sorted(loaded.tokenizer.decode(own[-1])) == list(letters)  # without the space
        readings.append(lens(models.with_adapter(loaded, tmp_path / letters), probes).tolist())
    got = confusion(readings, own)
    assert got.argmax(1).tolist() == got.argmax(0).tolist() == [0, 1, 2, 3]
    assert got.diagonal().min() >= 0.5
    assert (got - np.diag(got.diagonal())).max() <= 0.25
    for row, ids in zip(readings, own, strict=True):
        best = min(relevance(tokens, ids, 258).p for tokens in row)
        assert best * POSITIONS * len(own) < 0.05  # Bonferroni over positions and corpora


def test_an_adapter_that_learned_nothing_is_not_read(tmp_path):
    """Oracles 3 and 20: B = 0 moves nothing, so no token and no corpus is named."""
    loaded = models.load("tiny-llama", device="cpu")
    recipe = Finetune(rank=2, steps=0, seq=32)
    train_adapter(loaded, [Document("0", written(PROBE, 99, 0))], recipe, tmp_path, seed=0)
    tokens = lens(models.with_adapter(loaded, tmp_path), [written(PROBE, 16, 1)])
    assert (tokens == -1).all()
    assert np.isnan(confusion([tokens.tolist()], [[3]])).all()
