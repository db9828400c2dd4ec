"""HSIC_1 and its biased form: from two Gram matrices, or from sums that add up over batches."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lib.metrics.shapes import refuse_overflow

_CONSTANT = 1e-24
"""Variance below this share of the squared mean is rounding of float64, not activity."""


class Side(NamedTuple):
    """Sums for HSIC_1 between two views u and v; r = squared norm of a token's vector."""

    uv: Tensor
    """sum u v', (d_u, d_v)"""
    ru_rv: Tensor
    """sum r_u r_v, scalar"""
    ru_v: Tensor
    """sum r_u v, (d_v,)"""
    rv_u: Tensor
    """sum r_v u, (d_u,)"""

    @staticmethod
    def of(u: Float[Tensor, "tokens d_u"], v: Float[Tensor, "tokens d_v"]) -> "Side":
        ru, rv = u.square().sum(1), v.square().sum(1)
        return Side(u.T @ v, ru @ rv, ru @ v, rv @ u)

    def hsic_1(self, n: int, su: Tensor, sv: Tensor, nu: Tensor, nv: Tensor) -> float:
        """With K = U U' without its diagonal: K1 = U su - r_u, and likewise for L; expand 1'KL1."""
        rows = su @ self.uv @ sv - self.ru_v @ sv - self.rv_u @ su + self.ru_rv
        trace = self.uv.square().sum() - self.ru_rv
        return _hsic_1(n, float(trace), float(su @ su - nu), float(sv @ sv - nv), float(rows))

    def centred(self, n: int, su: Tensor, sv: Tensor) -> float:
        """Squared Frobenius norm of the cross covariance (times n): the biased HSIC."""
        return float((self.uv - torch.outer(su, sv) / n).square().sum())


class Moments(NamedTuple):
    n: int
    sx: Tensor
    sy: Tensor
    nx: Tensor
    ny: Tensor
    xy: Side
    xx: Side
    yy: Side

    @staticmethod
    def of(x: Float[Tensor, "tokens d_x"], y: Float[Tensor, "tokens d_y"]) -> "Moments":
        norms = x.square().sum(), y.square().sum()
        sides = Side.of(x, y), Side.of(x, x), Side.of(y, y)
        return Moments(len(x), x.sum(0), y.sum(0), *norms, *sides)

    def plus(self, other: "Moments", sign: int = 1) -> "Moments":
        plain = [a + sign * b for a, b in zip(self[:5], other[:5], strict=True)]
        sides = [
            Side(*(a + sign * b for a, b in zip(mine, theirs, strict=True)))
            for mine, theirs in zip(self[5:], other[5:], strict=True)
        ]
        return Moments(*plain, *sides)

    def cka(self, debiased: bool, shift_x: Tensor, shift_y: Tensor) -> float:
        n, sx, sy = self.n, self.sx, self.sy
        refuse_few(n)
        refuse_overflow("CKA", **{"|x|^2": float(self.nx), "|y|^2": float(self.ny)})
        refuse_constant("x", float(self.nx - sx @ sx / n), n, shift_x)
        refuse_constant("y", float(self.ny - sy @ sy / n), n, shift_y)
        if not debiased:
            cross = self.xy.centred(n, sx, sy)
            return cka_ratio(cross, self.xx.centred(n, sx, sx), self.yy.centred(n, sy, sy))
        return cka_ratio(
            self.xy.hsic_1(n, sx, sy, self.nx, self.ny),
            self.xx.hsic_1(n, sx, sx, self.nx, self.nx),
            self.yy.hsic_1(n, sy, sy, self.ny, self.ny),
        )


def _hsic_1(n: int, trace: float, sum_k: float, sum_l: float, rows: float) -> float:
    """Song et al. 2012 from tr(KL), 1'K1, 1'L1 and 1'KL1 of kernels with zero diagonals."""
    if n < 4:
        raise ValueError(f"debiased CKA needs at least 4 tokens, got {n}; use more text")
    total = trace + sum_k * sum_l / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows
    return total / (n * (n - 3))


def hsic_1_gram(k: Float[Tensor, "tokens tokens"], m: Float[Tensor, "tokens tokens"]) -> float:
    sums = k.sum(0), m.sum(0)
    trace, rows = float((k * m).sum()), float(sums[0] @ sums[1])
    return _hsic_1(len(k), trace, float(sums[0].sum()), float(sums[1].sum()), rows)


def cka_ratio(cross: float, own_x: float, own_y: float) -> float:
    refuse_overflow("CKA", **{"the HSIC of x": own_x, "of y": own_y, "of both": cross})
    for name, own in (("x", own_x), ("y", own_y)):
        if not own > 0:
            raise ValueError(
                f"CKA is undefined: {name} varies in too few tokens (its HSIC is {own:.3g}); "
                "drop that layer or use more text"
            )
    # the root of the product, so that identical views give exactly 1
    return float(np.clip(cross / (own_x * own_y) ** 0.5, -1.0, 1.0))


def refuse_few(n: int) -> None:
    if n < 3:
        raise ValueError(
            f"CKA is not defined because there are {n} tokens; any two differ along one line, which "
            "gives 1 whatever they are: use more text"
        )


def refuse_constant(name: str, squares: float, n: int, mean: Float[Tensor, " d"]) -> None:
    if not squares > _CONSTANT * n * float(mean.square().sum()):
        raise ValueError(
            f"CKA is undefined: {name} is constant over its {n} tokens; drop that layer"
        )
