"""CKA: closed forms, invariances, both algebraic forms, batching, intervals."""

import time

import numpy as np
import pytest
import torch

from lib.metrics.cka import StreamingCKA, debiased_cka, grouped_cka, linear_cka


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def orthogonal(d: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed).double())[0]


def song(x: torch.Tensor, y: torch.Tensor) -> float:
    """HSIC_1 as a plain double sum over pairs of U-centred kernels (Szekely and Rizzo), no matrices
    shared with the code under test."""
    n = len(x)

    def centred(v: torch.Tensor) -> np.ndarray:
        k = (v.double() @ v.double().T).numpy()
        np.fill_diagonal(k, 0)
        rows = k.sum(0) / (n - 2)
        k = k - rows[:, None] - rows[None] + k.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(k, 0)
        return k

    return float((centred(x) * centred(y)).sum() / (n * (n - 3)))


def test_four_tokens_by_hand():
    x = torch.tensor([[0.0], [0.0], [2.0], [2.0]])
    y = torch.tensor([[0.0], [2.0], [0.0], [2.0]])  # centred: orthogonal to x
    z = torch.tensor([[0.0], [0.0], [2.0], [4.0]])  # centred (-1.5,-1.5,.5,2.5): <x,z>=6, |z|^2=11
    assert linear_cka(x, y) == pytest.approx(0.0)
    assert linear_cka(x, z) == pytest.approx(36 / (4 * 11))


@pytest.mark.parametrize("form", [linear_cka, debiased_cka])
@pytest.mark.parametrize("d", [8, 90])  # feature form and Gram form at 60 tokens
def test_rotation_scale_and_offset_change_nothing_but_a_general_map_does(form, d):
    x = normal(60, d).double()
    moved = 3 * x @ orthogonal(d) + 5 * normal(1, d, seed=2)
    assert form(x, moved) == pytest.approx(1.0, abs=1e-9)
    assert form(x, x @ normal(d, d, seed=3).double()) < 0.97
    y = normal(60, d, seed=4).double() + x
    assert form(x, y) == pytest.approx(form(y, x), abs=1e-12)


@pytest.mark.parametrize("d", [5, 70])
def test_debiased_is_song_hsic(d):
    x = normal(40, d) + 3
    y = x + normal(40, d, seed=1)
    want = song(x, y) / np.sqrt(song(x, x) * song(y, y))
    assert debiased_cka(x, y) == pytest.approx(want, abs=1e-10)


def test_gram_form_equals_feature_form():
    x, y = normal(50, 30), normal(50, 30, seed=1)
    pad = torch.zeros(50, 40)  # empty coordinates only switch the form
    for form in (linear_cka, debiased_cka):
        wide = form(torch.cat([x, pad], 1), torch.cat([y, pad], 1))
        assert form(x, y) == pytest.approx(wide, abs=1e-12)


def test_independent_noise_is_zero_only_when_debiased():
    x, y = normal(200, 8192), normal(200, 8192, seed=1)
    assert abs(debiased_cka(x, y)) < 0.02
    assert linear_cka(x, y) == pytest.approx(0.977, abs=0.005)


@pytest.mark.parametrize("sizes", [[300], [1] * 300, [7, 200, 93], [299, 1]])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_streaming_gives_the_whole_batch_number(sizes, offset):
    x = normal(300, 24) * torch.linspace(0.1, 3, 24) + offset
    y = x + 0.3 * normal(300, 24, seed=1)
    stream = StreamingCKA(24, 24)
    for a, b in zip(x.split(sizes), y.split(sizes), strict=True):
        stream.update(a, b)
    assert stream.value() == pytest.approx(debiased_cka(x, y), abs=1e-9)
    assert stream.value(debiased=False) == pytest.approx(linear_cka(x, y), abs=1e-9)


def test_streaming_with_more_features_than_tokens_and_unequal_widths():
    x, y = normal(30, 50), normal(30, 12, seed=1)
    stream = StreamingCKA(50, 12)
    stream.update(x[:11], y[:11])
    stream.update(x[11:11], y[11:11])  # an empty batch is no batch
    stream.update(x[11:], y[11:])
    assert stream.value() == pytest.approx(debiased_cka(x, y), abs=1e-10)


