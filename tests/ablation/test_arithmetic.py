"""The arithmetic of every intervention, by hand and against a loop over tokens and latents."""

import pytest
import torch

from lib.ablation.arithmetic import (
    DictionarySlice,
    clamp_edit,
    code_clamp_edit,
    codes,
    own_codes,
    rescaled,
    subspace,
    swap_edit,
)
from lib.ablation.interventions import edit_of, treatment
from lib.ablation.limits import WITH_LATENTS
from lib.ablation.tally import share
from lib.sparse import Dictionary


def edited(kind, x_tuned, x_base, dictionary, ids, strength=1.0):
    """One run with one set, through the same door as a batch."""
    rule = treatment(kind, dictionary.take(ids), torch.full((1, 1, 1), strength))
    return rule(x_tuned[None], x_base)[0]


def by_hand(threshold):
    """Two latents in two dimensions."""
    return DictionarySlice(
        latents=torch.tensor([5, 9]),
        encoder=torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]]),
        encoder_bias=torch.tensor([0.0, -1.0]),
        decoder=torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]]),
        thresholds=torch.tensor([4.0, threshold]),
    )


def test_codes_fire_above_each_latents_own_threshold():
    x_base, x_tuned = torch.tensor([[2.0, 9.0]]), torch.tensor([[1.0, 3.0]])
    # a_5 = 1*2 + 1*3 = 5, above 4; a_9 = 1 + 3 - 1 = 3
    assert codes(x_tuned, x_base, by_hand(2.9)).tolist() == [[5.0, 3.0]]
    assert codes(x_tuned, x_base, by_hand(3.0)).tolist() == [[5.0, 0.0]]


def test_codes_are_those_of_the_dictionary_the_slice_was_cut_from():
    torch.manual_seed(0)
    whole = Dictionary(sides=2, d=6, latents=40, k=4)
    whole.encoder, whole.encoder_bias = torch.randn(2, 6, 40), torch.randn(40)
    whole.decoder, whole.thresholds = torch.randn(40, 2, 6), torch.rand(40)
    ids = torch.tensor([31, 4, 17])
    part = DictionarySlice(
        ids,
        whole.encoder[:, :, ids].permute(2, 0, 1),
        whole.encoder_bias[ids],
        whole.decoder[ids],
        whole.thresholds[ids],
    )
    x = torch.randn(50, 2, 6)
    expected = whole.encode(x)[:, ids]
    assert torch.allclose(codes(x[:, 1], x[:, 0], part), expected, atol=1e-5)
    assert 0 < (expected > 0).float().mean() < 1


def test_clamp_moves_by_code_times_the_decoder_difference():
    x_base, x_tuned = torch.tensor([[2.0, 9.0]]), torch.tensor([[1.0, 3.0]])
    # latent 9: a = 3, d_tuned - d_base = (-1, 0): x + strength * 3 * (1, 0)
    moved = edited("pair_clamp", x_tuned, x_base, by_hand(0.0), (9,), 0.5)
    assert moved.tolist() == [[2.5, 3.0]]
    assert torch.equal(edited("pair_clamp", x_tuned, x_base, by_hand(0.0), ()), x_tuned)


def test_equal_decoders_give_no_edit():
    same = by_hand(0.0)._replace(decoder=torch.ones(2, 2, 2))
    assert not clamp_edit(torch.ones(3, 2), torch.ones(3, 2), same).any()


def one_sided():
    """An SAE of two latents in three dimensions, whose third it neither reads nor writes."""
    return DictionarySlice(
        latents=torch.tensor([5, 9]),
        encoder=torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]]]),
        encoder_bias=torch.tensor([0.0, -1.0]),
        decoder=torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.5, 0.0]]]),
        thresholds=torch.tensor([0.0, 2.0]),
    )


