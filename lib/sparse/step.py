"""One training step's arithmetic: select, reconstruct, and gradients that touch only active codes.

With k of m latents active per token every product except the encoder's scores is sparse. The three
gathers are all the same primitive, a weighted sum of rows per bag (``embedding_bag``):
reconstruction = decoder rows bagged by token, decoder gradient = error rows bagged by latent,
encoder gradient = input rows bagged by latent. Gradients are written by hand and checked against
autograd in the tests.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag


class Weights(NamedTuple):
    """Parameters in training space; rows belong to latents so that gathers are contiguous."""

    encoder: Float[Tensor, "latents wide"]
    encoder_bias: Float[Tensor, " latents"]
    decoder: Float[Tensor, "latents wide"]
    decoder_bias: Float[Tensor, " wide"]


class Active(NamedTuple):
    """The active codes of a batch, ordered by token; a value of 0 is padding and trains nothing."""

    token: Int[Tensor, " active"]
    latent: Int[Tensor, " active"]
    value: Float[Tensor, " active"]
    threshold: Float[Tensor, ""]
    """Smallest kept score v = a * norm."""


def scores(
    x_low: Float[Tensor, "tokens wide"], weights: Weights, low: torch.dtype
) -> Float[Tensor, "tokens latents"]:
    """Pre-activations by one dense product in ``low`` precision; good enough to choose candidates."""
    return torch.addmm(weights.encoder_bias.to(low), x_low, weights.encoder.to(low).T)


def select(
    pre: Float[Tensor, "tokens latents"],
    norms: Float[Tensor, " latents"],
    k: int,
    guess: float,
) -> Active:
    """BatchTopK: exactly the k * tokens largest scores a_j * norm_j of the whole batch, if positive.

    ``guess`` is the previous batch's threshold: candidates above 0.9 of it are found in one cheap
    pass and only they are ranked. If the guess was too high (too few candidates) it is lowered; at 0
    all positive scores are candidates. Scores keep the precision of ``pre``; ties fall either way.
    """
    wanted = k * len(pre)
    v = pre * norms.to(pre.dtype)
    floor = 0.9 * guess
    while True:
        token, latent = (v > floor).nonzero(as_tuple=True)
        if len(token) >= wanted or floor <= 0:
            break
        floor = floor * 0.5 if floor > 1e-3 * guess else 0.0
    score = v[token, latent].float()
    if len(score) > wanted:
        best = torch.topk(score, wanted, sorted=False).indices.sort().values
        token, latent, score = token[best], latent[best], score[best]
    cut = score.min() if len(score) else pre.new_zeros(()).float()
    return Active(token, latent, pre[token, latent].float(), cut)


def select_fixed(
    pre: Float[Tensor, "tokens latents"], norms: Float[Tensor, " latents"], k: int
) -> Active:
    """The same codes with shapes known in advance, so that a GPU never waits for the host.

    Where fewer than k * tokens scores are positive the rest is padding with value 0.
    """
    latents = pre.shape[1]
    v = (pre * norms.to(pre.dtype)).flatten()
    wanted = min(k * len(pre), v.numel())
    place = torch.topk(v, wanted, sorted=False).indices.sort().values
    value = pre.flatten()[place].float().relu_()
    cut = v[place].float().min().clamp_min(0.0)
    return Active(place // latents, place % latents, value, cut)


def merged(parts: list[Active], first_latent: list[int]) -> Active:
    """Codes chosen apart among blocks of latents, as one; the threshold is the first block's."""
    token = torch.cat([p.token for p in parts])
    latent = torch.cat([p.latent + at for p, at in zip(parts, first_latent, strict=True)])
    order = torch.argsort(token, stable=True)
    value = torch.cat([p.value for p in parts])
    return Active(token[order], latent[order], value[order], parts[0].threshold)


