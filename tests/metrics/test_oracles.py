"""The 21 oracles that need no large model: where each is shown, and the exact ones not shown elsewhere.

``SHOWN`` is the index: an oracle that a metric's own test file works out is named there, not repeated.
Exact oracles hold at 1e-6 in float64. ``test_oracles_models``, ``test_oracles_lens`` and
``test_oracles_trained`` hold those that need a tiny model or a trained dictionary.
"""

import math
import re
from pathlib import Path

import pytest
import torch
from scipy import stats

from lib.metrics.cka import StreamingCKA, debiased_cka, linear_cka
from lib.metrics.displacement import displacement
from lib.metrics.divergence import kl_per_token, streamed
from lib.metrics.latents import LatentScaling, delta_norm
from lib.metrics.reconstruction import cross_ratio, fve
from lib.metrics.regimes import classify
from lib.metrics.stability import random_cosine

TESTS = Path(__file__).parent.parent
SHOWN = {
    1: "metrics/test_oracles.py::streamed_kl_is_the_plain_kl_in_float64 "
    "metrics/test_divergence.py::kl_of_a_distribution_with_itself_is_zero_and_constants_do_not_matter "
    "metrics/test_divergence.py::two_point_closed_form "
    "metrics/test_divergence.py::minus_infinity_logits "
    "metrics/test_divergence.py::streamed_at_a_vocabulary_of_262144",
    2: "metrics/test_oracles.py::a_small_change_of_logits_costs_half_its_variance "
    "metrics/test_divergence.py::identical_models_give_exactly_nothing "
    "metrics/test_divergence.py::js_never_exceeds_ln_2_and_uniform_logits_have_perplexity_v",
    3: "metrics/test_oracles_models.py::a_lora_with_zero_b_changes_exactly_nothing "
    "metrics/test_oracles_models.py::merged_weights_are_the_adapter_up_to_rounding "
    "test_pipeline.py::an_adapter_with_zero_b_changes_exactly_nothing",
    4: "metrics/test_oracles_models.py::scaling_a_lora_down_has_slopes_two_one_and_two",
    5: "metrics/test_oracles.py::cka_knows_rotation_scale_and_offset_but_no_general_map "
    "metrics/test_cka.py::gram_form_equals_feature_form "
    "metrics/test_cka.py::independent_noise_is_zero_only_when_debiased",
    6: "metrics/test_oracles.py::latent_scaling_recovers_beta_in_float64 "
    "metrics/test_latents.py::shared_latents_score_one_and_planted_tuned_only_ones_zero",
    7: "metrics/test_oracles.py::swapping_the_models_mirrors_the_relative_norm "
    "metrics/test_latents.py::swapping_the_models_mirrors_the_names",
    8: "sparse/test_step.py::batch_topk_keeps_exactly_k_per_token_on_average "
    "sparse/test_train.py::calibrated_threshold_gives_k_latents_on_new_data "
    "sparse/test_step.py::scaling_a_decoder_row_and_its_code_oppositely_changes_no_selection",
    9: "metrics/test_oracles.py::a_ratio_is_one_for_one_dictionary_and_bounded_by_the_variance",
    10: "metrics/test_oracles.py::published_70b_order_by_kendalls_tau "
    "metrics/test_statistics.py::published_70b_numbers "
    "metrics/test_statistics.py::a_rho_of_0_62_cannot_come_from_four_points "
    "metrics/test_statistics.py::stratified_perfect_order_inside_three_scales "
    "metrics/test_statistics.py::nine_points_exact_twelve_sampled",
    11: "metrics/test_oracles.py::published_70b_labels_survive_any_monotone_rescaling "
    "metrics/test_regimes.py::published_table",
    12: "ablation/test_conditions.py::no_edit_reverses_exactly_nothing "
    "ablation/test_conditions.py::base_activations_after_the_last_block_reverse_everything "
    "ablation/test_arithmetic.py::equal_decoders_give_no_edit "
    "ablation/test_arithmetic.py::code_clamp_of_equal_codes_edits_nothing "
    "ablation/test_arithmetic.py::code_clamp_of_no_strength_or_no_latents_edits_nothing",
    13: "metrics/test_angles.py::the_same_subspace_is_at_zero_and_its_complement_at_ninety_degrees "
    "metrics/test_angles.py::no_change_of_basis_moves_an_angle "
    "metrics/test_angles.py::unrelated_directions_score_the_published_cosine "
    "metrics/test_angles.py::random_subspaces_lie_at_the_published_angles "
    "metrics/test_oracles.py::the_published_cosine_is_what_unrelated_directions_score",
    14: "metrics/test_oracles_lens.py::a_constant_vector_is_the_mean_difference_at_every_position "
    "metrics/test_oracles_lens.py::a_constant_vector_displaces_nothing_that_cka_sees "
    "metrics/test_oracles_lens.py::a_constant_vector_raises_the_ratio_and_not_the_centred_one "
    "metrics/test_oracles.py::a_constant_vector_is_all_offset_and_no_displacement "
    "metrics/test_oracles_trained.py::an_offset_raises_the_ratio_and_not_the_centred_one",
    15: "metrics/test_oracles_trained.py::every_planted_direction_becomes_one_new_latent "
    "metrics/test_oracles_trained.py::rare_directions_may_be_missed_but_nothing_shared_is_called_new",
    16: "metrics/test_oracles_trained.py::another_seed_on_the_same_model_scores_one "
    "metrics/test_oracles_trained.py::a_crosscoder_of_the_same_model_twice_finds_no_change "
    "sparse/test_train.py::identical_sides_stay_exactly_identical",
    17: "metrics/test_oracles_trained.py::construction_scores_above_its_null "
    "metrics/test_oracles_trained.py::reweighting_is_seen_by_the_crosscoder_and_not_by_the_ratio "
    "metrics/test_oracles_trained.py::an_offset_raises_the_ratio_and_not_the_centred_one "
    "metrics/test_oracles_trained.py::isotropic_noise_is_no_structure",
    18: "metrics/test_oracles_trained.py::a_tiny_corpus_scores_high_in_sample_only",
    19: "metrics/test_oracles_trained.py::clamping_planted_latents_reverses_the_change "
    "ablation/test_conditions.py::planted_latents_reverse_the_change_and_no_control_does",
    20: "metrics/test_oracles_lens.py::the_lens_tells_whose_corpus_each_adapter_was_trained_on",
    21: "metrics/test_oracles_trained.py::the_held_out_ratio_is_flat_over_widths_the_in_sample_one_not",
}
"""Number of the oracle -> FILE::NAME of its tests, without ``test_``."""
R_70B, KL_70B = (340.2, 99.5, 77.1, 39.8), (0.478, 1.24, 0.72, 1.41)  # DTC, Seneca, Marcus, Alpaca


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_no_oracle_is_missing():
    assert list(SHOWN) == list(range(1, 22))


