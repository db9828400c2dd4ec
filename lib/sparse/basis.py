"""The space in which a dictionary trains: normalised, and rotated so that the change has a weight.

Raw x (tokens, sides, d) becomes  x' = T (x - mean) / scale,  with the base side's mean and scale for
both sides: separate centring would hide a constant offset, separate scaling an amplification.
For two sides T maps (base, tuned) to (sum, weight * difference) / sqrt 2; with weight 1 that is an
orthogonal map and the squared loss is the plain one. ``fold`` maps trained weights back to raw units.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lib.sparse.dictionary import Dictionary


@dataclass(frozen=True)
class Normaliser:
    """Mean vector and one scalar scale, estimated on the base side."""

    mean: Float[Tensor, " d"]
    scale: float
    """Chosen so that the normalised base activation has mean squared norm d."""

    @staticmethod
    def estimate(batches: Iterable[Float[Tensor, "_ sides d"]]) -> "Normaliser":
        """From side 0 of some batches.

        Raises:
            ValueError: no tokens, non-finite values, or a layer that is constant over tokens.
        """
        total, squares, count = None, 0.0, 0
        for batch in batches:
            base = batch[:, 0].double()
            total = base.sum(0) if total is None else total + base.sum(0)
            squares += float(base.square().sum())
            count += len(base)
        if total is None or count < 2:
            raise ValueError("normaliser: fewer than two tokens; harvest more text")
        mean = total / count
        variance = squares / count - float(mean.square().sum())
        if not torch.isfinite(mean).all() or variance != variance:
            raise ValueError(
                "normaliser: activations hold NaN or infinity; check the model's dtype"
            )
        if variance <= 1e-12 * max(1e-30, squares / count):
            raise ValueError("normaliser: activations are constant over tokens; drop that layer")
        return Normaliser(mean.float(), (variance / len(mean)) ** 0.5)


@dataclass(frozen=True)
class Basis:
    """The affine map between raw activations and training space."""

    normaliser: Normaliser
    sides: int
    difference_weight: float = 1.0
    ranking: Literal["norms", "loss"] = "norms"
    """What latents compete by; see ``Sparse.ranking``."""
    rotated: bool = True
    """False = train on the sides themselves; the weight is then 1."""

    @property
    def matrix(self) -> Float[Tensor, "sides sides"]:
        if self.sides == 1 or not self.rotated:
            return torch.eye(self.sides)
        w = self.difference_weight
        return torch.tensor([[1.0, 1.0], [-w, w]]) / 2**0.5

    @property
    def inverse(self) -> Float[Tensor, "sides sides"]:
        return torch.linalg.inv(self.matrix.double()).float()

    def equal_sides(self, directions: Float[Tensor, "latents d"]) -> Float[Tensor, "latents wide"]:
        """Rows in training space that are these directions on every side, up to one scale."""
        sides = directions[:, None].expand(-1, self.sides, -1)
        return self.mix(self.matrix, sides).flatten(1)

    def forward(self, x: Float[Tensor, "tokens sides d"]) -> Float[Tensor, "tokens wide"]:
        """Raw activations to flat training space; wide = sides * d."""
        scaled = (x.float() - self.normaliser.mean.to(x.device)) / self.normaliser.scale
        return self.mix(self.matrix, scaled).flatten(1)

    def backward(self, flat: Float[Tensor, "tokens wide"]) -> Float[Tensor, "tokens sides d"]:
        raw = self.mix(self.inverse, flat.view(len(flat), self.sides, -1))
        return raw * self.normaliser.scale + self.normaliser.mean.to(flat.device)

    def ranking_norms(self, decoder: Float[Tensor, "latents wide"]) -> Float[Tensor, " latents"]:
        """By sides: their decoder norms' sum in raw geometry (up to the common scale), as published;
        by loss: the norm in training space, what leaving the latent out costs."""
        if self.ranking == "loss":
            return decoder.norm(dim=1)
        sides = self.mix(self.inverse, decoder.view(len(decoder), self.sides, -1))
        return sides.norm(dim=-1).sum(1)

    def fold(
        self,
        encoder: Float[Tensor, "latents wide"],
        encoder_bias: Float[Tensor, " latents"],
        decoder: Float[Tensor, "latents wide"],
        decoder_bias: Float[Tensor, " wide"],
        k: int,
        threshold: Float[Tensor, " latents"] | float,
    ) -> Dictionary:
        """Trained weights as a ``Dictionary`` in raw units, on the weights' device.

        ``threshold`` is that of the ranking score a * ``ranking_norms(decoder)``.
        """
        latents, wide = encoder.shape
        d, scale = wide // self.sides, self.normaliser.scale
        made = Dictionary(self.sides, d, latents, k)
        raw_encoder = self.mix(self.matrix.T, encoder.view(latents, self.sides, d)) / scale
        made.encoder = raw_encoder.permute(1, 2, 0).contiguous()
        mean = self.normaliser.mean.to(encoder.device)
        made.encoder_bias = encoder_bias - raw_encoder.sum(1) @ mean
        decoded = self.mix(self.inverse, decoder.view(latents, self.sides, d)) * scale
        made.decoder = decoded.contiguous()
        made.decoder_bias = self.backward(decoder_bias[None])[0]
        made.thresholds = threshold / self.ranking_norms(decoder).clamp_min(1e-12)
        return made

    @staticmethod
    def mix(
        matrix: Float[Tensor, "out sides"], x: Float[Tensor, "rows sides d"]
    ) -> Float[Tensor, "rows out d"]:
        """Mix the sides; exact for equal sides (no product of differences is formed)."""
        if matrix.shape == (1, 1):
            return x * float(matrix)
        (a, b), (c, e) = matrix.tolist()
        one, two = x[:, 0], x[:, 1]
        if abs(a) == abs(b) and abs(c) == abs(e):  # forward: sums and differences of the sides
            return torch.stack([(one + two * (b / a)) * a, (two + one * (c / e)) * e], dim=1)
        return torch.stack([one * a + two * b, one * c + two * e], dim=1)