def test_code_clamp_by_hand():
    """I2: each latent gets the base's activation; what the dictionary does not hold stays."""
    x_base, x_tuned = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[3.0, 4.0, 8.0]])
    sae = one_sided()
    # a_5: 1 -> 3. a_9: 2*1 - 1 = 1, not above 2, so 0 -> 2*4 - 1 = 7
    assert own_codes(x_base, sae).tolist() == [[1.0, 0.0]]
    assert own_codes(x_tuned, sae).tolist() == [[3.0, 7.0]]
    # minus (3 - 1) (1, 0, 0) and (7 - 0) (0, 0.5, 0)
    assert edited("code_clamp", x_tuned, x_base, sae, (5, 9)).tolist() == [[1.0, 0.5, 8.0]]
    assert edited("code_clamp", x_tuned, x_base, sae, (9,)).tolist() == [[3.0, 0.5, 8.0]]
    assert edited("code_clamp", x_tuned, x_base, sae, (5,), 0.25).tolist() == [[2.5, 4.0, 8.0]]


def test_code_clamp_of_equal_codes_edits_nothing():
    """I2 with a(x_tuned) = a(x_base), though the activations differ: exactly no edit."""
    x_base = torch.tensor([[2.0, 1.0, 0.0], [-1.0, 1.4, 3.0], [2.0, 3.0, 1.0]])
    x_tuned = torch.tensor([[2.0, -9.0, 5.0], [-7.0, 0.1, -3.0], [2.0, 3.0, 9.0]])
    sae = one_sided()
    assert torch.equal(own_codes(x_tuned, sae), own_codes(x_base, sae))
    assert own_codes(x_base, sae).any()
    assert not code_clamp_edit(x_tuned, x_base, sae).any()
    assert torch.equal(edited("code_clamp", x_tuned, x_base, sae, (5, 9)), x_tuned)


def test_code_clamp_of_no_strength_or_no_latents_edits_nothing():
    x_base, x_tuned = torch.zeros(1, 3), torch.tensor([[3.0, 4.0, 8.0]])
    assert code_clamp_edit(x_tuned, x_base, one_sided()).any()
    assert torch.equal(edited("code_clamp", x_tuned, x_base, one_sided(), (5, 9), 0.0), x_tuned)
    assert torch.equal(edited("code_clamp", x_tuned, x_base, one_sided(), ()), x_tuned)


def test_code_clamp_undoes_a_reweighting_that_the_pair_clamp_cannot_see():
    """One shared feature, 40 % stronger after tuning: equal decoders, so I1 has nothing to move."""
    torch.manual_seed(0)
    feature = torch.nn.functional.normalize(torch.randn(6), dim=0)
    strength, rest = torch.rand(20, 1) + 1, torch.randn(20, 6)
    rest -= (rest @ feature)[:, None] * feature
    x_base, x_tuned = rest + strength * feature, rest + 1.4 * strength * feature
    both = feature.expand(1, 2, 6)
    shared = DictionarySlice(
        torch.tensor([3]), both / 2, torch.zeros(1), both.clone(), torch.tensor([0.5])
    )
    assert torch.equal(edited("pair_clamp", x_tuned, x_base, shared, (3,)), x_tuned)
    assert torch.allclose(edited("code_clamp", x_tuned, x_base, shared, (3,)), x_base, atol=1e-6)
    half = edited("code_clamp", x_tuned, x_base, shared, (3,), 0.5)
    assert torch.allclose(half - x_base, (x_tuned - x_base) / 2, atol=1e-6)
    sae = shared._replace(encoder=feature.expand(1, 1, 6), decoder=feature.expand(1, 1, 6))
    assert torch.allclose(edited("code_clamp", x_tuned, x_base, sae, (3,)), x_base, atol=1e-6)


def test_rescaled_keeps_directions_and_takes_norms_even_where_nothing_fires():
    edit = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    out = rescaled(edit, torch.tensor([10.0, 2.0, 0.0]), fallback=torch.tensor([[0.0, 5.0]]))
    assert torch.allclose(out, torch.tensor([[6.0, 8.0], [0.0, 2.0], [0.0, 0.0]]))


def test_zero_takes_out_what_the_tuned_decoder_wrote():
    x_base, x_tuned = torch.tensor([[2.0, 9.0]]), torch.tensor([[1.0, 3.0]])
    # latent 5: a = 5, d_tuned = (0, 4); latent 9: a = 3, d_tuned = (0, 0)
    assert edited("zero", x_tuned, x_base, by_hand(0.0), (5,)).tolist() == [[1.0, -17.0]]
    assert torch.equal(edited("zero", x_tuned, x_base, by_hand(0.0), (9,)), x_tuned)