@pytest.mark.parametrize("number", SHOWN)
def test_every_oracle_is_shown_where_the_index_says(number):
    for address in SHOWN[number].split():
        file, name = address.split("::")
        source = (TESTS / file).read_text(encoding="utf-8")
        assert re.search(rf"^def test_{name}\w*\(", source, re.MULTILINE), address


@pytest.mark.parametrize(("token_chunk", "vocab_chunk"), [(1, 65_537), (3, 8_192), (5, 100_000)])
def test_streamed_kl_is_the_plain_kl_in_float64(token_chunk, vocab_chunk):
    """Oracle 1, at V = 262,144 and with chunks that do not divide it."""
    q, weight = normal(5, 8), normal(262_144, 8, seed=2)
    p = q + 0.5 * normal(5, 8, seed=1)
    got = streamed(p, q, weight, weight, token_chunk=token_chunk, vocab_chunk=vocab_chunk)
    want = kl_per_token(p @ weight.T, q @ weight.T)
    assert (want > 0).all()
    assert torch.allclose(got.kl, want, atol=1e-6, rtol=0)
    assert torch.allclose(kl_per_token(p @ weight.T + 3.0, q @ weight.T - 5.0), want, atol=1e-6)


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("vocab_chunk", [1, 7, 64])
def test_running_maxima_carry_extreme_logits(size, vocab_chunk):
    """Oracle 1: the largest logit may stand in any chunk and be 10,000 away from the rest."""
    weight = torch.eye(64, dtype=torch.float64)
    q = normal(64, 64)
    q += size * torch.eye(64, dtype=torch.float64)  # every token has its spike in another place
    p = q + 0.3 * normal(64, 64, seed=1)
    got = streamed(p, q, weight, weight, torch.arange(64), vocab_chunk=vocab_chunk)
    assert torch.allclose(got.kl, kl_per_token(p, q), atol=1e-6)
    assert torch.allclose(got.nll_q, -q.log_softmax(1).diagonal(), atol=1e-6)
    assert torch.equal(got.agreement, (p.argmax(1) == q.argmax(1)).double())


