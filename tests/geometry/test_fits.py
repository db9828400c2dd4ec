"""How much of deltas is explained: by hand, on planted worlds, and what the baselines show there."""

import dataclasses

import numpy as np
import pytest
import torch

from lib.config import Sparse
from lib.geometry import fits
from lib.geometry.adapter_sae import Shuffled, train_on_deltas
from lib.geometry.approximate import principal, project, pursuit
from lib.geometry.directions import energy_rows, random_directions
from lib.geometry.scores import gain, score
from lib.geometry.subspaces import subspaces
from lib.metrics.reconstruction import fve
from tests.geometry.planted import dictionary, frame, normal, sparse_sums

D, K = 48, 3
RECIPE = Sparse(k=K, batch=256, max_steps=500, evaluate_every=500, lr=3e-2, anneal_from=0)


def documents(tokens: int, each: int = 50) -> torch.Tensor:
    return torch.arange(tokens) // each


@pytest.fixture(scope="module")
def world():
    """Deltas: sparse sums of 12 planted directions around an offset; the base's dictionary holds the
    same directions among others, at thresholds that deltas do not reach."""
    planted = random_directions(12, D, seed=1)
    offset = 0.2 * torch.ones(D)
    train = sparse_sums(planted, 4_000, K, seed=2) + offset
    heldout = sparse_sums(planted, 1_000, K, seed=3) + offset
    base = 10 * normal(1_000, D, seed=4).float()
    known = torch.cat([planted, random_directions(36, D, seed=5)])
    pretrained = dictionary(known, K, bias=-8.0)
    pretrained.decoder_bias = torch.full((1, D), 2.0)
    adapter = train_on_deltas(train, RECIPE, latents=24, heldout=heldout)
    return planted, train, heldout, base, pretrained, adapter


@pytest.fixture(scope="module")
def found(world):
    _, train, heldout, base, pretrained, adapter = world
    groups = documents(len(heldout))
    trained = adapter.dictionary
    return fits.compare(
        train, heldout, groups, base=base, adapter=trained, pretrained=pretrained, k=K
    )


def test_explained_variance_by_hand():
    """Mean (1, 0): deviations 1 + 1 + 1 + 1; errors 1 and 1; squares 4 + 0 + 2 + 2."""
    x = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    hat = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    groups = torch.tensor([7, 7, 9, 9])
    got = score(x, hat, groups, active=1.0)
    assert got.fve.value == pytest.approx(1 - 2 / 4) == fve(x, hat)
    assert got.energy.value == pytest.approx(1 - 2 / 8)
    assert got.sums.tolist() == [[0, 2, 4], [2, 2, 4]]
    assert (got.fve.low, got.fve.high) == (0, 1)  # a resample may hold one document only
    mean = score(x, x.mean(0).expand_as(x), groups, active=0.0)
    assert mean.fve.value == 0 and mean.energy.value == pytest.approx(4 / 8)
    assert gain(got, mean).value == pytest.approx(0.5)
    assert score(x, hat, groups * 0, active=1.0).fve.low is None


def test_a_difference_of_fits_is_paired():
    """One description errs a little more than the other on every document alike."""
    x, groups = normal(1_000, 6), documents(1_000)
    x *= 1 + (groups % 5)[:, None]
    rough, fine = (score(x, x * c, groups, active=1.0) for c in (0.5, 0.55))
    both = gain(fine, rough)
    assert both.value == pytest.approx(fine.fve.value - rough.fve.value)
    assert 0 < both.low < both.value < both.high
    width = max(fine.fve.high - fine.fve.low, rough.fve.high - rough.fve.low)
    assert both.high - both.low < width or width < 0.02
    with pytest.raises(ValueError, match="fits of different deltas"):
        gain(fine, score(x[:500], x[:500], groups[:500], active=1.0))


def test_the_planted_directions_are_found_within_five_degrees(world):
    """Oracle: a planted low-rank delta, from the SAE's energy and from the deltas' own PCA."""
    planted, train, heldout, _, _, adapter = world
    rows = energy_rows(adapter.dictionary, heldout)
    got = subspaces(rows, planted, 12)
    assert float(got.angles[-1]) < 5
    assert got.angle.distance < -20
    pca = subspaces(principal(train, 12).basis.T, planted, 12)
    assert float(pca.angles[-1]) < 5