def test_zero_is_the_pair_clamp_for_tuned_only_latents():
    torch.manual_seed(1)
    part = random_part(7)
    part.decoder[:, 0] = 0
    x_base, x_tuned = torch.randn(2, 20, 6)
    ids = tuple(part.latents.tolist())
    zeroed = edited("zero", x_tuned, x_base, part, ids, 0.7)
    assert torch.equal(zeroed, edited("pair_clamp", x_tuned, x_base, part, ids, 0.7))
    assert not torch.equal(zeroed, x_tuned)


def test_swap_moves_only_along_the_span_of_the_decoders():
    torch.manual_seed(2)
    part = random_part(3)
    x_base, x_tuned = torch.randn(2, 20, 6)
    swapped = edited("subspace_swap", x_tuned, x_base, part, (0, 1, 2))
    q, _ = torch.linalg.qr(part.decoder[:, 1].T)
    assert torch.allclose(swapped @ q, x_base @ q, atol=1e-5)
    rest = torch.eye(6) - q @ q.T
    assert torch.allclose(swapped @ rest, x_tuned @ rest, atol=1e-5)


def test_swap_of_equal_directions_is_that_of_one_and_of_all_is_a_full_patch():
    torch.manual_seed(3)
    part = random_part(8)
    x_base, x_tuned = torch.randn(2, 20, 6)
    twice = part._replace(decoder=part.decoder[:1].expand(8, 2, 6))
    one = edited("subspace_swap", x_tuned, x_base, part, (0,))
    assert torch.allclose(edited("subspace_swap", x_tuned, x_base, twice, (0, 5)), one, atol=1e-6)
    every = edited("subspace_swap", x_tuned, x_base, part, tuple(range(8)))
    assert torch.allclose(every, x_base, atol=1e-5)
    assert not subspace(part._replace(decoder=torch.zeros(8, 2, 6))).any()
    assert not swap_edit(x_tuned, x_base, part.decoder[:0, 1]).any()


def test_full_patch_is_exact_at_both_ends():
    torch.manual_seed(4)
    x_base, x_tuned = torch.randn(20, 6), 1e3 * torch.randn(1, 20, 6)
    patch = [treatment("full_patch", None, torch.full((1, 1, 1), s)) for s in (0.0, 0.5, 1.0)]
    none, half, whole = (rule(x_tuned, x_base)[0] for rule in patch)
    assert torch.equal(none, x_tuned[0])
    assert torch.equal(whole, x_base)
    assert torch.allclose(half, (x_base + x_tuned[0]) / 2)


def test_steering_adds_the_decoders_at_every_token():
    x = torch.zeros(3, 2)
    # d_tuned of the two latents: (0, 4) and (0, 0)
    assert edited("steer", x, x, by_hand(0.0), (5, 9), -2.5).tolist() == [[0.0, -10.0]] * 3


@pytest.mark.parametrize("kind", WITH_LATENTS)
def test_a_batch_of_sets_is_each_set_alone(kind):
    torch.manual_seed(5)
    part = random_part(9)
    x, x_base = torch.randn(3, 20, 6), torch.randn(20, 6)
    sets = [(0, 4, 7), (2,), ()]
    together = edit_of(kind, part.stack(sets))(x, x_base)
    for run, ids in enumerate(sets):
        alone = edit_of(kind, part.take(ids))(x[run : run + 1], x_base)[0]
        assert torch.allclose(together[run], alone, atol=1e-5), ids
    assert together[0].any()
    assert not together[2].any()


def random_part(n, d=6):
    return DictionarySlice(
        torch.arange(n),
        torch.randn(n, 2, d),
        torch.randn(n),
        torch.randn(n, 2, d),
        torch.rand(n),
    )


def test_shares_by_hand():
    assert share(1.0, 4.0) == 0.75
    assert share(5.0, 4.0) == -0.25
    assert share(4.0, 4.0) == 0.0
    assert share(1.0, 0.0) is None
