"""Training: planted features, exact symmetry, folding, calibration, errors."""

import json
from dataclasses import replace

import pytest
import torch

from lib.config import Sparse
from lib.sparse import Dictionary, train
from lib.sparse.basis import Basis, Normaliser
from lib.sparse.quality import quality

D, FEATURES = 24, 40


def _planted(tokens: int, seed: int, tuned_only: int = 0) -> torch.Tensor:
    """Sparse combinations of fixed directions; the last ``tuned_only`` reach only the tuned side."""
    directions = torch.nn.functional.normalize(
        torch.randn(FEATURES, D, generator=torch.Generator().manual_seed(0)), dim=1
    )
    generator = torch.Generator().manual_seed(seed)
    on = torch.rand(tokens, FEATURES, generator=generator) < 0.06
    a = on * (1 + torch.rand(tokens, FEATURES, generator=generator))
    base = a.clone()
    base[:, FEATURES - tuned_only :] = 0
    return torch.stack([base @ directions, a @ directions], dim=1)


CONFIG = Sparse(k=4, anneal_from=8, batch=256, max_steps=400, evaluate_every=50, lr=3e-3)


def _batches(x: torch.Tensor) -> list[torch.Tensor]:
    return list(x.split(256))


@pytest.fixture(scope="module")
def planted() -> tuple[Dictionary, torch.Tensor]:
    made, _ = train(_batches(_planted(8192, 1, 4)), CONFIG, latents=64)
    return made, _planted(4096, 2, 4)


def test_planted_features_are_explained_on_new_data(planted: tuple[Dictionary, torch.Tensor]):
    made, heldout = planted
    measured = quality(made, heldout)
    assert min(measured.fve) > 0.85
    assert measured.fve_difference > 0.8


def test_calibrated_threshold_gives_k_latents_on_new_data(
    planted: tuple[Dictionary, torch.Tensor],
):
    made, heldout = planted
    assert quality(made, heldout).l0 == pytest.approx(CONFIG.k, rel=0.05)


def test_tuned_only_features_get_tuned_only_latents(planted: tuple[Dictionary, torch.Tensor]):
    made, heldout = planted
    base, tuned = made.norms.unbind(1)
    firing = quality(made, heldout).firing
    exclusive = (base < 0.15 * tuned) & (firing > 0.01)
    assert 4 <= int(exclusive.sum()) <= 6


@pytest.mark.parametrize("basis", ["change", "sides"])
def test_identical_sides_stay_exactly_identical(basis: str):
    x = _planted(2048, 3)
    config = replace(CONFIG, basis=basis, difference_weight=1.0)
    made, _ = train(_batches(x[:, :1].expand(-1, 2, -1)), config, latents=48)
    torch.testing.assert_close(made.decoder[:, 0], made.decoder[:, 1], atol=1e-6, rtol=0)
    assert quality(made, x[:, :1].expand(-1, 2, -1)).fve_difference is None


def test_same_seed_same_dictionary_to_the_bit():
    x = _batches(_planted(1024, 4))
    short = Sparse(k=4, batch=256, max_steps=30, evaluate_every=10)
    one, _ = train(x, short, latents=32)
    two, _ = train(x, short, latents=32)
    assert torch.equal(one.encoder, two.encoder)
    assert torch.equal(one.decoder, two.decoder)
    assert torch.equal(one.thresholds, two.thresholds)


def test_weighting_the_difference_raises_how_much_of_it_is_seen():
    """The difference is small and dense: a plain dictionary ignores it."""
    base = _planted(6144, 5)[:, 0]
    generator = torch.Generator().manual_seed(9)
    shift = torch.randn(D, 6, generator=generator) @ torch.randn(6, len(base), generator=generator)
    x = torch.stack([base, base + 0.05 * shift.T], dim=1)
    train_x, heldout = x[:4096], x[4096:]
    seen = []
    for weight in (1.0, 4.0):
        config = Sparse(k=4, batch=256, max_steps=300, lr=3e-3, difference_weight=weight)
        made, _ = train(_batches(train_x), config, latents=64)
        seen.append(quality(made, heldout).fve_difference)
    assert seen[1] > seen[0] + 0.05