@pytest.mark.parametrize("side", ["p", "q", "both"])
@pytest.mark.parametrize("bad", [-math.inf, math.inf, math.nan])
def test_logits_that_are_no_numbers_are_refused_by_token(side, bad):
    hidden, weights = normal(5, 4), {"p": normal(30, 4, seed=1), "q": normal(30, 4, seed=2)}
    for name in weights:
        if side in (name, "both"):
            weights[name] = torch.cat([weights[name], weights[name][:1].clone()])
            weights[name][17] = bad
        else:
            weights[name] = torch.cat([weights[name], weights[name][:1]])
    with pytest.raises(ValueError, match=r"not finite at token 0 .*-inf"):
        streamed(hidden, hidden, weights["p"], weights["q"], vocab_chunk=8)


def test_bfloat16_hidden_states_count_as_what_they_hold():
    """Their products are float32: the same numbers as from the rounded values in float64."""
    q, weight = normal(40, 64).bfloat16(), normal(3_000, 64, seed=2).bfloat16()
    p = (q.double() + 0.1 * normal(40, 64, seed=1)).bfloat16()
    got = streamed(p, q, weight, weight, vocab_chunk=999)
    want = kl_per_token(p.double() @ weight.double().T, q.double() @ weight.double().T)
    assert torch.allclose(got.kl, want, atol=1e-6, rtol=1e-5)


def test_a_small_change_of_logits_costs_half_its_variance():
    """Oracle 2: KL -> (eps^2 / 2) Var_p(u)."""
    a, u, eps = normal(20, 500), normal(20, 500, seed=1), 1e-4
    p = a.softmax(-1)
    variance = (p * u**2).sum(-1) - (p * u).sum(-1) ** 2
    got = kl_per_token(a, a + eps * u) / (eps**2 / 2)
    assert torch.allclose(got, variance, rtol=1e-3)
    assert torch.allclose(got, variance, atol=10 * eps)


@pytest.mark.parametrize("form", [linear_cka, debiased_cka])
def test_cka_knows_rotation_scale_and_offset_but_no_general_map(form):
    """Oracle 5, with the batchwise form: exact, where the oracle allows 0.01."""
    x = normal(300, 24)
    rotation = torch.linalg.qr(normal(24, 24, seed=1))[0]
    assert form(x, -3 * x @ rotation + normal(1, 24, seed=2)) == pytest.approx(1, abs=1e-6)
    assert form(x, x @ normal(24, 24, seed=3)) < 0.95
    y = x + normal(300, 24, seed=4)
    assert form(x, y) == pytest.approx(form(y, x), abs=1e-12)
    stream = StreamingCKA(24, 24)
    for part in torch.arange(300).split(32):
        stream.update(x[part], y[part])
    assert stream.value(debiased=form is debiased_cka) == pytest.approx(form(x, y), abs=1e-6)


