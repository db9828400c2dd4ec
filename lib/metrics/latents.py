"""What happened to each latent of a crosscoder: how exclusive it is, and if that is an artefact."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.metrics.inputs import refuse_not_finite, refuse_unusable
from lib.metrics.shapes import refuse_shape

CUTS = (0.1, 0.4, 0.6, 0.9)
"""On ``delta_norm``: eliminated | suppressed | shared | amplified | new."""
CLASSES = ("eliminated", "suppressed", "shared", "amplified", "new", "dead")
TUNED_ONLY_EPS, TUNED_ONLY_R = 0.2, 0.5
"""A new latent with ``nu_eps`` and ``nu_r`` below these serves the tuned model alone."""
_CHUNK_BYTES = 64 << 20


class Scaling(NamedTuple):
    """Latent scaling, dimensionless, base over tuned; NaN where a scale is undefined.

    Both about 1 for a latent that serves both models alike; near 0 for one that only the tuned
    model needs. Truly tuned-only: below ``TUNED_ONLY_EPS`` and ``TUNED_ONLY_R``.
    """

    nu_eps: Float[Tensor, " latents"]
    """On the error without this latent. High = complete shrinkage: the base needs it too."""
    nu_r: Float[Tensor, " latents"]
    """On the reconstruction. High = latent decoupling: other latents write it in the base."""


class Shares(NamedTuple):
    """Each sums to 1 over latents; all 0 when there is nothing to share."""

    energy: Float[Tensor, " latents"]
    """E[a^2] |d_tuned|^2."""
    difference: Float[Tensor, " latents"]
    """E[a^2] |d_tuned - d_base|^2: what the latent adds to the explained difference."""


def delta_norm(
    norm_base: Float[Tensor, "*shape"], norm_tuned: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Relative decoder norm: 0 base only, 1/2 equal, 1 tuned only; NaN where both norms are 0.

    Swapping the models maps it to one minus itself. The public toolkit stores the mirror image.

    Raises:
        ValueError: norms that are negative or not finite.

    Source: Minder et al. 2025, arXiv:2504.02922, section 2.2.
    """
    if norm_base.shape != norm_tuned.shape:
        raise ValueError(
            f"norms of {tuple(norm_base.shape)} base and {tuple(norm_tuned.shape)} tuned decoder rows "
            "do not pair up"
        )
    for name, norms in (("norm_base", norm_base), ("norm_tuned", norm_tuned)):
        if not (torch.isfinite(norms) & (norms >= 0)).all():
            raise ValueError(
                f"the relative decoder norm is not defined because {name} holds values that are no "
                "norms (negative, NaN or infinite); train that dictionary again"
            )
    return 0.5 * (1 + (norm_tuned - norm_base) / torch.maximum(norm_tuned, norm_base))


def classify_latents(
    delta_norm: Float[Tensor, " latents"],
    firings: Int[Tensor, " latents"],
    min_firings: int = 10,
) -> list[str]:
    """Name of each latent's class.

    eliminated < 0.1 <= suppressed < 0.4 <= shared <= 0.6 < amplified <= 0.9 < new, so that swapping
    the models swaps the names; dead = fired on fewer than ``min_firings`` tokens, or without norms.

    Raises:
        ValueError: not one count per latent, a count that is none, or a norm outside 0..1.
    """
    refuse_shape("the class of a latent", 1, delta_norm=delta_norm, firings=firings)
    if len(delta_norm) != len(firings):
        raise ValueError(f"{len(delta_norm)} latents have {len(firings)} counts of firings")
    refuse_not_finite("the class of a latent", "firings", firings)
    delta = delta_norm.double().cpu().numpy()
    if ((delta < 0) | (delta > 1)).any() or (firings < 0).any():
        raise ValueError(
            "the class of a latent is not defined because a relative norm lies outside 0..1 or a count "
            f"below 0 (from {np.nanmin(delta):.3g} to {np.nanmax(delta):.3g}, least count "
            f"{int(firings.min())}); train that dictionary again"
        )
    first, second, third, fourth = CUTS
    bins = 0 + (delta >= first) + (delta >= second) + (delta > third) + (delta > fourth)
    dead = (firings.cpu().numpy() < min_firings) | np.isnan(delta)
    return [CLASSES[5 if gone else place] for place, gone in zip(bins, dead, strict=True)]


def sparse_codes(
    codes: Float[Tensor, "tokens latents"],
) -> tuple[Int[Tensor, "tokens k"], Float[Tensor, "tokens k"]]:
    """Dense codes as indices and values, padded with value 0 to the busiest token's count."""
    most = max(1, int((codes != 0).sum(1).max())) if len(codes) else 1
    top = codes.abs().topk(most, dim=1).indices
    return top, codes.gather(1, top)


def shares(
    sum_squares: Float[Tensor, " latents"], decoder: Float[Tensor, "latents sides d"]
) -> Shares:
    """Energy and difference shares from each latent's sum of squared activations.

    Raises:
        ValueError: not one sum per latent, values that are not finite.
    """
    refuse_shape("the share of energy", 1, sum_squares=sum_squares)
    refuse_shape("the share of energy", 3, decoder=decoder)
    refuse_unusable("the share of energy", sum_squares=sum_squares, decoder=decoder)
    wide, weight = decoder.double(), sum_squares.double()
    energy = weight * wide[:, 1].square().sum(1)
    difference = weight * (wide[:, 1] - wide[:, 0]).square().sum(1)
    parts = (v / v.sum() if v.sum() > 0 else torch.zeros_like(v) for v in (energy, difference))
    return Shares(*parts)