def test_a_dictionary_with_the_planted_directions_fails_natively_and_not_by_pursuit(found):
    """The point of the fair baselines: a low native score is no evidence of missing directions."""
    assert found.native.fve.value < 0
    assert found.native.active == 0
    assert found.pretrained_pursuit.fve.value > 0.95
    assert found.random_pursuit.fve.value < found.pretrained_pursuit.fve.value - 0.2
    assert found.adapter.fve.value > 0.85
    assert found.adapter_pursuit.fve.value > 0.95
    assert found.pca.fve.value < 0.5 < found.adapter.fve.low
    assert gain(found.adapter, found.pca).low > 0


def test_a_full_rank_decoder_spans_everything_and_says_so(found):
    assert found.span.rank == D
    assert found.span.fve.value == pytest.approx(1, abs=1e-6)


def test_the_mean_alone_explains_the_offset_and_no_variance(found, world):
    heldout = world[2].double()
    share = len(heldout) * heldout.mean(0).square().sum() / heldout.square().sum()
    assert found.mean.energy.value == pytest.approx(float(share), abs=2e-3)
    assert -0.01 < found.mean.fve.value <= 0
    assert found.mean.rank == 0 and found.k == K


def test_without_k_the_baselines_take_what_the_adapter_uses(world):
    _, train, heldout, base, pretrained, adapter = world
    got = fits.compare(
        train,
        heldout,
        documents(len(heldout)),
        base=base,
        adapter=adapter.dictionary,
        pretrained=pretrained,
    )
    assert got.k == round(got.adapter.active) == got.pca.active == got.pretrained_pursuit.active


def test_encoding_both_sides_and_subtracting_by_hand():
    """Two features: one grows from 3 to 5 (thresholds 1 off each), one stays; b_dec cancels."""
    made = dictionary(torch.eye(2), 1, bias=-1.0)
    made.decoder_bias = torch.tensor([[9.0, 9.0]])
    base = torch.tensor([[3.0, 4.0], [0.5, 4.0], [3.0, 4.0]])
    delta = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    got = fits.subtracted(made, base, delta, torch.arange(3))
    error = (2.0 - 1.5) ** 2  # 0.5 is below the bias, so only 1.5 of the second token's 2 is seen
    deviation = 2 * (2 / 3) ** 2 + (4 / 3) ** 2
    assert got.fve.value == pytest.approx(1 - error / deviation)
    assert got.active == pytest.approx(2 / 3)


def test_pursuit_is_least_squares_and_exact_where_the_sum_is_sparse():
    rows = frame(20)
    x = sparse_sums(rows, 30, 4).double()
    assert torch.allclose(pursuit(rows, x, 4), x, atol=1e-6)
    kept = torch.zeros(30, 20).double()  # orthonormal rows: the k largest coefficients are best
    best = (x @ rows.T).abs().topk(2, dim=1).indices
    kept.scatter_(1, best, (x @ rows.T).gather(1, best))
    assert torch.allclose(pursuit(rows, x, 2), kept @ rows, atol=1e-6)
    close = torch.cat([rows[:1], rows[:1] + 1e-3 * rows[1:2], 0 * rows[:1], rows[:1]])
    y = (3 * rows[0] + 2 * rows[1] + rows[2])[None]
    got = pursuit(close, y, 4)  # two directions nearly alike span the plane; the rest adds nothing
    assert torch.allclose(got, (3 * rows[0] + 2 * rows[1])[None], atol=1e-6)
    again = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(pursuit(-2 * rows[again], x, 2), kept @ rows, atol=1e-6)


def test_pursuit_agrees_with_a_plain_one():
    """Independent form: choose, solve with lstsq, repeat."""
    rows, x = normal(15, 8), normal(5, 8, seed=1)
    unit = rows / rows.norm(dim=1, keepdim=True)
    for token in range(5):
        chosen, left = [], x[token]
        for _ in range(3):
            chosen.append(int((unit @ left).abs().argmax()))
            fit = torch.linalg.lstsq(unit[chosen].T, x[token][:, None]).solution[:, 0]
            left = x[token] - fit @ unit[chosen]
        assert torch.allclose(pursuit(rows, x, 3)[token], x[token] - left, atol=1e-9)
    assert torch.allclose(pursuit(rows, x, 100), x, atol=1e-6)


