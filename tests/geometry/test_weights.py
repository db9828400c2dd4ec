"""Norms, ranks and overlaps from adapter files, against dense arithmetic and chance."""

import json
import math

import numpy as np
import pytest
import scipy
import torch
from safetensors.torch import load_file, save_file

from lib.geometry.factors import Factors, product, read
from lib.geometry.overlap import exact_overlap, overlap
from lib.geometry.weights import chance_rank, shares, spectra
from lib.models import ModelError
from tests.geometry.planted import adapted_factors, frame, normal, save_lora, tuned


def factors(a, b, scale=1.0, name="model.layers.0.self_attn.q_proj") -> Factors:
    return Factors(name, 0, "q", a, b, scale)


def test_a_file_gives_the_update_that_the_model_runs(tmp_path):
    """Against peft's own dense product, per-module alpha and rank patterns included."""
    more = {"rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"v_proj": 5}}
    folder = save_lora(tmp_path / "lora", **more)
    got = read(folder)
    assert [f.layer for f in got] == [0] * 4 + [1] * 4
    assert {f.kind for f in got} == {"q", "k", "v", "o"}
    for f, module in zip(got, adapted_factors(tuned(folder), got), strict=True):
        dense = module.get_delta_weight("default")
        assert torch.allclose(f.scale * f.b.double() @ f.a.double(), dense, atol=1e-12)
    assert {f.a.shape[0] for f in got if f.kind == "q"} == {4, 2}
    assert {f.scale for f in got if f.kind == "v"} == {5 / 4}


def test_norms_and_ranks_by_hand_and_by_a_dense_svd():
    u, v = frame(9)[:3].T, frame(7, seed=1)[:3]
    sizes = torch.tensor([4.0, 2.0, 2.0]).double()
    (got,) = spectra([factors(v, u * sizes, scale=0.5)])
    assert got.spectral == pytest.approx(2)
    assert got.frobenius == pytest.approx(math.sqrt(4 + 1 + 1))
    assert got.stable_rank == pytest.approx(6 / 4)
    p = np.array([4, 1, 1]) / 6
    assert got.entropy_rank == pytest.approx(math.exp(-(p * np.log(p)).sum()))
    a, b = normal(5, 30), normal(20, 5, seed=1)
    dense = torch.linalg.svdvals(-1.5 * b @ a)[:5]
    held = product(factors(a, b, -1.5))
    assert torch.allclose(held.size, dense)
    assert torch.allclose(held.left * held.size @ held.right.T, -1.5 * b @ a)


def test_equal_directions_have_the_full_rank_and_one_direction_has_one():
    u, v = frame(9)[:4], frame(9, seed=1)[:4]
    (even,) = spectra([factors(v, u.T)])
    assert (even.entropy_rank, even.stable_rank) == pytest.approx((4, 4))
    (single,) = spectra([factors(normal(4, 9), torch.outer(normal(9), torch.ones(4).double()))])
    assert (single.entropy_rank, single.stable_rank) == pytest.approx((1, 1))
    assert single.r == 4


def test_no_way_to_split_an_update_moves_anything():
    a, b, turn = normal(4, 30), normal(20, 4, seed=1), normal(4, 4, seed=2)
    c, e = normal(3, 30, seed=5), normal(20, 3, seed=6)
    one, same = factors(a, b), factors(turn @ a, b @ torch.linalg.inv(turn))
    wide = factors(torch.cat([a, a[:1]]), torch.cat([b, 0 * b[:, :1]], 1))
    for other in (same, wide):
        plain, again = spectra([one])[0], spectra([other])[0]
        assert again[4:] == pytest.approx(plain[4:])
        x, y = (overlap([f], [factors(c, e)])[0] for f in (one, other))
        assert torch.allclose(x.outputs.angles, y.outputs.angles, atol=1e-6)
        assert torch.allclose(x.inputs.angles, y.inputs.angles, atol=1e-6)
        assert y.cosine.value == pytest.approx(x.cosine.value)
        (itself,) = overlap([one], [other])
        assert itself.ranks == (4, 4)
        assert itself.outputs.angles.max() < 1e-6 and itself.inputs.angles.max() < 1e-6
        assert itself.cosine.value == pytest.approx(1)


def test_shares_add_up_by_layer_and_by_kind(tmp_path):
    modules = spectra(read(save_lora(tmp_path / "lora")))
    got = shares(modules)
    total = sum(m.frobenius**2 for m in modules)
    assert sum(got.by_layer.values()) == pytest.approx(1)
    assert sum(got.by_kind.values()) == pytest.approx(1)
    wanted = sum(m.frobenius**2 for m in modules if m.kind == "v") / total
    assert got.by_kind["v"] == pytest.approx(wanted)
    assert list(got.by_layer) == [0, 1]


def test_a_zero_update_has_norm_zero_and_no_rank_or_overlap(tmp_path):
    zero = read(save_lora(tmp_path / "zero", zero=True))
    for module in spectra(zero):
        assert (module.spectral, module.frobenius) == (0, 0)
        assert all(map(math.isnan, (module.entropy_rank, module.stable_rank, module.share)))
    some = read(save_lora(tmp_path / "some"))
    for pair in ((zero, some), (some, zero)):
        for got in overlap(*pair):
            assert len(got.outputs.angles) == 0 and min(got.ranks) == 0
            assert math.isnan(got.outputs.angle.value) and math.isnan(got.cosine.value)
    half = [*some[:4], *zero[4:]]
    assert [m.share for m in spectra(half)[4:]] == [0] * 4


def test_planted_overlap_of_unequal_ranks_against_scipy():
    axes = frame(40)
    one = factors(axes[:4], axes[:4].T)
    other = factors(axes[2:8], normal(40, 6, seed=4))
    (got,) = overlap([one], [other])
    assert got.ranks == (4, 6)
    assert np.allclose(got.inputs.angles, [0, 0, 90, 90], atol=1e-5)
    assert got.inputs.cosine_squared.value == pytest.approx(0.5)
    assert got.inputs.cosine_squared.chance == pytest.approx(6 / 40)
    angles = np.rad2deg(scipy.linalg.subspace_angles(one.b.numpy(), other.b.numpy()))
    assert np.allclose(got.outputs.angles, angles[::-1])
    assert got.inputs.angle.distance < -8 < -3 < got.outputs.angle.distance


def test_opposite_updates_have_the_same_spaces_and_cosine_minus_one():
    a, b = normal(3, 30), normal(20, 3, seed=1)
    (got,) = overlap([factors(a, b)], [factors(a, b, scale=-0.2)])
    assert got.outputs.angle.value == pytest.approx(0, abs=1e-6)
    assert got.cosine.value == pytest.approx(-1)
    dense = [(f.scale * f.b @ f.a).flatten() for f in (factors(a, b), factors(a + 1, b))]
    (near,) = overlap([factors(a, b)], [factors(a + 1, b)])
    assert near.cosine.value == pytest.approx(float(torch.cosine_similarity(*dense, dim=0)))


def test_chance_of_an_overlap_is_what_random_updates_give():
    """Mean squared cosine max(p, q) / d with its sd, the mean angle, and the cosine's 1/sqrt(size)."""
    p, q, d, n = 3, 5, 24, 300
    found = [
        overlap(
            [factors(normal(p, d, seed=i), normal(d, p, seed=i + 1000))],
            [factors(normal(q, d, seed=i + 2000), normal(d, q, seed=i + 3000))],
        )[0]
        for i in range(n)
    ]
    mean, sd = exact_overlap(p, q, d)
    assert mean == pytest.approx(q / d)
    squared = np.array([f.outputs.cosine_squared.value for f in found])
    assert squared.mean() == pytest.approx(mean, abs=4 * sd / math.sqrt(n))
    assert squared.std() == pytest.approx(sd, rel=0.15)
    angles = np.array([f.outputs.angle.distance for f in found])
    assert abs(angles.mean()) < 0.5 and 0.7 < angles.std() < 1.4
    cosines = np.array([f.cosine.distance for f in found])
    assert abs(cosines.mean()) < 0.25 and cosines.std() == pytest.approx(1, rel=0.15)
    assert exact_overlap(d, 2, d) == (pytest.approx(1), 0)


def test_adapters_of_one_start_share_their_inputs_and_not_their_outputs(tmp_path):
    """Why row spaces of one seed say nothing: A starts alike and is what peft drew."""
    one, other = (read(save_lora(tmp_path / str(s), seed=s)) for s in (3, 4))
    half = [f._replace(b=g.b) for f, g in zip(one, other, strict=True)]
    for got in overlap(one, half):
        assert got.inputs.angle.value == pytest.approx(0, abs=1e-4)
        assert got.outputs.angle.value > 30


def test_random_updates_have_the_chance_rank():
    entropy, stable = chance_rank(60, 40, 8)
    (got,) = spectra([factors(normal(8, 40, seed=9), normal(60, 8, seed=8))])
    assert abs(entropy.distance(got.entropy_rank)) < 3.5
    assert abs(stable.distance(got.stable_rank)) < 3.5
    assert 1 < stable.mean < entropy.mean < 8
    assert chance_rank(60, 40, 8, seed=1) != chance_rank(60, 40, 8)
    for wrong in ((60, 40, 41, 32), (60, 40, 8, 1)):
        with pytest.raises(ValueError, match="chance of a rank"):
            chance_rank(*wrong[:3], draws=wrong[3])


def test_refusals(tmp_path):
    folder = save_lora(tmp_path / "lora")
    one = read(folder)
    with pytest.raises(ValueError, match="none in common"):
        overlap(one[:2], one[2:])
    with pytest.raises(ValueError, match="adapters of one model"):
        overlap(one[:1], [one[0]._replace(a=one[0].a[:, :-1])])
    with pytest.raises(ModelError, match="not the A or B of a plain LoRA"):
        read(save_lora(tmp_path / "dora", use_dora=True))
    path = folder / "adapter_model.safetensors"
    held = load_file(path)
    name = next(n for n in held if "lora_A" in n)
    for broken, told in (
        ({n: t for n, t in held.items() if n != name}, "not an A"),
        (held | {name: held[name] * torch.nan}, "is not finite"),
    ):
        save_file(broken, path)
        with pytest.raises(ModelError, match=told):
            read(folder)
    save_file(held, path)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": None}))
    with pytest.raises(ModelError, match="lora_alpha is None"):
        read(folder)
    path.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="is damaged"):
        read(folder)