def gathered_dots(
    rows: Float[Tensor, "tokens wide"],
    table: Float[Tensor, "latents wide"],
    token: Int[Tensor, " active"],
    latent: Int[Tensor, " active"],
) -> Float[Tensor, " active"]:
    """rows[token] . table[latent] for each active pair, without materialising the gathers.

    This is the gradient of a bag's sum with respect to its weights, so that kernel is called.
    """
    starts = offsets(token, len(rows))
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        rows.contiguous(), table, latent, starts, token, 0
    )


def offsets(sorted_index: Int[Tensor, " active"], bags: int) -> Int[Tensor, " bags"]:
    """Where each bag starts in an ascending index."""
    return torch.searchsorted(sorted_index, torch.arange(bags, device=sorted_index.device))


def bagged(
    table: Float[Tensor, "rows wide"],
    row: Int[Tensor, " active"],
    weight: Float[Tensor, " active"],
    starts: Int[Tensor, " bags"],
) -> Float[Tensor, "bags wide"]:
    """Weighted sum of ``table`` rows per bag."""
    return embedding_bag(row, table, starts, mode="sum", per_sample_weights=weight)


def reconstruct(active: Active, weights: Weights, tokens: int) -> Float[Tensor, "tokens wide"]:
    starts = offsets(active.token, tokens)
    return bagged(weights.decoder, active.latent, active.value, starts) + weights.decoder_bias


def gradients(
    x: Float[Tensor, "tokens wide"],
    error: Float[Tensor, "tokens wide"],
    active: Active,
    weights: Weights,
) -> Weights:
    """Gradients of mean squared error per token, (1 / tokens) * sum |error|^2, error = xhat - x."""
    latents = len(weights.encoder)
    g = error * (2.0 / len(x))
    by_code = gathered_dots(g, weights.decoder, active.token, active.latent)
    by_code = by_code * (active.value > 0)
    order = torch.argsort(active.latent, stable=True)
    token, latent = active.token[order], active.latent[order]
    starts = offsets(latent, latents)
    return Weights(
        encoder=bagged(x, token, by_code[order], starts),
        encoder_bias=torch.zeros(latents, device=x.device).index_add_(0, active.latent, by_code),
        decoder=bagged(g, token, active.value[order], starts),
        decoder_bias=g.sum(0),
    )


def add_aux(
    grads: Weights,
    x: Float[Tensor, "tokens wide"],
    residual: Float[Tensor, "tokens wide"],
    pre: Float[Tensor, "tokens latents"],
    weights: Weights,
    dead: Int[Tensor, " dead"],
    weight: Float[Tensor, ""] | float,
    counts: Float[Tensor, " dead"] | None = None,
) -> Float[Tensor, ""]:
    """AuxK: the strongest d/2 dead latents reconstruct the residual; adds its gradients in place.

    Loss = weight * mean |residual - dead reconstruction|^2 / mean |residual|^2 (Gao et al. 2024);
    the residual is a constant here. ``counts`` (1 or 0) leaves out entries of ``dead``, so that its
    length can be fixed. Returns the loss; 0 without a residual.
    """
    low = pre.dtype
    scale = residual.square().sum(1).mean()
    z = pre[:, dead].float().relu_()
    if counts is not None:
        z = z * counts
    most = max(1, x.shape[1] // 2)
    if len(dead) > most:
        cut = torch.topk(z, most, dim=1).values[:, -1:]
        z = z * (z >= cut)
    decoder, z_low = weights.decoder[dead].to(low), z.to(low)
    off = (z_low @ decoder).float() - residual
    share = torch.where(scale > 0, weight / scale.clamp_min(1e-30), 0.0)
    g = (off * (share * (2.0 / len(x)))).to(low)
    dz = (g @ decoder.T).float() * (z > 0)
    grads.decoder.index_add_(0, dead, (z_low.T @ g).float())
    grads.encoder.index_add_(0, dead, (dz.to(low).T @ x.to(low)).float())
    grads.encoder_bias.index_add_(0, dead, dz.sum(0))
    return share * off.square().sum(1).mean()
