"""Divergences: closed forms, streamed against naive, chunking, tiny and huge changes."""

import math

import pytest
import torch

from lib.metrics.divergence import kl_per_token, streamed

FIELDS = ("kl", "reverse_kl", "js", "agreement", "nll_p", "nll_q")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive(a: torch.Tensor, b: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Textbook formulas on full float64 logits."""
    log_p, log_q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    log_m = ((p + q) / 2).log()
    pick = torch.arange(len(a))
    return {
        "kl": (p * (log_p - log_q)).sum(-1),
        "reverse_kl": (q * (log_q - log_p)).sum(-1),
        "js": ((p * (log_p - log_m)).sum(-1) + (q * (log_q - log_m)).sum(-1)) / 2,
        "agreement": (a.argmax(-1) == b.argmax(-1)).double(),
        "nll_p": -log_p[pick, targets],
        "nll_q": -log_q[pick, targets],
    }


def setting(tokens: int, d: int, vocab: int) -> tuple[torch.Tensor, ...]:
    q = normal(tokens, d)
    p = q + 0.3 * normal(tokens, d, seed=1)
    weight = normal(vocab, d, seed=2) / d**0.5 * 3
    targets = torch.randint(vocab, (tokens,), generator=torch.Generator().manual_seed(3))
    return p, q, weight, targets


def test_two_point_closed_form():
    p, q = torch.tensor([0.9, 0.5]), torch.tensor([0.6, 0.5])
    logits = [torch.stack([v.log(), (1 - v).log()], 1) for v in (p, q)]
    want = [0.9 * math.log(1.5) + 0.1 * math.log(0.25), 0.0]
    assert kl_per_token(*logits).tolist() == pytest.approx(want, abs=1e-6)


def test_kl_of_a_distribution_with_itself_is_zero_and_constants_do_not_matter():
    a, b = normal(50, 300) * 4, normal(50, 300, seed=1) * 4
    assert kl_per_token(a, a).abs().max() == 0
    kl = kl_per_token(a, b)
    assert (kl > 0).all()
    assert torch.allclose(kl_per_token(a.double() + 7, b.double() - 3), kl, atol=1e-9)


def test_minus_infinity_logits():
    a = torch.tensor([[0.0, 0.0, -math.inf], [0.0, 0.0, 0.0], [0.0, -math.inf, 0.0]])
    b = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -math.inf], [0.0, -math.inf, 0.0]])
    got = kl_per_token(a, b).tolist()
    assert got[0] == pytest.approx(math.log(1.5))
    assert got[1] == math.inf
    assert got[2] == 0.0


def test_small_change_has_the_fisher_limit():
    a, u, eps = normal(20, 100).double(), normal(20, 100, seed=1).double(), 1e-4
    p = a.softmax(-1)
    variance = (p * u**2).sum(-1) - (p * u).sum(-1) ** 2
    assert torch.allclose(kl_per_token(a, a + eps * u), eps**2 / 2 * variance, rtol=1e-3)


@pytest.mark.parametrize(("token_chunk", "vocab_chunk"), [(1, 7), (64, 2048), (5, 1000), (9, 333)])
def test_streamed_equals_naive_for_any_chunking(token_chunk, vocab_chunk):
    p, q, weight, targets = setting(9, 32, 1000)
    got = streamed(p, q, weight, weight, targets, token_chunk=token_chunk, vocab_chunk=vocab_chunk)
    want = naive(p @ weight.T, q @ weight.T, targets)
    assert got.n == 9
    for name in FIELDS:
        assert torch.allclose(getattr(got, name), want[name], atol=2e-6), name


@pytest.mark.parametrize("reuse", [True, False])
def test_streamed_at_a_vocabulary_of_262144(monkeypatch, reuse):
    if not reuse:  # make the logits again for the second pass, as a larger token chunk would
        monkeypatch.setattr("lib.metrics.divergence._REUSE_BYTES", 0)
    p, q, weight, targets = setting(6, 16, 262_144)
    targets[0] = 262_143
    want = naive(p @ weight.T, q @ weight.T, targets)
    for chunk in (2048, 50_000):
        got = streamed(p, q, weight, weight, targets, token_chunk=4, vocab_chunk=chunk)
        for name in FIELDS:
            assert torch.allclose(getattr(got, name), want[name], atol=3e-6), name


def test_streamed_matches_the_reference_and_its_means():
    p, q, weight, _ = setting(40, 24, 500)
    got = streamed(p, q, weight, weight)
    assert torch.allclose(got.kl, kl_per_token(p @ weight.T, q @ weight.T), atol=1e-6)
    assert got.nll_p is None and got.nll_q is None
    assert set(got.means()) == {"kl", "reverse_kl", "js", "agreement"}
    assert got.means()["kl"] == pytest.approx(float(got.kl.mean()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_identical_models_give_exactly_nothing(dtype):
    _, q, weight, targets = setting(130, 32, 5000)
    got = streamed(q.to(dtype), q.to(dtype), weight, weight.clone(), targets)
    assert got.kl.max() == got.reverse_kl.max() == got.js.max() == 0
    assert got.agreement.min() == 1
    assert torch.equal(got.nll_p, got.nll_q)


def test_tiny_changes_keep_their_size():
    """KL of 1e-8 nats from float32 logits, whose own rounding is a hundred times larger."""
    _, q, weight, _ = setting(64, 64, 3000)
    p = q + 1e-4 * normal(64, 64, seed=5)
    got = streamed(p, q, weight, weight)
    want = kl_per_token(p.double() @ weight.double().T, q.double() @ weight.double().T)
    assert float(want.mean()) < 1e-7
    assert torch.allclose(got.kl, want, rtol=0.05, atol=0)
    assert torch.allclose(got.js, want / 4, rtol=0.05, atol=0)


def test_kl_is_quadratic_in_the_size_of_the_change():
    _, q, weight, _ = setting(64, 64, 3000)
    step = normal(64, 64, seed=5)
    kl = [float(streamed(q + s * step, q, weight, weight).kl.mean()) for s in (1e-3, 1e-2)]
    assert math.log10(kl[1] / kl[0]) == pytest.approx(2.0, abs=0.05)


def test_distributions_without_overlap():
    """Spikes on different tokens, 400 nats apart: q underflows where p lives."""
    weight = torch.eye(4)
    p, q = torch.tensor([[400.0, 0, 0, 0]]), torch.tensor([[0, 400.0, 0, 0]])
    got = streamed(p, q, weight, weight, torch.tensor([1]))
    assert float(got.kl) == pytest.approx(400.0)
    assert float(got.reverse_kl) == pytest.approx(400.0)
    assert float(got.js) == pytest.approx(math.log(2))
    assert float(got.nll_p) == pytest.approx(400.0) and float(got.nll_q) == pytest.approx(0.0)


@pytest.mark.parametrize("gap", [1.0, 59.0, 61.0, 95.0, 110.0])
def test_moderate_and_large_gaps_agree_with_float64(gap):
    weight = torch.eye(3)
    p, q = torch.tensor([[0.0, gap, 1.0]]), torch.tensor([[0.0, 0.0, gap]])
    got = streamed(p, q, weight, weight)
    want = naive(p, q, torch.tensor([0]))
    for name in ("kl", "reverse_kl", "js"):
        assert float(getattr(got, name)) == pytest.approx(float(want[name]), rel=1e-5), name


def test_js_never_exceeds_ln_2_and_uniform_logits_have_perplexity_v():
    p, q, weight, targets = setting(50, 32, 1000)
    got = streamed(8 * p, -8 * q, weight, weight, targets)
    assert float(got.js.max()) <= math.log(2)
    flat = streamed(p, q, torch.zeros(1000, 32), torch.zeros(1000, 32), targets)
    assert torch.allclose(flat.nll_q.exp(), torch.tensor(1000.0).double(), rtol=1e-6)


def test_softcap_bounds_the_logits_before_the_softmax():
    p, q, weight, targets = setting(10, 16, 200)
    got = streamed(p, q, weight, weight, targets, softcap=2.0, vocab_chunk=64)
    capped = [2.0 * torch.tanh(h @ weight.T / 2.0) for h in (p, q)]
    want = naive(*capped, targets)
    for name in FIELDS:
        assert torch.allclose(getattr(got, name), want[name], atol=2e-6), name


def test_models_of_different_width_share_a_vocabulary():
    p, q = normal(5, 8), normal(5, 12, seed=1)
    up, uq = normal(100, 8, seed=2), normal(100, 12, seed=3)
    want = naive(p @ up.T, q @ uq.T, torch.zeros(5, dtype=torch.int64))
    assert torch.allclose(streamed(p, q, up, uq).kl, want["kl"], atol=1e-5)


def test_no_tokens_is_an_empty_answer():
    p, q, weight, targets = setting(3, 8, 20)
    got = streamed(p[:0], q[:0], weight, weight, targets[:0])
    assert got.n == 0 and got.nll_p.shape == (0,)


def test_refusals_say_what_and_where():
    p, q, weight, _ = setting(4, 8, 30)
    with pytest.raises(ValueError, match="vocabularies of 30 and 29"):
        streamed(p, q, weight, weight[:29])
    with pytest.raises(ValueError, match="vocabularies of 30 and 29"):
        kl_per_token(p @ weight.T, q @ weight[:29].T)
    with pytest.raises(ValueError, match="targets run from -1"):
        streamed(p, q, weight, weight, torch.tensor([-1, 0, 1, 2]))
    broken = q.clone()
    broken[2, 0] = torch.nan
    with pytest.raises(ValueError, match="hidden_q is not finite at token 2"):
        streamed(p, broken, weight, weight)


def test_rows_that_are_no_distribution_give_nan_and_spoil_no_other_row():
    good = torch.tensor([[0.0, 1.0, 2.0]]).repeat(4, 1)
    bad = good.clone()
    bad[0, 1], bad[1], bad[2, 0] = torch.nan, -math.inf, math.inf
    for kl in (kl_per_token(good, bad), kl_per_token(bad, good)):
        assert kl[:3].isnan().all() and kl[3] == 0