def test_projection_and_components_against_numpy():
    rows, x = normal(5, 9), normal(40, 9, seed=1)
    hat, rank = project(torch.cat([rows, rows[:2]]), x)
    solved = np.linalg.lstsq(rows.numpy().T, x.numpy().T, rcond=None)[0]
    assert rank == 5 and np.allclose(hat, (rows.numpy().T @ solved).T)
    mean, basis, share = principal(x, 3)
    _, sizes, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    assert np.allclose((basis.T @ right[:3].T).abs(), np.eye(3), atol=1e-8)
    assert np.allclose(share, sizes[:3] ** 2 / (sizes**2).sum()) and np.allclose(mean, x.mean(0))


def test_components_are_fitted_on_training_deltas_only():
    train, heldout = torch.zeros(60, 4), torch.zeros(60, 4)
    train[:, 0], heldout[:, 1] = torch.arange(60.0), torch.arange(60.0)
    got = fits.components(train, heldout, documents(60), 1)
    assert got.fve.value < 0 and got.rank == 1
    assert fits.components(train, train, documents(60), 1).fve.value == pytest.approx(1)


def test_scale_and_offset_of_deltas_change_nothing(world):
    """What the documented normalisation promises: raw units in, raw units out."""
    _, train, heldout, *_, adapter = world
    few = dataclasses.replace(RECIPE, max_steps=60)
    plain, moved = (
        train_on_deltas(a * train + b, few, latents=24) for a, b in ((1, 0), (64.0, 3.0))
    )
    groups = documents(len(heldout))
    one = fits.native(plain.dictionary, heldout, groups)
    other = fits.native(moved.dictionary, 64 * heldout + 3, groups)
    assert other.fve.value == pytest.approx(one.fve.value, abs=0.02)
    norms = train.double().norm(dim=1)
    assert adapter.mean_norm == pytest.approx(float(norms.mean()))
    assert adapter.rms_norm == pytest.approx(float((norms**2).mean() ** 0.5))
    assert adapter.rms_norm > adapter.mean_norm
    assert adapter.dictionary.sides == 1


def test_batches_cover_each_pass_in_a_new_order_and_skip_to_the_same_ones():
    delta = torch.arange(22.0)[:, None].expand(-1, 3)
    source = Shuffled(delta, 5, seed=1)
    first, second = ([b[:, 0, 0] for b in source] for _ in range(2))
    assert len(source) == len(first) == 4
    assert len(torch.cat(first).unique()) == 20 and not torch.equal(first[0], second[0])
    again = Shuffled(delta, 5, seed=1)
    again.skip(6)
    assert torch.equal(next(iter(again))[:, 0, 0], second[2])


def test_deltas_of_zero_are_not_defined():
    zero = torch.zeros(600, D)
    with pytest.raises(ValueError, match="constant over tokens"):
        train_on_deltas(zero, RECIPE, latents=24)
    with pytest.raises(ValueError, match="every B of the adapter 0"):
        score(zero, zero, documents(600), active=0.0)
    with pytest.raises(ValueError, match="every B of the adapter 0"):
        principal(zero, 3)
    assert not pursuit(frame(D), zero.double(), 3).any()


def test_refusals(world):
    _, train, heldout, base, pretrained, adapter = world
    groups, own = documents(len(heldout)), adapter.dictionary
    narrow = dictionary(torch.eye(5), 1)
    for pair in ((narrow, pretrained), (own, narrow)):
        settings = {"base": base, "adapter": pair[0], "pretrained": pair[1]}
        with pytest.raises(ValueError, match="1 sides of width 5"):
            fits.compare(train, heldout, groups, **settings)
    with pytest.raises(ValueError, match="do not fill one batch"):
        train_on_deltas(train[:100], RECIPE, latents=24)
    with pytest.raises(ValueError, match="not finite at row 2"):
        train_on_deltas(
            torch.full((300, 4), 1.0).index_fill_(0, torch.tensor([2]), torch.nan),
            RECIPE,
            latents=24,
        )
    with pytest.raises(ValueError, match="without tokens"):
        score(heldout[:0], heldout[:0], groups[:0], active=0.0)
    with pytest.raises(ValueError, match="k of at least 1"):
        pursuit(frame(4), normal(2, 4), 0)
    with pytest.raises(ValueError, match="k 2 and 0 of 4 directions"):
        pursuit(0 * frame(4), normal(2, 4), 2)
    for k in (0, 4, 9):
        with pytest.raises(ValueError, match="principal components of 4 tokens"):
            principal(normal(4, 9), k)
