"""The arithmetic of an intervention: pure functions of tensors, no model.

Every function takes one run or a batch of runs: activations ``tokens d`` or ``batch tokens d``, and
one set of latents or one for each run of the batch.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class DictionarySlice(NamedTuple):
    """Some latents of a crosscoder, in raw activation units (normalisation folded in), fp32."""

    latents: Int[Tensor, "*batch n"]
    """Ids in the full dictionary; -1 pads a set that is smaller than others of its batch."""
    encoder: Float[Tensor, "*batch n sides d"]
    encoder_bias: Float[Tensor, "*batch n"]
    decoder: Float[Tensor, "*batch n sides d"]
    thresholds: Float[Tensor, "*batch n"]
    """A latent fires where its activation exceeds this."""

    def take(self, ids: tuple[int, ...]) -> "DictionarySlice":
        """The same slice with these latents only, in this order.

        Raises:
            KeyError: an id that the slice does not carry.
        """
        row = {int(j): i for i, j in enumerate(self.latents.tolist())}
        rows = torch.tensor([row[j] for j in ids], dtype=torch.long, device=self.latents.device)
        return DictionarySlice(*(part[rows] for part in self))

    def stack(self, sets: list[tuple[int, ...]]) -> "DictionarySlice":
        """One set for each run of a batch; the smaller ones padded with latents that do nothing."""
        size = max(map(len, sets))
        parts = [self.take(ids)._padded(size) for ids in sets]
        return DictionarySlice(*(torch.stack(same) for same in zip(*parts, strict=True)))

    def _padded(self, size: int) -> "DictionarySlice":
        more = size - len(self.latents)
        fills = (-1, 0.0, 0.0, 0.0, torch.inf)
        return DictionarySlice(
            *(
                torch.cat([part, part.new_full((more, *part.shape[1:]), fill)])
                for part, fill in zip(self, fills, strict=True)
            )
        )

    def to(self, device: torch.device) -> "DictionarySlice":
        return DictionarySlice(*(part.to(device) for part in self))

    @property
    def change(self) -> Float[Tensor, "*batch n d"]:
        """d_tuned - d_base of every latent."""
        return self.decoder[..., 1, :] - self.decoder[..., 0, :]

    @property
    def tuned(self) -> Float[Tensor, "*batch n d"]:
        """d_tuned of every latent; of a one-sided dictionary its only decoder."""
        return self.decoder[..., -1, :]


def codes(
    x_tuned: Float[Tensor, "*batch tokens d"],
    x_base: Float[Tensor, "*#batch tokens d"],
    dictionary: DictionarySlice,
) -> Float[Tensor, "*batch tokens n"]:
    """Shared activation of each latent on paired activations; 0 where it does not fire.

    Source: BatchTopK crosscoder at inference, Minder et al. 2025, arXiv:2504.02922.
    """
    base, tuned = dictionary.encoder[..., 0, :].mT, dictionary.encoder[..., 1, :].mT
    return _active(x_base @ base + x_tuned @ tuned, dictionary)


def own_codes(
    x: Float[Tensor, "*batch tokens d"], dictionary: DictionarySlice
) -> Float[Tensor, "*batch tokens n"]:
    """a_j(x): activation of each latent on one model's activations alone; 0 where it does not fire.

    Through a one-sided dictionary (an SAE) as it is; through a crosscoder with x on both sides, which
    is what it would see if the other model were the same.
    """
    return _active(x @ dictionary.encoder.sum(-2).mT, dictionary)


def _active(
    products: Float[Tensor, "*batch tokens n"], dictionary: DictionarySlice
) -> Float[Tensor, "*batch tokens n"]:
    active = torch.relu(products + dictionary.encoder_bias[..., None, :])
    fires = active > dictionary.thresholds[..., None, :]
    return torch.where(fires, active, 0.0)


def clamp_edit(
    x_tuned: Float[Tensor, "*batch tokens d"],
    x_base: Float[Tensor, "*#batch tokens d"],
    chosen: DictionarySlice,
) -> Float[Tensor, "*batch tokens d"]:
    """What the pair clamp (I1) adds at strength 1: - sum_j a_j (d_j^tuned - d_j^base).

    The reconstruction error is kept: only the chosen latents' share of tuned - base is removed.

    Source: inverse of the latent patching of Minder et al. 2025, arXiv:2504.02922.
    """
    return -(codes(x_tuned, x_base, chosen) @ chosen.change)


def code_clamp_edit(
    x_tuned: Float[Tensor, "*batch tokens d"],
    x_base: Float[Tensor, "*#batch tokens d"],
    chosen: DictionarySlice,
) -> Float[Tensor, "*batch tokens d"]:
    """What the code clamp (I2) adds at strength 1: - sum_j (a_j(x_tuned) - a_j(x_base)) d_j.

    d_j is the tuned side's decoder, or the only one. Zero at tokens where the latents fire alike in
    both models, whatever else has changed; unlike the pair clamp's it is not zero for a latent with
    equal decoders that fires more or less.

    Source: ours, for "clamping toward base values"; the pair clamp (I1) cannot move such features.
    """
    surplus = own_codes(x_tuned, chosen) - own_codes(x_base, chosen)
    return -(surplus @ chosen.tuned)


def zero_edit(
    x_tuned: Float[Tensor, "*batch tokens d"],
    x_base: Float[Tensor, "*#batch tokens d"],
    chosen: DictionarySlice,
) -> Float[Tensor, "*batch tokens d"]:
    """What zero ablation (I3) adds at strength 1: - sum_j a_j d_j^tuned.

    Equals the pair clamp's for latents whose base decoder is zero.
    """
    return -(codes(x_tuned, x_base, chosen) @ chosen.tuned)


def subspace(chosen: DictionarySlice) -> Float[Tensor, "*batch n d"]:
    """An orthonormal basis, as rows, of the span of the tuned decoders; rows of zeros fill it up.

    Directions with a singular value below 1e-5 of the largest are rounding (the slices are fp16
    weights), not part of the span.
    """
    if not chosen.latents.shape[-1]:
        return chosen.tuned
    _, sizes, rows = torch.linalg.svd(chosen.tuned.double(), full_matrices=False)
    kept = sizes > 1e-5 * sizes[..., :1]
    return (rows * kept[..., None]).to(chosen.decoder.dtype)


def swap_edit(
    x_tuned: Float[Tensor, "*batch tokens d"],
    x_base: Float[Tensor, "*#batch tokens d"],
    basis: Float[Tensor, "*batch2 n d"],
) -> Float[Tensor, "*batch tokens d"]:
    """What the subspace swap (I4) adds at strength 1: P (x_base - x_tuned).

    P projects on the rows of ``basis``, orthonormal or zero. Source: the causal test of the
    activation difference lens, arXiv:2510.13900, there with one direction.
    """
    return ((x_base - x_tuned) @ basis.mT) @ basis


def rescaled(
    edit: Float[Tensor, "*batch tokens d"],
    target_norms: Float[Tensor, "*#batch tokens"],
    fallback: Float[Tensor, "*#batch #tokens d"],
) -> Float[Tensor, "*batch tokens d"]:
    """The edit's directions with another edit's norm at every token.

    Where the edit is zero (no control latent fires) the direction is ``fallback``'s, so that the
    norms match everywhere; otherwise a control would be weak just because it is silent. A zero
    fallback leaves those tokens without an edit.
    """
    silent = edit.norm(dim=-1, keepdim=True) == 0
    direction = torch.where(silent, fallback, edit)
    norms = direction.norm(dim=-1, keepdim=True)
    return direction * (target_norms[..., None] / norms.clamp_min(torch.finfo(edit.dtype).tiny))
