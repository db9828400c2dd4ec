"""How far activations moved, relative to how far they spread, and how much of it is one offset."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lib.metrics.inputs import exactly_scaled, exponent, refuse_unusable
from lib.metrics.intervals import DRAWS, percentiles, resample_counts
from lib.metrics.shapes import refuse_level, refuse_overflow


class Moved(NamedTuple):
    """Dimensionless."""

    relative: float
    """sqrt(E|tuned - base|^2 / E|base - mean|^2), at least 0; 0.3 = moved by 30 % of the spread."""
    offset_share: float
    """n |mean difference|^2 / sum |difference|^2, in [0, 1]; 1 = every token moved by one and the
    same vector. 0 when nothing moved."""


class GroupedMoved(NamedTuple):
    """As ``Moved``, with 95 % bootstrap intervals over documents; None with fewer than two."""

    relative: float
    low: float | None
    high: float | None
    offset_share: float
    offset_low: float | None
    offset_high: float | None


class Displacement:
    """Streaming relative displacement: sums only, so batching cannot change the number."""

    def __init__(self, d: int) -> None:
        self.d = d
        self._shift: Float[Tensor, " d"] | None = None
        self._power = 0
        self._n = 0
        self._moved = torch.zeros(d, dtype=torch.float64)
        self._base = torch.zeros(d, dtype=torch.float64)
        self._squares = np.zeros(2)

    def update(self, base: Float[Tensor, "tokens d"], tuned: Float[Tensor, "tokens d"]) -> None:
        """Add paired activations of the same tokens.

        Raises:
            ValueError: a width other than the one announced, views that do not pair up, values
                that are not finite.
        """
        refuse_unusable("displacement", same_width=True, axes=2, base=base, tuned=tuned)
        if base.shape[1] != self.d:
            raise ValueError(f"Displacement was made for width {self.d}, got {base.shape[1]}")
        if not len(base):
            return
        if self._shift is None:
            self._power = exponent(base)
        wide, other = (
            torch.ldexp(v.double().cpu(), torch.tensor(-self._power)) for v in (base, tuned)
        )
        if self._shift is None:
            self._shift = wide.mean(0)  # keeps the sums small; variance does not depend on it
        moved, spread = other - wide, wide - self._shift
        self._n += len(base)
        self._moved += moved.sum(0)
        self._base += spread.sum(0)
        self._squares += np.array([float(moved.square().sum()), float(spread.square().sum())])

    def value(self) -> Moved:
        """
        Raises:
            ValueError: nothing was added, the base is constant over tokens, or the values lie so far
                apart that their squares overflow.
        """
        if self._shift is None:
            raise ValueError("Displacement.value: no tokens were added; call update first")
        offset, centre = (float(v.square().sum()) for v in (self._moved, self._base))
        sums = dict(zip(("|tuned - base|^2", "|base|^2"), self._squares.tolist(), strict=True))
        refuse_overflow("displacement", **sums, **{"|offset|^2": offset})
        _refuse_constant(self._squares[1] - centre / self._n, self._n, self._shift)
        relative, share = _measures(np.array([[self._n, *self._squares, offset, centre]]))
        return Moved(float(relative[0]), float(share[0]))


def displacement(
    base: Float[Tensor, "tokens d"],
    tuned: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> GroupedMoved:
    """Relative displacement and offset share with intervals from resampled documents.

    First order in the change, unlike CKA, and sensitive to a constant offset, to which CKA is
    blind.

    Args:
        groups: document of each token.

    Raises:
        ValueError: no tokens, views that do not pair up, values that are not finite or overflow, a
            base that is constant over tokens, or a level outside 0..1.

    Source: ours; the offset share is what activation difference lenses read (arXiv:2510.13900).
    """
    refuse_level(level)
    views = {"base": base, "tuned": tuned}
    refuse_unusable("displacement", same_width=True, axes=2, groups=groups, **views)
    whole = Displacement(base.shape[1])
    whole.update(base, tuned)
    value = whole.value()
    wide, other = exactly_scaled(base, tuned, by=base)
    sums = _document_sums(other - wide, wide - wide.mean(0), groups)
    if len(sums.n) < 2:
        return GroupedMoved(value.relative, None, None, value.offset_share, None, None)
    weights = resample_counts(len(sums.n), draws, seed)
    totals = np.stack(
        [
            weights @ sums.n,
            weights @ sums.moved_squares,
            weights @ sums.base_squares,
            np.square(weights @ sums.moved).sum(1),
            np.square(weights @ sums.base).sum(1),
        ],
        axis=1,
    )
    relative, share = _measures(totals)
    return GroupedMoved(
        value.relative,
        *percentiles(relative, level),
        value.offset_share,
        *percentiles(share, level),
    )


class _Sums(NamedTuple):
    n: Float[np.ndarray, " documents"]
    moved_squares: Float[np.ndarray, " documents"]
    base_squares: Float[np.ndarray, " documents"]
    moved: Float[np.ndarray, "documents d"]
    base: Float[np.ndarray, "documents d"]


def _document_sums(
    moved: Float[Tensor, "tokens d"],
    base: Float[Tensor, "tokens d"],
    groups: Shaped[Tensor, " tokens"],
) -> _Sums:
    _, inverse, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    inverse = inverse.to(moved.device)

    def add(values: Tensor) -> np.ndarray:
        zeros = values.new_zeros(len(counts), *values.shape[1:])
        return zeros.index_add(0, inverse, values).cpu().numpy()

    squares = add(moved.square().sum(1)), add(base.square().sum(1))
    return _Sums(counts.double().cpu().numpy(), *squares, add(moved), add(base))


def _measures(
    totals: Float[np.ndarray, "rows 5"],
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Both measures from n, sum|moved|^2, sum|base|^2, |sum moved|^2 and |sum base|^2."""
    n, moved, base, offset, centre = totals.T
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample may have no variance at all
        relative = np.sqrt(moved / (base - centre / n))
        share = np.where(moved > 0, np.minimum(offset / (n * moved), 1.0), 0.0)
    return relative, share


def _refuse_constant(variance: float, n: int, mean: Float[Tensor, " d"]) -> None:
    if not variance > 1e-24 * n * float(mean.square().sum()):
        raise ValueError(
            f"base activations are constant over their {n} tokens, so nothing can be relative to "
            "their spread; drop that layer"
        )
