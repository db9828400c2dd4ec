"""Hand-written gradients against autograd, and BatchTopK by hand."""

import pytest
import torch

from lib.sparse.step import Weights, add_aux, gradients, reconstruct, scores, select


def _setup(tokens: int = 24, wide: int = 10, latents: int = 14) -> tuple[torch.Tensor, Weights]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(tokens, wide, generator=generator)
    return x, Weights(
        torch.randn(latents, wide, generator=generator) / 3,
        torch.randn(latents, generator=generator) / 10,
        torch.randn(latents, wide, generator=generator) / 3,
        torch.randn(wide, generator=generator) / 10,
    )


def test_batch_topk_keeps_exactly_k_per_token_on_average_and_the_largest_scores():
    pre = torch.tensor([[3.0, 1.0, -1.0], [2.0, 0.5, 4.0]])
    active = select(pre, torch.tensor([1.0, 4.0, 0.5]), k=1, guess=0.0)
    # scores: [[3, 4, -.5], [2, 2, 2]]; the two largest are (0, 0) and (0, 1)
    assert active.token.tolist() == [0, 0]
    assert active.latent.tolist() == [0, 1]
    assert active.value.tolist() == [3.0, 1.0]  # values are codes, not scores
    assert float(active.threshold) == 3.0


@pytest.mark.parametrize("guess", [0.0, 0.3, 1e6])
def test_the_guess_changes_nothing_but_speed(guess: float):
    x, weights = _setup()
    pre = scores(x, weights, torch.float32)
    norms = weights.decoder.norm(dim=1)
    plain, guessed = select(pre, norms, 3, 0.0), select(pre, norms, 3, guess)
    assert len(plain.token) == 3 * len(x)
    assert torch.equal(plain.token, guessed.token)
    assert torch.equal(plain.latent, guessed.latent)


def test_scaling_a_decoder_row_and_its_code_oppositely_changes_no_selection():
    x, weights = _setup()
    factor = torch.linspace(0.5, 2.0, len(weights.encoder))
    scaled = weights._replace(
        encoder=weights.encoder / factor[:, None],
        encoder_bias=weights.encoder_bias / factor,
        decoder=weights.decoder * factor[:, None],
    )
    one = select(scores(x, weights, torch.float32), weights.decoder.norm(dim=1), 3, 0.0)
    two = select(scores(x, scaled, torch.float32), scaled.decoder.norm(dim=1), 3, 0.0)
    assert torch.equal(one.latent, two.latent)
    torch.testing.assert_close(reconstruct(one, weights, len(x)), reconstruct(two, scaled, len(x)))


def test_gradients_equal_autograd():
    x, weights = _setup()
    norms = weights.decoder.norm(dim=1)
    active = select(scores(x, weights, torch.float32), norms, 3, 0.0)
    error = reconstruct(active, weights, len(x)) - x
    ours = gradients(x, error, active, weights)
    free = Weights(*(w.clone().requires_grad_() for w in weights))
    kept = torch.zeros(len(x), len(norms))
    kept[active.token, active.latent] = 1.0
    codes = torch.relu(x @ free.encoder.T + free.encoder_bias) * kept
    loss = (codes @ free.decoder + free.decoder_bias - x).square().sum(1).mean()
    loss.backward()
    for mine, parameter in zip(ours, free, strict=True):
        torch.testing.assert_close(mine, parameter.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dead", [[1, 5], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_the_auxiliary_loss_trains_dead_latents_as_autograd_would(dead: list[int]):
    x, weights = _setup()
    which = torch.tensor(dead)
    pre = scores(x, weights, torch.float32)
    residual = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    grads = Weights(*(torch.zeros_like(w) for w in weights))
    loss = add_aux(grads, x, residual, pre, weights, which, weight=1 / 32)
    free = Weights(*(w.clone().requires_grad_() for w in weights))
    z = torch.relu(x @ free.encoder[which].T + free.encoder_bias[which])
    most = x.shape[1] // 2
    if len(dead) > most:
        z = z * (z >= torch.topk(z, most, dim=1).values[:, -1:])
    off = (z @ free.decoder[which] - residual).square().sum(1).mean()
    expected = off / residual.square().sum(1).mean() / 32
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert grads.encoder[which].abs().sum() > 0
    for mine, parameter in zip(grads[:3], free[:3], strict=True):
        torch.testing.assert_close(mine, parameter.grad, atol=1e-5, rtol=1e-4)


def test_the_decoder_bias_gets_no_auxiliary_gradient():
    x, weights = _setup()
    grads = Weights(*(torch.zeros_like(w) for w in weights))
    add_aux(grads, x, x, scores(x, weights, torch.float32), weights, torch.tensor([2]), 1.0)
    assert grads.decoder_bias.abs().sum() == 0
