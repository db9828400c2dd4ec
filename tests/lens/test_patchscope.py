"""Patchscope: the cached batch is the plain pass, what is planted is read, and the rule by hand."""

import math

import numpy as np
import pytest
import torch

from lib import models
from lib.activations import Recorder
from lib.lens import patchscope as scope
from lib.lens.difference import MeanDifference
from lib.lens.passes import edited
from lib.lens.patchscope import PROMPTS, SCALES, coherence_of, in_common, patchscope
from lib.lens.words import word_classes

D, LAST = 32, 1


@pytest.fixture(scope="module")
def loaded() -> models.LoadedModel:
    return models.load("tiny-llama", device="cpu")


@pytest.fixture(scope="module")
def letters(loaded) -> np.ndarray:
    """Single characters are the words of this tokenizer."""
    return word_classes(loaded.tokenizer, len(loaded.unembedding), letters=1)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def output_of(loaded, layer: int, ids: torch.Tensor) -> torch.Tensor:
    """The stream after a block."""
    with Recorder(loaded, [layer], "residual") as recorder:
        loaded.causal_lm.model(ids, use_cache=False)
        return recorder.seen[layer]


@torch.no_grad()
def plainly(loaded, layer: int, prompt: str, stream: torch.Tensor) -> torch.Tensor:
    """One prompt, one vector, no cache: the whole prompt with its last position replaced."""

    def replace(x: torch.Tensor) -> torch.Tensor:
        out = x.clone()
        out[:, -1] = stream
        return out

    coded = loaded.tokenizer(prompt, add_special_tokens=False).input_ids
    with edited(loaded, layer, replace):
        ids = torch.tensor([[loaded.tokenizer.bos_token_id, *coded]])
        return loaded.model(ids, use_cache=False).logits[0, -1].softmax(0)


def test_the_scales_and_prompts_are_those_of_the_source():
    assert len(SCALES) == 30 and sorted(SCALES) == list(SCALES)
    assert SCALES[:3] == (0.5, 0.6, 0.7) and SCALES[15:20] == (2.0, 3.0, 4.0, 5.0, 10.0)
    assert SCALES[20:22] == (20.0, 40.0) and SCALES[-1] == 200.0
    for prompt in PROMPTS:
        *pairs, end = prompt.split("\n")
        assert end == "?" and all(left == right for left, right in (p.split(" -> ") for p in pairs))


@pytest.mark.parametrize("layer", [0, LAST])
def test_the_cached_batch_equals_plain_passes_one_by_one(loaded, layer):
    streams = normal(7, D) * torch.linspace(0.1, 30, 7)[:, None]
    for prompt in PROMPTS:
        prefix = scope._read(loaded, prompt)
        for _ in range(2):  # reading does not use the prefix up
            got = scope.next_tokens(loaded, layer, prefix, streams)
            for row, stream in enumerate(streams):
                want = plainly(loaded, layer, prompt, stream)
                assert torch.allclose(got[row], want, atol=1e-5)
    assert not torch.allclose(got[0], got[1], atol=1e-2)


def test_tokens_that_all_prompts_have_in_common_by_hand(monkeypatch):
    monkeypatch.setattr(scope, "COMMON", 3)
    monkeypatch.setattr(scope, "COMMON_SHARE", 1.0)
    said = torch.tensor([[[0.4, 0.3, 0.2, 0.1, 0.0]], [[0.0, 0.2, 0.3, 0.1, 0.4]]])
    ids, shares = in_common(said, 4)
    # top three are {0, 1, 2} and {4, 2, 1}; 1 and 2 have means of 0.25 each
    assert sorted(ids[0, :2].tolist()) == [1, 2] and ids[0, 2:].tolist() == [-1, -1]
    assert shares[0, :2].tolist() == pytest.approx([0.25, 0.25])
    assert shares[0, 2:].isnan().all()
    monkeypatch.setattr(scope, "COMMON_SHARE", 0.2)  # one token of five: 0 and 4, none in common
    assert in_common(said, 2)[0].tolist() == [[-1, -1]]


def test_coherence_by_hand():
    """Three words at 60, 60 and 0 degrees, of four tokens; forms of one word count once."""
    half = 3**0.5 / 2
    rows = torch.tensor([[1.0, 0], [0.5, half], [1.0, 0], [0.0, 1.0], [-1.0, 0], [0.0, -1.0]])
    classes = np.array([0, 1, 2, -1, 0, 5])
    read = torch.tensor([0, 1, 2, 3])
    assert coherence_of(read, classes, [], rows) == pytest.approx((0.5 + 0.5 + 1) / 3 * 3 / 4)
    again = torch.tensor([0, 4, 1, 2, -1])  # 4 is another form of word 0
    assert coherence_of(again, classes, [], rows) == pytest.approx(2 / 3 * 3 / 5)
    assert coherence_of(read, classes, [1], rows) == 0  # two words are too few
    assert coherence_of(torch.tensor([3, -1]), classes, [], rows) == 0