def test_identical_views_give_exactly_one():
    x = normal(500, 32).half()
    groups = torch.arange(500) // 25
    assert debiased_cka(x, x.clone()) == 1.0
    assert grouped_cka(x, x.clone(), groups) == (1.0, 1.0, 1.0)


def test_displacement_is_of_second_order():
    x, noise = normal(4000, 64), normal(4000, 64, seed=1)
    small, large = (1 - debiased_cka(x, x + size * noise) for size in (0.01, 0.1))
    assert np.log10(large / small) == pytest.approx(2.0, abs=0.02)


def test_one_shared_massive_token_fools_the_biased_form_only():
    x, y = normal(200, 50), normal(200, 50, seed=1)
    x[0], y[0] = 300.0, 300.0
    assert linear_cka(x, y) > 0.9
    assert abs(debiased_cka(x, y)) < 0.2


def test_grouped_interval_covers_the_truth_at_about_its_level():
    # y = x + e on isotropic data: population CKA = 1/(1+s^2)... estimated here from many tokens
    def draw(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = normal(n, 6, seed=seed)
        return x, x + 0.5 * normal(n, 6, seed=seed + 10_000)

    truth = debiased_cka(*draw(200_000, 1))
    inside = 0
    for seed in range(60):
        x, y = draw(400, 100 + seed)
        got = grouped_cka(x, y, torch.arange(400) // 10)
        assert got.low < got.value < got.high
        inside += got.low <= truth <= got.high
    assert 50 <= inside <= 60


def test_grouped_value_is_the_debiased_value_and_leaving_out_is_exact():
    x = normal(240, 10)
    y = x + normal(240, 10, seed=1)
    groups = torch.arange(240) // 120  # two documents: two blocks
    got = grouped_cka(x, y, groups)
    assert got.value == pytest.approx(debiased_cka(x, y), abs=1e-12)
    z = np.log1p([-debiased_cka(x[120:], y[120:]), -debiased_cka(x[:120], y[:120])])
    half = 12.706204736 * abs(z[0] - z[1]) / 2  # t(0.975, 1 df) * sqrt(1/2 * 2 * (gap/2)^2)
    centre = np.log1p(-got.value)
    assert got.high == pytest.approx(1 - np.exp(centre - half), abs=1e-8)
    assert got.low == pytest.approx(max(-1.0, 1 - np.exp(centre + half)), abs=1e-8)


def test_one_document_has_no_interval():
    x = normal(100, 5)
    y = x + normal(100, 5, seed=1)
    got = grouped_cka(x, y, torch.zeros(100, dtype=torch.int64))
    assert (got.low, got.high) == (None, None)
    assert got.value == pytest.approx(debiased_cka(x, y))


@pytest.fixture
def one_thread():
    """CPU seconds of one core: spare threads would spin and be counted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_layer_of_the_embedded_model_costs_seconds(one_thread):
    x = normal(5000, 576)
    y = x + 0.2 * normal(5000, 576, seed=1)
    start = time.process_time()
    grouped_cka(x, y, torch.arange(5000) // 50)
    assert time.process_time() - start < 10  # CPU seconds; the design asks for about 3


@pytest.mark.parametrize("constant", ["x", "y"])
@pytest.mark.parametrize("d", [3, 50])
@pytest.mark.parametrize("form", [linear_cka, debiased_cka])
def test_a_constant_view_is_refused_by_name(form, d, constant):
    views = {"x": normal(20, d), "y": normal(20, d)}
    views[constant] = torch.full((20, d), 0.1)
    with pytest.raises(ValueError, match=f"{constant} is constant over its 20 tokens"):
        form(**views)


def test_other_refusals():
    x = normal(20, 3)
    with pytest.raises(ValueError, match="at least 4 tokens, got 3"):
        debiased_cka(x[:3, :2], x[:3, :2])
    spike = torch.zeros(20, 3)
    spike[0] = 1
    with pytest.raises(ValueError, match="x varies in too few tokens"):
        debiased_cka(spike, x)
    stream = StreamingCKA(3, 3)
    with pytest.raises(ValueError, match="no tokens were added"):
        stream.value()
    with pytest.raises(ValueError, match="widths 3 and 3, got 3 and 2"):
        stream.update(x, x[:, :2])
    with pytest.raises(ValueError, match="no tokens"):
        linear_cka(x[:0], x[:0])