def test_folding_gives_the_same_reconstruction_in_raw_units():
    x = _planted(512, 6) * 7 + 3
    basis = Basis(Normaliser.estimate([x]), 2, 2.5)
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = torch.randn(2, 10, 2 * D, generator=generator).unbind(0)
    bias, out = torch.randn(10, generator=generator), torch.randn(2 * D, generator=generator)
    folded = basis.fold(encoder, bias, decoder, out, k=3, threshold=0.0)
    inside = basis.forward(x)
    codes = torch.relu(inside @ encoder.T + bias)
    torch.testing.assert_close(folded.encode(x), codes, atol=1e-4, rtol=1e-4)
    expected = basis.backward(codes @ decoder + out)
    torch.testing.assert_close(folded.decode(codes), expected, atol=1e-3, rtol=1e-4)


def test_the_basis_of_the_sides_is_the_normalised_sides():
    x = _planted(64, 7) + 2
    basis = Basis(Normaliser.estimate([x]), 2, rotated=False)
    scaled = (x - basis.normaliser.mean) / basis.normaliser.scale
    torch.testing.assert_close(basis.forward(x), scaled.flatten(1))
    torch.testing.assert_close(basis.backward(basis.forward(x)), x, atol=1e-5, rtol=1e-5)


def test_basis_round_trip_and_plain_loss_at_weight_one():
    x = _planted(64, 7) + 2
    basis = Basis(Normaliser.estimate([x]), 2, 1.0)
    inside = basis.forward(x)
    torch.testing.assert_close(basis.backward(inside), x, atol=1e-5, rtol=1e-5)
    # weight 1 is orthogonal: squared lengths are those of the normalised sides
    scaled = (x - basis.normaliser.mean) / basis.normaliser.scale
    torch.testing.assert_close(inside.square().sum(1), scaled.square().sum((1, 2)))


def test_saved_and_loaded_is_the_same(planted: tuple[Dictionary, torch.Tensor], tmp_path):
    made, heldout = planted
    made.save(tmp_path)
    again = Dictionary.load(tmp_path)
    assert torch.equal(again.encode(heldout[:64]), made.encode(heldout[:64]))
    (tmp_path / "dictionary.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99"):
        Dictionary.load(tmp_path)


def test_decoder_by_hand():
    made = Dictionary(sides=2, d=2, latents=1, k=1)
    made.decoder[:] = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    made.decoder_bias[:] = torch.tensor([[0.5, 0.5], [0.0, 0.0]])
    out = made.decode(torch.tensor([[3.0]]))
    assert out.tolist() == [[[3.5, 0.5], [0.0, 6.0]]]


@pytest.mark.parametrize(
    ("change", "latents", "says"),
    [
        (lambda x: x * float("nan"), 32, "NaN or infinity"),
        (lambda x: torch.ones_like(x), 32, "constant over tokens"),
        (lambda x: x, 2, "exceeds the 2 latents"),
    ],
)
def test_unusable_input_is_refused(change, latents: int, says: str):
    with pytest.raises(ValueError, match=says):
        train(_batches(change(_planted(512, 8))), CONFIG, latents=latents)


def test_no_batches_is_refused():
    with pytest.raises(ValueError, match="yielded no batch"):
        train([], CONFIG, latents=8)


def test_an_empty_batch_and_one_of_a_single_token_are_taken():
    batches = _batches(_planted(512, 8))
    odd = [batches[0], batches[0][:0], batches[1][:1], batches[1]]
    made, log = train(odd, replace(CONFIG, max_steps=6), latents=32)
    assert log.tokens == 2 * (256 + 1 + 256)
    assert torch.isfinite(made.decoder).all()


@pytest.mark.parametrize("heldout", [0, 1])
def test_too_little_held_out_text_is_refused(heldout: int):
    x = _planted(512, 8)
    with pytest.raises(ValueError, match=f"held-out activations of {heldout} tokens"):
        train(_batches(x), CONFIG, latents=32, heldout=x[:heldout])


def test_three_sides_are_refused():
    x = _planted(512, 8)
    with pytest.raises(ValueError, match="3 sides"):
        train(_batches(torch.cat([x, x[:, :1]], dim=1)), CONFIG, latents=32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"selection": "evil"}, "selection 'evil'"),
        ({"k": 1.5}, "k is 1.5"),
        ({"latents": 10**12}, "dictionary.json says"),
        (None, "not JSON"),
    ],
)
def test_a_damaged_description_is_named(tmp_path, change: dict | None, says: str):
    Dictionary(2, 4, 8, 2).save(tmp_path)
    file = tmp_path / "dictionary.json"
    facts = json.loads(file.read_text())
    file.write_text("{" if change is None else json.dumps(facts | change))
    with pytest.raises(ValueError, match=says):
        Dictionary.load(tmp_path)