def test_a_stream_after_the_last_block_reads_what_the_model_says_there(loaded, letters):
    """Nothing but norm and head follows, so scale and prompt cannot matter."""
    ids = torch.tensor([[0, 40, 50, 60, 70]])
    streams = output_of(loaded, LAST, ids)[0]
    said = loaded.model(ids).logits[0].softmax(1)
    got = patchscope(loaded, streams, float(streams.norm(dim=1).mean()), LAST, 5, classes=letters)
    assert torch.equal(got.ids, said.topk(5).indices)
    assert torch.allclose(got.shares, said.topk(5).values, atol=1e-4)
    assert torch.allclose(got.scores, got.scores[:, :1].expand(5, 30), atol=1e-4)


def test_a_planted_direction_is_read_at_its_own_position(loaded, letters):
    """Fine-tune = base + a token's unembedding row at one position: its difference is that token."""
    planted, words = {0: 66, 2: 71}, []
    ids = torch.randint(2, 258, (64, 4), generator=torch.Generator().manual_seed(3))
    base = output_of(loaded, LAST, ids)
    tuned = base.clone()
    for position, token in planted.items():
        tuned[:, position] += 8.0 * loaded.unembedding[token].detach()
    stream = MeanDifference(4, D)
    stream.update(base, tuned)
    eta = float(tuned.norm(dim=2).mean())
    got = patchscope(loaded, stream.value().mean, eta, LAST, 3, classes=letters)
    for position in range(4):
        words.append(int(got.ids[position, 0]))
    assert words == [66, -1, 71, -1]


def test_the_chosen_scale_has_the_best_score_and_its_tokens_are_those_of_that_scale(
    loaded, monkeypatch
):
    monkeypatch.setattr(scope, "COMMON_SHARE", 1.0)
    letters = np.arange(258)  # every token a word of its own: bytes have no others
    vectors, scales = normal(3, D, seed=5), (0.5, 1.0, 2.0, 4.0)
    got = patchscope(loaded, vectors, 6.0, 0, 8, scales, letters)
    assert torch.equal(got.score, got.scores.max(1).values)
    assert len(set(got.scale.tolist())) > 1  # the rule is at work
    for at, scale in enumerate(got.scale.tolist()):
        alone = patchscope(loaded, vectors[at : at + 1] * 100, 6.0, 0, 8, (scale,), letters)
        assert torch.equal(alone.ids[0], got.ids[at])  # the vector's own length does not count
        assert alone.score[0] == pytest.approx(float(got.score[at]), abs=1e-5)
        stream = 6.0 * scale * vectors[at] / vectors[at].norm()
        each = torch.stack([plainly(loaded, 0, prompt, stream) for prompt in PROMPTS])
        agreement = float(each.amin(0).sum())
        rows = scope.centred_rows(loaded.unembedding)
        apart = {int(letters[t]) for p in PROMPTS for t in loaded.tokenizer(p).input_ids}
        coherence = coherence_of(got.ids[at], letters, apart, rows)
        assert agreement * coherence == pytest.approx(float(got.score[at]), abs=1e-4)


def test_nothing_is_read_in_nothing(loaded, letters):
    vectors = torch.stack([torch.zeros(D), torch.full((D,), math.nan), normal(D)])
    got = patchscope(loaded, vectors, 5.0, LAST, 4, classes=letters)
    assert (got.ids[:2] == -1).all() and (got.ids[2] >= 0).all()
    for column in (got.shares, got.scale, got.score, got.scores):
        assert column[:2].isnan().all() and column[2].isfinite().all()


@pytest.mark.parametrize("eta, scales", [(0.0, SCALES), (math.nan, SCALES), (1.0, (1.0, -1.0))])
def test_lengths_that_are_none_are_refused(loaded, letters, eta, scales):
    with pytest.raises(ValueError, match="must be positive numbers"):
        patchscope(loaded, normal(1, D), eta, 0, 4, scales, letters)


@pytest.mark.model
def test_smollm2_reads_in_a_late_stream_what_it_was_about_to_say():
    loaded = models.load("smollm2-135m", device="cpu")
    tokenizer = loaded.tokenizer
    for text, word in (
        ("The capital of France is", " Paris"),
        ("Monday, Tuesday, Wednesday,", " Thursday"),
        ("Two plus two makes four. One, two, three, four, five, six,", " seven"),
    ):
        ids = [tokenizer.bos_token_id, *tokenizer(text).input_ids]
        stream = output_of(loaded, 25, torch.tensor([ids]))[0, -1:]
        got = patchscope(loaded, stream, float(stream.norm()), 25, 10)
        read = [tokenizer.decode([i]) for i in got.ids[0].tolist()]
        assert word in read[:5], read
