"""Latents: norms and names, latent scaling on planted latents, sparse against dense, speed."""

import time

import pytest
import torch

from lib.metrics.latents import (
    LatentScaling,
    classify_latents,
    delta_norm,
    shares,
    sparse_codes,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(tokens: int, latents: int, d: int, rate: float = 0.2) -> torch.Tensor:
    fires = torch.rand(tokens, latents, generator=torch.Generator().manual_seed(5)) < rate
    return fires * normal(tokens, latents, seed=6).abs()


def orthonormal(latents: int, d: int) -> torch.Tensor:
    return torch.linalg.qr(normal(d, latents, seed=7))[0].T.contiguous()


def test_delta_norm_by_hand_and_swapped():
    base = torch.tensor([0.0, 1.0, 1.0, 2.0, 0.0])
    tuned = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    got = delta_norm(base, tuned)
    assert got[:4].tolist() == [1.0, 0.0, 0.5, 0.25]
    assert got[4].isnan()
    assert torch.allclose(delta_norm(tuned, base), 1 - got, equal_nan=True)


def test_names_and_their_cuts():
    value = torch.tensor([0.0, 0.09, 0.1, 0.39, 0.4, 0.6, 0.61, 0.9, 0.91, 1.0, 0.5, torch.nan])
    firings = torch.tensor([10] * 10 + [9, 10])
    names = classify_latents(value.double(), firings, 10)
    assert names == [
        *["eliminated"] * 2,
        *["suppressed"] * 2,
        "shared",
        "shared" if float(value.double()[5]) <= 0.6 else "amplified",
        "amplified",
        "amplified" if float(value.double()[7]) <= 0.9 else "new",
        *["new"] * 2,
        *["dead"] * 2,
    ]


def test_swapping_the_models_mirrors_the_names():
    base, tuned = normal(500).abs(), normal(500, seed=1).abs()
    firings = torch.full((500,), 50)
    mirror = dict(
        eliminated="new", suppressed="amplified", shared="shared", amplified="suppressed",
        new="eliminated",
    )  # fmt: skip
    one = classify_latents(delta_norm(base, tuned), firings)
    other = classify_latents(delta_norm(tuned, base), firings)
    assert [mirror[name] for name in one] == other
    assert len(set(one)) == 5


def test_scaling_recovers_beta_exactly_despite_an_orthogonal_remainder():
    d, directions = 12, orthonormal(4, 12)
    codes = planted(300, 4, d)
    beta = torch.tensor([[0.5, 2.0], [1.0, 1.0], [0.0, 3.0], [-1.0, 1.0]])  # base, tuned
    basis = torch.linalg.qr(torch.cat([directions, normal(8, d)]).T)[0].T
    remainder = normal(300, 8, seed=3) @ basis[4:]
    x = torch.einsum("tl,ls,ld->tsd", codes, beta, directions) + remainder[:, None]
    decoder = directions[:, None].repeat(1, 2, 1)
    scaling = LatentScaling(directions)
    # a reconstruction that leaves everything out: the error target without the latent is x itself
    scaling.update(x, torch.einsum("tl,lsd->tsd", codes, decoder), codes, decoder)
    on_error, _ = scaling.betas()
    assert torch.allclose(on_error, beta.double(), atol=1e-5)
    assert torch.allclose(scaling.value().nu_eps, beta[:, 0] / beta[:, 1].double(), atol=1e-5)


def test_shared_latents_score_one_and_planted_tuned_only_ones_zero():
    directions = orthonormal(6, 24)
    decoder = directions[:, None].repeat(1, 2, 1)
    decoder[4:, 0] = 0  # the last two exist in the tuned model only
    codes = planted(2000, 6, 24)
    x_hat = torch.einsum("tl,lsd->tsd", codes, decoder)
    x = x_hat + 0.01 * normal(2000, 1, 24, seed=8)
    scaling = LatentScaling(decoder[:, 1])
    scaling.update(x, x_hat, codes, decoder)
    nu = scaling.value()
    assert torch.allclose(nu.nu_eps[:4], torch.ones(4).double(), atol=1e-3)
    assert torch.allclose(nu.nu_r[:4], torch.ones(4).double(), atol=1e-3)
    assert nu.nu_eps[4:].abs().max() < 0.02 and nu.nu_r[4:].abs().max() < 1e-5


def test_the_two_artefacts_are_told_apart():
    """Complete shrinkage: the base needs the latent, its decoder just lost it. Decoupling: another
    latent writes the same direction in the base."""
    directions = orthonormal(2, 16)
    codes = planted(3000, 3, 16)
    codes[:, 2] = codes[:, 1]  # latent 2 fires with latent 1 ...
    decoder = torch.zeros(3, 2, 16)
    decoder[0, 1] = directions[0]  # shrunk: base decoder 0 although the base has it
    decoder[1, 1] = directions[1]
    decoder[2, 0] = directions[1]  # ... and writes its direction in the base
    x = torch.einsum("tl,ld->td", codes[:, :2], directions)[:, None].repeat(1, 2, 1)
    scaling = LatentScaling(decoder[:, 1])
    scaling.update(x, torch.einsum("tl,lsd->tsd", codes, decoder), codes, decoder)
    nu_eps, nu_r = scaling.value()
    assert nu_eps[0] == pytest.approx(1, abs=1e-4) and nu_r[0] == pytest.approx(0, abs=0.2)
    assert nu_eps[1] == pytest.approx(0, abs=1e-4) and nu_r[1] == pytest.approx(1, abs=1e-4)
    assert nu_eps[2].isnan() and nu_r[2].isnan()  # no tuned direction: undefined


def dense_nu(x, x_hat, codes, decoder):
    """The definition, one latent at a time, in float64."""
    nu = []
    for j in range(codes.shape[1]):
        a, d = codes[:, j].double(), decoder[j].double()
        targets = [
            [x[:, s].double() - (x_hat[:, s].double() - a[:, None] * d[s]) for s in (0, 1)],
            [x_hat[:, s].double() for s in (0, 1)],
        ]
        beta = [[d[1] @ (a @ y) / (d[1] @ d[1] * (a @ a)) for y in pair] for pair in targets]
        nu.append([float(b[0] / b[1]) for b in beta])
    return torch.tensor(nu).double()


@pytest.mark.parametrize("sizes", [[150], [1] * 150, [100, 50]])
def test_streamed_sparse_codes_equal_the_definition(monkeypatch, sizes):
    monkeypatch.setattr("lib.metrics.latents._CHUNK_BYTES", 5000)  # several chunks in each update
    decoder, codes = normal(20, 2, 10), planted(150, 20, 10)
    x = normal(150, 2, 10, seed=1)
    x_hat = torch.einsum("tl,lsd->tsd", codes, decoder) + 0.3
    scaling = LatentScaling(decoder[:, 1])
    for a, b, z in zip(*(v.split(sizes) for v in (x, x_hat, codes)), strict=True):
        indices, values = sparse_codes(z)
        indices = indices.masked_fill(values == 0, 999)  # padding may point anywhere
        scaling.update_sparse(a, b, indices, values, decoder)
    want = dense_nu(x, x_hat, codes, decoder)
    got = torch.stack(list(scaling.value()), 1)
    assert torch.allclose(got, want, rtol=1e-3, atol=1e-4)
    assert torch.equal(scaling.firings, (codes != 0).sum(0))
    assert torch.allclose(scaling.sum_squares, codes.double().square().sum(0))
    assert torch.equal(scaling.max_activation.float(), codes.max(0).values)


def test_sparse_codes_hold_every_active_latent():
    codes = planted(40, 9, 4)
    indices, values = sparse_codes(codes)
    assert values.shape[1] == int((codes != 0).sum(1).max())
    assert torch.equal(torch.zeros_like(codes).scatter_add(1, indices, values), codes)
    assert sparse_codes(torch.zeros(3, 9))[1].tolist() == [[0.0]] * 3


def test_shares_by_hand():
    decoder = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    got = shares(torch.tensor([1.0, 4.0]), decoder)
    assert got.energy.tolist() == [0.5, 0.5]  # 1 * 4 and 4 * 1
    assert got.difference.tolist() == [1.0, 0.0]
    assert shares(torch.zeros(2), decoder).energy.tolist() == [0.0, 0.0]


@pytest.fixture
def one_thread():
    """CPU seconds of one core: spare threads would spin and be counted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_four_thousand_latents_take_seconds(one_thread):
    decoder, generator = normal(4096, 2, 576), torch.Generator().manual_seed(0)
    x, x_hat = normal(2048, 2, 576), normal(2048, 2, 576, seed=1)
    indices = torch.randint(4096, (2048, 32), generator=generator)
    values = torch.rand(2048, 32, generator=generator)
    scaling = LatentScaling(decoder[:, 1])
    start = time.process_time()
    scaling.update_sparse(x, x_hat, indices, values, decoder)
    assert (time.process_time() - start) * 60_000 / 2048 < 30  # CPU seconds for 60,000 tokens