class LatentScaling:
    """Least-squares scale of each latent in either model, streamed over tokens.

    For a target y and direction d_j: beta = d_j . sum_i a_ij y_i / (|d_j|^2 sum_i a_ij^2), the
    scale at which latent j best explains y. Targets are each side's error with the latent's own
    part put back (x - x_hat + a_j d_j), and each side's reconstruction (x_hat, decoder bias
    included, as in the published code). Keeps a few numbers per latent; cost grows with active
    latents only.

    Float32 products (float64 for float64 directions), float64 sums.

    Args:
        directions: d_j of each latent, the tuned decoder. For eliminated latents pass the base
            decoder and every two-sided argument with its sides swapped.

    Source: Minder et al. 2025, arXiv:2504.02922, section 3.1 and its closed form.
    """

    def __init__(self, directions: Float[Tensor, "latents d"]) -> None:
        refuse_shape("latent scaling", 2, directions=directions)
        refuse_not_finite("latent scaling", "directions", directions)
        self.directions = directions.to(torch.promote_types(directions.dtype, torch.float32))
        latents, device = len(directions), directions.device
        self._error = torch.zeros(latents, 2, dtype=torch.float64, device=device)
        self._reconstruction = torch.zeros_like(self._error)
        self.sum_squares: Float[Tensor, " latents"] = torch.zeros_like(self._error[:, 0])
        self.firings: Int[Tensor, " latents"] = torch.zeros(
            latents, dtype=torch.int64, device=device
        )
        self.max_activation: Float[Tensor, " latents"] = torch.zeros_like(self._error[:, 0])

    def update(
        self,
        x: Float[Tensor, "tokens sides d"],
        x_hat: Float[Tensor, "tokens sides d"],
        codes: Float[Tensor, "tokens latents"],
        decoder: Float[Tensor, "latents sides d"],
    ) -> None:
        """Add a batch with dense codes."""
        self.update_sparse(x, x_hat, *sparse_codes(codes), decoder)

    def update_sparse(
        self,
        x: Float[Tensor, "tokens sides d"],
        x_hat: Float[Tensor, "tokens sides d"],
        indices: Int[Tensor, "tokens k"],
        values: Float[Tensor, "tokens k"],
        decoder: Float[Tensor, "latents sides d"],
    ) -> None:
        """Add a batch with sparse codes; entries of value 0 are padding, whatever their index.

        Raises:
            ValueError: arguments of different tokens or latents, values that are not finite.
        """
        refuse_unusable("latent scaling", same_width=True, axes=3, x=x, x_hat=x_hat)
        refuse_unusable("latent scaling", x=x, codes=values)
        refuse_unusable("latent scaling", axes=3, decoder=decoder)
        latents, d = self.directions.shape
        if tuple(decoder.shape) != (latents, 2, d) or tuple(x.shape[1:]) != (2, d):
            raise ValueError(
                f"latent scaling is not defined because x {tuple(x.shape)} and decoder "
                f"{tuple(decoder.shape)} are not (tokens, 2, {d}) and ({latents}, 2, {d})"
            )
        x, x_hat = x.to(self.directions.dtype), x_hat.to(self.directions.dtype)
        indices = indices.long().where(values != 0, 0)
        targets = torch.cat([x - x_hat, x_hat], dim=1).transpose(1, 2)
        own = torch.einsum("lsd,ld->ls", decoder.double(), self.directions.double())
        step = max(1, _CHUNK_BYTES // (4 * indices.shape[1] * x.shape[2]))
        for at in range(0, len(x), step):
            part = slice(at, at + step)
            dots = torch.bmm(self.directions[indices[part]], targets[part]).double()
            flat, a = indices[part].reshape(-1), values[part].reshape(-1, 1).double()
            weighted = a * dots.reshape(-1, 4)
            self._error.index_add_(0, flat, weighted[:, :2])
            self._reconstruction.index_add_(0, flat, weighted[:, 2:])
        self._count(indices.reshape(-1), values.reshape(-1).double(), own)

    def _count(
        self,
        flat: Int[Tensor, " active"],
        a: Float[Tensor, " active"],
        own: Float[Tensor, "latents sides"],
    ) -> None:
        squares = torch.zeros_like(self.sum_squares).index_add_(0, flat, a.square())
        self.sum_squares += squares
        self._error += squares[:, None] * own
        self.firings.index_add_(0, flat, (a != 0).long())
        self.max_activation.scatter_reduce_(0, flat, a, reduce="amax")

    def value(self) -> Scaling:
        """Scales of all tokens so far; NaN for latents that never fired or have no direction.

        The common factor |d|^2 sum a^2 of both sides' scales cancels in their ratio.
        """
        known = (self.sum_squares > 0) & (self.directions.square().sum(1) > 0)

        def nu(sums: Float[Tensor, "latents sides"]) -> Float[Tensor, " latents"]:
            usable = known & (sums[:, 1] != 0)
            return torch.where(usable, sums[:, 0] / sums[:, 1], torch.nan)

        return Scaling(nu(self._error), nu(self._reconstruction))

    def betas(self) -> tuple[Float[Tensor, "latents sides"], Float[Tensor, "latents sides"]]:
        """The scales themselves: on the error and on the reconstruction target, base and tuned."""
        scale = self.sum_squares * self.directions.double().square().sum(1)
        return self._error / scale[:, None], self._reconstruction / scale[:, None]
