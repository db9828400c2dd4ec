"""How similar two views of the same tokens are: linear CKA, plain and debiased, also streamed."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from lib.metrics.hsic import Moments, cka_ratio, hsic_1_gram, refuse_constant, refuse_few
from lib.metrics.inputs import exactly_scaled, exponent, refuse_not_finite, refuse_unusable
from lib.metrics.intervals import jackknife_interval
from lib.metrics.shapes import refuse_level

MAX_BLOCKS = 20


class GroupedCKA(NamedTuple):
    """Debiased linear CKA with its interval over documents; dimensionless."""

    value: float
    low: float | None
    """None when there are fewer than two documents."""
    high: float | None


def linear_cka(x: Float[Tensor, "tokens d_x"], y: Float[Tensor, "tokens d_y"]) -> float:
    """Linear CKA between two views of the same tokens.

    Dimensionless, in [0, 1]; 1 means equal up to rotation, isotropic scale and a constant offset.
    Biased towards 1 when ``tokens`` is not much larger than the widths: use ``debiased_cka`` there.

    Raises:
        ValueError: fewer than 3 tokens (two give 1 whatever they are), views that do not pair up or
            are no matrix, values that are not finite, or a view that is constant over tokens.

    Source: Kornblith et al. 2019, arXiv:1905.00414, linear kernel.
    """
    return _whole(x, y, debiased=False)


def debiased_cka(x: Float[Tensor, "tokens d_x"], y: Float[Tensor, "tokens d_y"]) -> float:
    """Linear CKA with each HSIC replaced by its unbiased estimator HSIC_1.

    In [-1, 1], about 0 for independent views whatever the widths; slightly negative values are
    noise around 0. Memory O(min(tokens, d)^2).

    Raises:
        ValueError: fewer than 4 tokens, views that do not pair up or are no matrix, values that are
            not finite, or a view that is constant over (nearly all) tokens.

    Source: Song et al. 2012 (HSIC_1); Nguyen, Raghu, Kornblith 2021, arXiv:2010.15327.
    """
    return _whole(x, y, debiased=True)


class StreamingCKA:
    """The same numbers from batches, in one pass and O(d^2) memory.

    Keeps sums only, so batching cannot change the value beyond float64 rounding (about 1e-12). Both
    estimators are unchanged when a constant is added to a view, so the first batch's mean is taken
    off everything to keep the sums small.
    """

    def __init__(self, d_x: int, d_y: int) -> None:
        self.d_x, self.d_y = d_x, d_y
        self._shift: tuple[Tensor, Tensor] | None = None
        self._moments: Moments | None = None
        self._powers = (0, 0)

    def update(self, x: Float[Tensor, "tokens d_x"], y: Float[Tensor, "tokens d_y"]) -> None:
        """Add one batch of paired activations.

        Raises:
            ValueError: widths other than the ones announced, views that do not pair up, values
                that are not finite.
        """
        refuse_unusable("CKA", axes=2, x=x, y=y)
        if (x.shape[1], y.shape[1]) != (self.d_x, self.d_y):
            raise ValueError(
                f"StreamingCKA was made for widths {self.d_x} and {self.d_y}, "
                f"got {x.shape[1]} and {y.shape[1]}"
            )
        if not len(x):
            return
        x, y = x.double(), y.double()
        if self._shift is None:
            self._powers = exponent(x), exponent(y)
        x, y = (
            torch.ldexp(v, torch.tensor(-power))
            for v, power in zip((x, y), self._powers, strict=True)
        )
        if self._shift is None:
            self._shift = x.mean(0), y.mean(0)
        batch = Moments.of(x - self._shift[0], y - self._shift[1])
        self._moments = batch if self._moments is None else self._moments.plus(batch)

    def value(self, debiased: bool = True) -> float:
        """CKA of all tokens so far; see ``debiased_cka`` and ``linear_cka``.

        Raises:
            ValueError: nothing was added, or as for the whole-batch functions.
        """
        if self._moments is None or self._shift is None:
            raise ValueError("StreamingCKA.value: no tokens were added; call update first")
        return self._moments.cka(debiased, *self._shift)


def grouped_cka(
    x: Float[Tensor, "tokens d_x"],
    y: Float[Tensor, "tokens d_y"],
    groups: Shaped[Tensor, " tokens"],
    draws: int = MAX_BLOCKS,
    seed: int = 0,
    level: float = 0.95,
) -> GroupedCKA:
    """Debiased CKA with an interval over documents.

    The interval is a delete-a-group jackknife, not a bootstrap: a resample repeats documents, a
    repeated token correlates perfectly with its copy, and HSIC_1 would be biased upwards by just
    what it was made to avoid. Documents are dealt into at most ``draws`` (never over 20) blocks
    of about equal length; CKA is recomputed without each. Moments add up, so a block costs its
    own tokens only. The interval is made for log(1 - CKA), where it is near symmetric, with
    Student's t.

    Args:
        groups: document of each token.

    Raises:
        ValueError: as ``debiased_cka``, for the whole or without one block; a level outside 0..1.
    """
    refuse_level(level)
    refuse_unusable("CKA", axes=2, groups=groups, x=x, y=y)
    left_out = jackknife_cka(x, y, document_blocks(groups, min(draws, MAX_BLOCKS), seed))
    return cka_interval(left_out, level)


class LeftOut(NamedTuple):
    """Debiased CKA of all tokens, and again without each block of documents."""

    value: float
    without: Float[np.ndarray, " blocks"]
    """Empty when there is a single block."""


def jackknife_cka(
    x: Float[Tensor, "tokens d_x"],
    y: Float[Tensor, "tokens d_y"],
    block_of: Int[Tensor, " tokens"],
) -> LeftOut:
    """Debiased CKA with each block left out, for numbers that combine layers: give every layer the
    same blocks (``document_blocks``, restricted to the tokens that the layer keeps).

    Raises:
        ValueError: as ``debiased_cka``, for the whole or without one block.
    """
    refuse_unusable("CKA", axes=2, groups=block_of, x=x, y=y)
    x, y = exactly_scaled(x)[0], exactly_scaled(y)[0]
    shift = x.mean(0), y.mean(0)
    x, y = x - shift[0], y - shift[1]
    whole = Moments.of(x, y)
    value = whole.cka(True, *shift)
    blocks = int(block_of.max()) + 1
    without = []
    for block in range(blocks if blocks > 1 else 0):
        at = block_of == block
        without.append(whole.plus(Moments.of(x[at], y[at]), sign=-1).cka(True, *shift))
    return LeftOut(value, np.array(without))


def cka_interval(left_out: LeftOut, level: float = 0.95) -> GroupedCKA:
    """The interval of ``grouped_cka``; None where there is a single block.

    Raises:
        ValueError: a CKA that is NaN or infinite, or a level outside 0..1.
    """
    refuse_level(level)
    value, without = left_out
    refuse_not_finite("the interval of CKA", "CKA", np.array([value, *without]))
    if not len(without):
        return GroupedCKA(value, None, None)
    left = np.array([value, *without])
    logged = bool((left < 1 - 1e-12).all())
    z = np.log1p(-left) if logged else left
    ends = jackknife_interval(z[:1], z[1:, None], level)[0]
    low, high = sorted(-np.expm1(e) if logged else e for e in ends)
    return GroupedCKA(value, max(-1.0, float(low)), min(1.0, float(high)))


def _whole(x: Tensor, y: Tensor, debiased: bool) -> float:
    refuse_unusable("CKA", axes=2, x=x, y=y)
    if not len(x):
        raise ValueError("CKA of no tokens is undefined; check that the text is not empty")
    x, y = exactly_scaled(x)[0], exactly_scaled(y)[0]
    shift = x.mean(0), y.mean(0)
    x, y = x - shift[0], y - shift[1]
    if max(x.shape[1], y.shape[1]) < len(x):
        return Moments.of(x, y).cka(debiased, *shift)
    n = len(x)
    refuse_few(n)
    refuse_constant("x", float(x.square().sum()), n, shift[0])
    refuse_constant("y", float(y.square().sum()), n, shift[1])
    k, m = x @ x.T, y @ y.T
    if not debiased:
        return cka_ratio(*(float((a * b).sum()) for a, b in ((k, m), (k, k), (m, m))))
    for gram in (k, m):
        gram.fill_diagonal_(0)
    return cka_ratio(*(hsic_1_gram(a, b) for a, b in ((k, m), (k, k), (m, m))))


def document_blocks(
    groups: Shaped[Tensor, " tokens"], most: int = MAX_BLOCKS, seed: int = 0
) -> Int[Tensor, " tokens"]:
    """Block of each token, 0, 1, ...: documents longest first, each to the shortest block so far."""
    _, inverse, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    lengths = counts.cpu().numpy()
    order = np.random.default_rng(seed).permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    filled = np.zeros(max(1, min(most, len(lengths))))
    block = np.zeros(len(lengths), dtype=np.int64)
    for document in order:
        block[document] = filled.argmin()
        filled[block[document]] += lengths[document]
    return torch.from_numpy(block).to(inverse.device)[inverse]
