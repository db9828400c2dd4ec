"""Mean activation difference, position by position: is the fine-tune one constant vector?

On the first tokens of text that has nothing to do with the fine-tune, the mean of tuned - base already
holds its direction. Positions stay apart: they have different means, and averaging over them would
hide that.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.metrics.inputs import refuse_not_finite


class PositionDifference(NamedTuple):
    """Means over documents at each position; NaN where no document reaches a position."""

    mean: Float[Tensor, "positions d"]
    """dbar_j: mean of tuned - base, in units of the activations."""
    n: Int[Tensor, " positions"]
    """Documents that reach the position."""
    error: Float[Tensor, " positions"]
    """Standard error of the mean vector, as a length: sqrt(sum of the coordinates' variances / n).
    NaN with fewer than two documents."""
    base_norm: Float[Tensor, " positions"]
    """Mean norm of the base's activations."""
    tuned_norm: Float[Tensor, " positions"]
    """Mean norm of the tuned model's activations (eta: what the mean is rescaled to for steering)."""
    offset_share: Float[Tensor, " positions"]
    """n |mean|^2 / sum |difference|^2, in [0, 1]; 1 = every document moved by one and the same
    vector, 1/n = nothing in common. 0 where nothing moved."""

    @property
    def norm(self) -> Float[Tensor, " positions"]:
        """Length of the mean difference."""
        return self.mean.norm(dim=1)

    @property
    def relative(self) -> Float[Tensor, " positions"]:
        """Length of the mean difference over the mean norm of the base's activations."""
        return self.norm / self.base_norm

    @property
    def cosines(self) -> Float[Tensor, "positions positions"]:
        """Between the mean differences of every two positions, -1..1; NaN where one is 0."""
        unit = self.mean / self.norm[:, None]
        return (unit @ unit.T).clamp(-1.0, 1.0)


class MeanDifference:
    """Streaming means over documents: sums only, so batching cannot change a number.

    ``positions`` first positions are kept; whether position 0 is BOS is the caller's choice.
    """

    def __init__(self, positions: int, d: int) -> None:
        self.positions, self.d = positions, d
        self._n = torch.zeros(positions, dtype=torch.int64)
        self._sum = torch.zeros(positions, d, dtype=torch.float64)
        self._squares = torch.zeros(positions, dtype=torch.float64)
        self._norms = torch.zeros(2, positions, dtype=torch.float64)

    def update(
        self,
        base: Float[Tensor, "documents seq d"],
        tuned: Float[Tensor, "documents seq d"],
        present: Bool[Tensor, "documents seq"] | None = None,
    ) -> None:
        """Add paired activations of some documents, each from its first position on.

        Args:
            present: False at padding, whose activations are ignored, whatever they are.

        Raises:
            ValueError: a width other than the one announced, views or a mask that do not pair up,
                values that are not finite.
        """
        if base.shape != tuned.shape or base.shape[2] != self.d:
            raise ValueError(
                f"the mean difference of width {self.d} got base {tuple(base.shape)} and tuned "
                f"{tuple(tuned.shape)}; take both from the same documents and block"
            )
        if present is None:
            present = torch.ones(base.shape[:2], dtype=torch.bool)
        if present.shape != base.shape[:2]:
            raise ValueError(
                f"the mean difference got a mask {tuple(present.shape)} for activations "
                f"{tuple(base.shape)}; give one entry per document and position"
            )
        kept = present[:, : self.positions].cpu()
        views = []
        for name, view in (("base", base), ("tuned", tuned)):
            wide = view[:, : self.positions].double().cpu().masked_fill(~kept[..., None], 0.0)
            refuse_not_finite("the mean difference", name, wide)
            views.append(wide)
        moved, reached = views[1] - views[0], kept.shape[1]
        self._n[:reached] += kept.sum(0)
        self._sum[:reached] += moved.sum(0)
        self._squares[:reached] += moved.square().sum((0, 2))
        for row, wide in enumerate(views):
            self._norms[row, :reached] += wide.norm(dim=2).sum(0)

    def value(self) -> PositionDifference:
        """
        Raises:
            ValueError: no document was added.
        """
        if not self._n.any():
            raise ValueError("MeanDifference.value: no documents were added; call update first")
        n = self._n.double()
        mean = self._sum / n[:, None]
        offset = n * mean.square().sum(1)
        variance = (self._squares - offset).clamp_min(0) / (n - 1)
        share = (offset / self._squares).clamp(max=1.0)
        return PositionDifference(
            mean=mean,
            n=self._n.clone(),
            error=torch.where(self._n > 1, (variance / n).sqrt(), torch.nan),
            base_norm=self._norms[0] / n,
            tuned_norm=self._norms[1] / n,
            offset_share=torch.where((self._n > 0) & (self._squares == 0), 0.0, share),
        )