def test_latent_scaling_recovers_beta_in_float64():
    """Oracle 6: y = beta a d + a remainder orthogonal to every d."""
    frame = torch.linalg.qr(normal(12, 12))[0].T
    directions, codes = 2 * frame[:4], normal(300, 4, seed=1).abs()
    beta = torch.tensor([[0.5, 2.0], [1.0, 1.0], [0.0, 3.0], [-1.0, 1.0]], dtype=torch.float64)
    remainder = normal(300, 8, seed=3) @ frame[4:]
    x = torch.einsum("tl,ls,ld->tsd", codes, beta, directions) + remainder[:, None]
    decoder = directions[:, None].repeat(1, 2, 1)
    scaling = LatentScaling(directions)
    scaling.update(x, torch.einsum("tl,lsd->tsd", codes, decoder), codes, decoder)
    on_error, on_reconstruction = scaling.betas()
    assert torch.allclose(on_error, beta, atol=1e-6)
    assert torch.allclose(on_reconstruction, torch.ones_like(beta), atol=1e-6)


def test_swapping_the_models_mirrors_the_relative_norm():
    """Oracle 7."""
    base, tuned = (torch.tensor(v, dtype=torch.float64) for v in ([0, 1, 2.0], [1, 0, 2.0]))
    assert delta_norm(base, tuned).tolist() == [1.0, 0.0, 0.5]
    base, tuned = normal(200).abs(), normal(200, seed=1).abs()
    assert torch.allclose(delta_norm(tuned, base), 1 - delta_norm(base, tuned), atol=1e-12)


def test_a_ratio_is_one_for_one_dictionary_and_bounded_by_the_variance():
    """Oracle 9."""
    x = normal(400, 12) * torch.linspace(0.1, 2, 12)
    mean = x.mean(0, keepdim=True).expand(x.shape)
    assert fve(x, mean) == pytest.approx(0, abs=1e-6)
    for share in (0.2, 0.6, 0.95):
        own = mean + share * (x - mean)
        assert cross_ratio(x, own, own).ratio == 1
        for other in (0.0, 0.1, 0.5, 0.9):
            got = cross_ratio(x, mean + other * (x - mean), own)
            assert got.ratio == pytest.approx((1 - other) ** 2 / (1 - share) ** 2, abs=1e-6)
            assert got.bound == pytest.approx(1 / (1 - got.fve_self), abs=1e-6)
            assert got.ratio <= got.bound + 1e-6


def test_published_70b_order_by_kendalls_tau():
    """Oracle 10: tau beside rho = -0.80 and p = 1/3."""
    assert stats.kendalltau(R_70B, KL_70B).statistic == pytest.approx(-2 / 3, abs=1e-6)


@pytest.mark.parametrize("power", [0.3, 1.0, 2.0])
def test_published_70b_labels_survive_any_monotone_rescaling(power):
    """Oracle 11: a monotone map of an axis, cut included, changes no label."""
    want = ["latent divergence", *["coupled adaptation"] * 2, "behavioural capture"]
    got = [
        classify(r**power, math.expm1(kl), 55.4**power, math.expm1(0.587), margin=0)
        for r, kl in zip(R_70B, KL_70B, strict=True)
    ]
    assert got == want


def test_the_published_cosine_is_what_unrelated_directions_score():
    """Oracle 13 in closed form; simulated in test_angles."""
    got = random_cosine(16_384, 3_584)
    assert got == pytest.approx(0.066, abs=0.002)
    assert got < math.sqrt(2 * math.log(16_384) / 3_584) == pytest.approx(0.074, abs=5e-4)


def test_a_constant_vector_is_all_offset_and_no_displacement():
    """Oracle 14 without a model: tuned = base + v."""
    base, v = normal(300, 16), normal(1, 16, seed=1)
    got = displacement(base, base + v, torch.arange(300) // 10)
    assert got.offset_share == pytest.approx(1, abs=1e-6)
    assert debiased_cka(base, base + v) == pytest.approx(1, abs=1e-6)
    assert got.relative == pytest.approx(
        float(v.norm() / (base - base.mean(0)).square().sum(1).mean().sqrt()), abs=1e-6
    )
