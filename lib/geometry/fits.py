"""How much of held-out deltas an adapter SAE explains, and what that is to be read against.

A pretrained dictionary has biases and thresholds for activations, not for deltas, so it must describe
deltas badly when applied to them as it is; that says nothing about its directions. Each function here
states what it is evidence of.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lib.geometry.approximate import principal, project, pursuit
from lib.geometry.directions import random_directions
from lib.geometry.scores import Fit, score
from lib.sparse import Dictionary

_CHUNK = 2048


class Fits(NamedTuple):
    """Descriptions of the same held-out deltas; ``k`` directions per token in all that have a k."""

    k: int
    adapter: Fit
    """The adapter SAE as it is."""
    adapter_pursuit: Fit
    """Its decoder with the coefficients of least squares: the limit of its directions."""
    native: Fit
    subtracted: Fit
    pretrained_pursuit: Fit
    random_pursuit: Fit
    """As many random directions as the pretrained decoder has: what its number alone buys."""
    span: Fit
    pca: Fit
    mean: Fit


def compare(
    train: Float[Tensor, "train_tokens d"],
    heldout: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    *,
    base: Float[Tensor, "tokens d"],
    adapter: Dictionary,
    pretrained: Dictionary,
    k: int | None = None,
    seed: int = 0,
) -> Fits:
    """Every description of the held-out deltas. Read ``adapter`` against ``pca`` (does sparsity buy
    anything?), ``adapter_pursuit`` against the other two pursuits (are the directions the adapter's,
    the base's, or any?); ``scores.gain`` gives such differences their intervals.

    Args:
        train: deltas that PCA and the mean are fitted on; ``base``: activations beside ``heldout``.
        k: directions per token of the baselines; None = as the adapter SAE uses on ``heldout``.

    Raises:
        ValueError: widths that differ, dictionaries of two sides, constant deltas.
    """
    _check(heldout, adapter=adapter, pretrained=pretrained)
    own = native(adapter, heldout, groups, seed=seed)
    k = max(1, round(own.active)) if k is None else k
    bias = adapter.decoder_bias[0].to(heldout.dtype)
    mean = train.double().mean(0).to(heldout.dtype).expand_as(heldout)
    unrelated = random_directions(pretrained.latents, pretrained.d, seed)
    return Fits(
        k=k,
        adapter=own,
        adapter_pursuit=pursued(rows(adapter), heldout, groups, bias, k, seed=seed),
        native=native(pretrained, heldout, groups, seed=seed),
        subtracted=subtracted(pretrained, base, heldout, groups, seed=seed),
        pretrained_pursuit=pursued(rows(pretrained), heldout, groups, bias, k, seed=seed),
        random_pursuit=pursued(unrelated, heldout, groups, bias, k, seed=seed),
        span=spanned(rows(pretrained), heldout, groups, bias, seed=seed),
        pca=components(train, heldout, groups, k, seed=seed),
        mean=score(heldout, mean, groups, active=0.0, rank=0, seed=seed),
    )


def rows(dictionary: Dictionary) -> Float[Tensor, "latents d"]:
    """Decoder rows of a one-sided dictionary."""
    return dictionary.decoder[:, 0]


def native(
    dictionary: Dictionary,
    delta: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    *,
    seed: int = 0,
) -> Fit:
    """The dictionary applied to deltas as it is.

    For an adapter SAE: how well it does. For a pretrained dictionary: evidence of nothing but that its
    bias and thresholds were made for activations; a low number is no evidence that its directions
    are absent, see ``pursued``.
    """
    parts, active = [], 0
    for x in delta.split(_CHUNK):
        z = dictionary.encode(x[:, None])
        active += int((z > 0).sum())
        parts.append(dictionary.decode(z)[:, 0])
    per_token = active / max(1, len(delta))
    return score(delta, torch.cat(parts), groups, active=per_token, seed=seed)


def subtracted(
    dictionary: Dictionary,
    base: Float[Tensor, "tokens d"],
    delta: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    *,
    seed: int = 0,
) -> Fit:
    """Reconstruction of tuned activations minus that of base ones: the dictionary used as intended.

    Evidence of how much of the change its features express as features, by firing more or less.
    Biases cancel; errors of both reconstructions do not, so it may well be negative. ``active`` counts
    latents whose code differs.
    """
    parts, active = [], 0
    for x, change in zip(base.split(_CHUNK), delta.split(_CHUNK), strict=True):
        before = dictionary.encode(x[:, None])
        moved = dictionary.encode((x + change)[:, None]) - before
        active += int((moved != 0).sum())
        parts.append((dictionary.decode(moved) - dictionary.decoder_bias)[:, 0])
    per_token = active / max(1, len(delta))
    return score(delta, torch.cat(parts), groups, active=per_token, seed=seed)


def pursued(
    directions: Float[Tensor, "directions d"],
    delta: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    centre: Float[Tensor, " d"],
    k: int,
    *,
    seed: int = 0,
) -> Fit:
    """``centre`` plus ``k`` directions per token, chosen and fitted to that token.

    Evidence of whether deltas are sparse in these directions, whatever an encoder makes of them. Many
    directions fit anything to some degree: only what exceeds as many random ones counts.

    Args:
        centre: the constant that every token starts from. ``compare`` gives all decoders the bias that
            the adapter SAE learned, so that only directions differ; the mean would not do, since
            sparse sums of non-negative codes less their mean are no longer sparse.
    """
    predicted = centre + pursuit(directions.to(delta.dtype), delta - centre, k)
    return score(delta, predicted, groups, active=float(min(k, delta.shape[1])), seed=seed)


def spanned(
    directions: Float[Tensor, "directions d"],
    delta: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    centre: Float[Tensor, " d"],
    *,
    seed: int = 0,
) -> Fit:
    """``centre`` plus least squares on all directions together.

    Evidence only where ``rank`` is below d: a decoder of full rank spans everything and scores 1,
    whatever it has learned.
    """
    predicted, rank = project(directions, delta - centre)
    return score(delta, centre + predicted, groups, active=float(rank), rank=rank, seed=seed)


def components(
    train: Float[Tensor, "train_tokens d"],
    delta: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    k: int,
    *,
    seed: int = 0,
) -> Fit:
    """The training mean plus the ``k`` strongest principal components of the training deltas.

    The same k directions for every token: the best that a linear description without sparsity does.
    An SAE that does not beat it has only found the subspace. ``k`` is cut to what the text allows.
    """
    k = min(k, train.shape[1], len(train) - 1)
    mean, basis, _ = principal(train, k)
    predicted = mean + (delta.double() - mean) @ basis @ basis.T
    return score(delta, predicted.to(delta.dtype), groups, active=float(k), rank=k, seed=seed)


def _check(delta: Tensor, **dictionaries: Dictionary) -> None:
    for name, found in dictionaries.items():
        if (found.sides, found.d) != (1, delta.shape[1]):
            raise ValueError(
                f"the {name} dictionary has {found.sides} sides of width {found.d}, the deltas 1 of "
                f"width {delta.shape[1]}; give a one-sided dictionary of the same place"
            )
