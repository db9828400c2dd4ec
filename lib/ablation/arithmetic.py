"""The arithmetic of an intervention: pure functions of tensors, no model."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class DictionarySlice(NamedTuple):
    """Some latents of a crosscoder, in raw activation units (normalisation folded in), fp32."""

    latents: Int[Tensor, " n"]
    """Ids in the full dictionary."""
    encoder: Float[Tensor, "n sides d"]
    encoder_bias: Float[Tensor, " n"]
    decoder: Float[Tensor, "n sides d"]
    thresholds: Float[Tensor, " n"]
    """A latent fires where its activation exceeds this."""

    def take(self, ids: tuple[int, ...]) -> "DictionarySlice":
        """The same slice with these latents only, in this order.

        Raises:
            KeyError: an id that the slice does not carry.
        """
        row = {int(j): i for i, j in enumerate(self.latents.tolist())}
        rows = torch.tensor([row[j] for j in ids], dtype=torch.long, device=self.latents.device)
        return DictionarySlice(
            self.latents[rows],
            self.encoder[rows],
            self.encoder_bias[rows],
            self.decoder[rows],
            self.thresholds[rows],
        )

    @property
    def change(self) -> Float[Tensor, "n d"]:
        """d_tuned - d_base of every latent."""
        return self.decoder[:, 1] - self.decoder[:, 0]


def codes(
    x_tuned: Float[Tensor, "tokens d"],
    x_base: Float[Tensor, "tokens d"],
    dictionary: DictionarySlice,
) -> Float[Tensor, "tokens n"]:
    """Shared activation of each latent on paired activations; 0 where it does not fire.

    Source: BatchTopK crosscoder at inference, Minder et al. 2025, arXiv:2504.02922.
    """
    pre = x_base @ dictionary.encoder[:, 0].T + x_tuned @ dictionary.encoder[:, 1].T
    active = torch.relu(pre + dictionary.encoder_bias)
    return active * (active > dictionary.thresholds)


def clamp_edit(
    x_tuned: Float[Tensor, "tokens d"],
    x_base: Float[Tensor, "tokens d"],
    chosen: DictionarySlice,
) -> Float[Tensor, "tokens d"]:
    """What the pair clamp adds at strength 1: - sum_j a_j (d_j^tuned - d_j^base)."""
    return -(codes(x_tuned, x_base, chosen) @ chosen.change)


def clamp(
    x_tuned: Float[Tensor, "tokens d"],
    x_base: Float[Tensor, "tokens d"],
    dictionary: DictionarySlice,
    selected: tuple[int, ...],
    strength: float = 1.0,
) -> Float[Tensor, "tokens d"]:
    """Tuned activations with the selected latents clamped to their base values (pair clamp, I1).

    The reconstruction error is kept: only the selected latents' share of tuned - base is removed.
    An empty set or strength 0 returns ``x_tuned`` unchanged.

    Source: inverse of the latent patching of Minder et al. 2025, arXiv:2504.02922.
    """
    return x_tuned + strength * clamp_edit(x_tuned, x_base, dictionary.take(selected))


def own_codes(
    x: Float[Tensor, "tokens d"], dictionary: DictionarySlice
) -> Float[Tensor, "tokens n"]:
    """a_j(x): activation of each latent on one model's activations alone; 0 where it does not fire.

    Through a one-sided dictionary (an SAE) as it is; through a crosscoder with x on both sides, which
    is what it would see if the other model were the same.
    """
    active = torch.relu(x @ dictionary.encoder.sum(1).T + dictionary.encoder_bias)
    return active * (active > dictionary.thresholds)


def code_clamp_edit(
    x_tuned: Float[Tensor, "tokens d"],
    x_base: Float[Tensor, "tokens d"],
    chosen: DictionarySlice,
) -> Float[Tensor, "tokens d"]:
    """What the code clamp adds at strength 1: - sum_j (a_j(x_tuned) - a_j(x_base)) d_j.

    d_j is the tuned side's decoder, or the only one. Zero at tokens where the latents fire alike in
    both models, whatever else has changed; unlike the pair clamp's it is not zero for a latent with
    equal decoders that fires more or less.
    """
    surplus = own_codes(x_tuned, chosen) - own_codes(x_base, chosen)
    return -(surplus @ chosen.decoder[:, -1])


def code_clamp(
    x_tuned: Float[Tensor, "tokens d"],
    x_base: Float[Tensor, "tokens d"],
    dictionary: DictionarySlice,
    selected: tuple[int, ...],
    strength: float = 1.0,
) -> Float[Tensor, "tokens d"]:
    """Tuned activations with the selected latents' codes clamped to the base's (code clamp, I2).

    For shared features that the fine-tune reweights: strength 0 leaves them as they are, 1 gives each
    the activation that it has in the base. Everything outside the latents' directions stays. An empty
    set or strength 0 returns ``x_tuned`` unchanged.

    Source: ours, for "clamping toward base values"; the pair clamp (I1) cannot move such features.
    """
    return x_tuned + strength * code_clamp_edit(x_tuned, x_base, dictionary.take(selected))


def rescaled(
    edit: Float[Tensor, "*tokens d"],
    target_norms: Float[Tensor, "*tokens"],
    fallback: Float[Tensor, " d"],
) -> Float[Tensor, "*tokens d"]:
    """The edit's directions with another edit's norm at every token.

    Where the edit is zero (no control latent fires) the direction is ``fallback``'s, so that the
    norms match everywhere; otherwise a control would be weak just because it is silent. A zero
    fallback leaves those tokens without an edit.
    """
    silent = edit.norm(dim=-1, keepdim=True) == 0
    direction = torch.where(silent, fallback.expand_as(edit), edit)
    norms = direction.norm(dim=-1, keepdim=True)
    return direction * (target_norms[..., None] / norms.clamp_min(torch.finfo(edit.dtype).tiny))


def share_reversed(
    kl_clamped: Float[Tensor, " tokens"], kl_tuned: Float[Tensor, " tokens"]
) -> float | None:
    """1 - sum KL(clamped || base) / sum KL(tuned || base), token-weighted, dimensionless.

    1 = back to base, 0 = no effect, negative = further from base than before; None where the
    tuned model does not differ from base at all.
    """
    total = float(kl_tuned.double().sum())
    if total == 0:
        return None
    return (total - float(kl_clamped.double().sum())) / total


def share_removed(
    before: Float[Tensor, "tokens d"],
    after: Float[Tensor, "tokens d"],
    base: Float[Tensor, "tokens d"],
) -> float | None:
    """1 - sum|after - base|^2 / sum|before - base|^2 over tokens; None without a difference."""
    total = float((before - base).double().square().sum())
    if total == 0:
        return None
    return (total - float((after - base).double().square().sum())) / total
