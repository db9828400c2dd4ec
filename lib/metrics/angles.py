"""How near two dictionaries, or two subspaces, point; and how near chance alone would have them.

A bare angle says little: two random subspaces of 380 dimensions in 3,584 lie 74 degrees apart, and a
random direction finds a cosine of 0.066 among 16,384 random rows. So every angle and cosine here has a
simulated chance level, and is to be read as a distance from it.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.metrics.inputs import refuse_not_finite
from lib.metrics.shapes import refuse_shape

_CHUNK = 1 << 22
"""Entries of the largest block of rows in memory (32 MB in float64)."""


class Closest(NamedTuple):
    """Best cosine of each direction with any row; NaN for a direction of norm 0."""

    signed: Float[Tensor, " directions"]
    """-1..1; how near the row that points most the same way is."""
    absolute: Float[Tensor, " directions"]
    """0..1; the same when a row and its opposite count as one."""


class Chance(NamedTuple):
    """What unrelated directions score, in the unit of the score."""

    mean: float
    sd: float
    """Over draws, each one a random direction or one pair of random subspaces."""
    draws: int

    def distance(self, value: float, n: int = 1) -> float:
        """(value - mean) in standard errors, for a ``value`` that is the mean of ``n`` scores.

        Counts the error of the simulated mean too; NaN where chance does not vary.

        Raises:
            ValueError: a mean of no scores, or a chance of no draws.
        """
        if n < 1 or self.draws < 1:
            raise ValueError(
                f"the distance of a mean of {n} scores from {self.draws} draws is not defined; it "
                "needs at least one of each"
            )
        error = self.sd * math.sqrt(1 / n + 1 / self.draws)
        return (value - self.mean) / error if error else math.nan


def span(rows: Float[Tensor, "rows d"], k: int | None = None) -> Float[Tensor, "d rank"]:
    """Orthonormal basis of what the rows span, in float64, or of its ``k`` strongest directions.

    Directions come by singular value, so rows that repeat or depend on each other add nothing, and
    with ``k`` the lengths of the rows matter. Rows of a half precision count as what they hold. More
    rows than d span everything: then only ``k`` makes a subspace of them.

    Raises:
        ValueError: the rows span no direction, or fewer than ``k``; a ``k`` below 1; values that are
            not finite, or no rows x d.
    """
    refuse_shape("the span", 2, rows=rows)
    refuse_not_finite("the span", "rows", rows)
    if k is not None and k < 1:
        raise ValueError(f"k counts directions of the span and must be at least 1, got {k}")
    precision = torch.finfo(rows.dtype if rows.dtype == torch.float64 else torch.float32).eps
    basis, triangle = torch.linalg.qr(rows.double().T)
    rotation, size, _ = torch.linalg.svd(triangle, full_matrices=False)
    smallest = float(size[:1].sum()) * max(rows.shape) * precision
    rank = int((size > smallest).sum())
    if rank < max(1, k or 0):
        raise ValueError(
            f"the span of {tuple(rows.shape)} rows x d has {rank} dimensions, "
            f"{max(1, k or 0)} are needed; give more directions (or a smaller k)"
        )
    return basis @ rotation[:, : k or rank]


def principal_angles(
    one: Float[Tensor, "rows d"], other: Float[Tensor, "others other_d"], k: int | None = None
) -> Float[Tensor, " angles"]:
    """Principal angles between what two sets of rows span, in degrees, 0..90, smallest first.

    As many as the smaller span has dimensions. 0 for what both hold, 90 for what is orthogonal. No
    change of basis inside either span moves them. Without ``k``, see ``span`` on dependent rows.

    Args:
        k: compare the k strongest directions of each; needed where rows outnumber d.

    Raises:
        ValueError: other widths, a set that spans no direction or fewer than ``k``, values that are
            not finite.

    Source: Bjorck & Golub 1973 (small angles from their sines: an arc cosine near 1 loses half the
        digits). As a distance of dictionaries: arXiv:2605.28896.
    """
    _same_width(one, other)
    wide, narrow = sorted((span(one, k), span(other, k)), key=lambda q: -q.shape[1])
    shared = wide.T @ narrow
    cosine = torch.linalg.svdvals(shared).clamp(max=1.0)
    sine = torch.linalg.svdvals(narrow - wide @ shared).flip(0).clamp(max=1.0)
    return torch.rad2deg(torch.where(cosine**2 < 0.5, cosine.acos(), sine.asin()))


def max_cosine(
    directions: Float[Tensor, "directions d"], dictionary: Float[Tensor, "rows other_d"]
) -> Closest:
    """Best cosine of every direction with any row of a dictionary, row by row in chunks.

    Rows of norm 0 (dead latents) are nobody's best; NaN, not defined, where the dictionary has no
    other, and for a direction of norm 0.

    Raises:
        ValueError: no direction, other widths, values that are not finite.

    Source: max cosine of arXiv:2605.28896 (signed).
    """
    _same_width(directions, dictionary)
    if not len(directions):
        raise ValueError("the max cosine is not defined because there is no direction; give one")
    refuse_not_finite("the max cosine", "directions", directions)
    refuse_not_finite("the max cosine", "dictionary", dictionary)
    unit = _unit(directions)
    best = torch.full((2, len(unit)), -torch.inf, dtype=torch.float64, device=unit.device)
    for part in dictionary.split(_rows_at_once(dictionary.shape[1])):
        rows = _unit(part)
        cosine = unit @ rows[~rows.isnan().any(1)].T
        if cosine.shape[1]:
            found = torch.stack([cosine.amax(1), cosine.abs().amax(1)])
            best = torch.maximum(best, found)
    return Closest(*best.masked_fill(best.isinf(), torch.nan).clamp(-1.0, 1.0))


def chance_cosine(
    rows: int, d: int, *, absolute: bool = False, directions: int = 64, seed: int = 0
) -> Chance:
    """``max_cosine`` of one random direction against ``rows`` random rows of width d.

    All directions meet the same rows, as those of a dictionary do.

    Raises:
        ValueError: no rows, d below 2 (where every two directions are parallel), or fewer than two
            directions.
    """
    if rows < 1 or d < 2 or directions < 2:
        raise ValueError(
            f"the chance of a cosine needs at least 1 row, d of 2 and 2 directions; got {rows} rows, "
            f"d {d}, {directions} directions"
        )
    draw = torch.Generator().manual_seed(seed)
    unit = _unit(torch.randn(directions, d, generator=draw))
    best = torch.full((directions,), -1.0, dtype=torch.float64)
    for start in range(0, rows, _rows_at_once(d)):
        count = min(_rows_at_once(d), rows - start)
        cosine = unit @ _unit(torch.randn(count, d, generator=draw)).T
        best = torch.maximum(best, (cosine.abs() if absolute else cosine).amax(1))
    return Chance(float(best.mean()), float(best.std()), directions)


def chance_angle(k: int, other: int, d: int, *, draws: int = 8, seed: int = 0) -> Chance:
    """Mean principal angle between random subspaces of ``k`` and ``other`` dimensions, in degrees.

    One of the two may be the first coordinates: only the angle between them is random. A draw costs
    one QR of d x min(k, other).

    Raises:
        ValueError: a subspace without dimensions or with more than d, or fewer than two draws.
    """
    few, many = sorted((k, other))
    if not 1 <= few <= many <= d or draws < 2:
        raise ValueError(
            f"the chance of an angle needs subspaces of 1..d dimensions and at least 2 draws; got {k} "
            f"and {other} of {d}, {draws} draws"
        )
    draw = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(draws):
        basis = torch.linalg.qr(torch.randn(d, few, generator=draw))[0]
        cosine = torch.linalg.svdvals(basis[:many]).clamp(max=1.0)
        means.append(float(torch.rad2deg(cosine.double().acos()).mean()))
    found = torch.tensor(means, dtype=torch.float64)
    return Chance(float(found.mean()), float(found.std()), draws)


def upper_cosine(rows: int, d: int) -> float:
    """sqrt(2 ln rows / d): what the best of ``rows`` random cosines stays below on average.

    For large d; the simulated mean is 5-15 % smaller. NaN without rows or width.
    """
    return math.sqrt(2 * math.log(rows) / d) if rows >= 1 and d >= 1 else math.nan


def _unit(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
    """Rows of norm 1 in float64; NaN for those of norm 0."""
    wide = rows.double()
    if wide.numel():  # over a power of two each, which rounds nothing and keeps squares in reach
        wide = torch.ldexp(wide, -torch.frexp(wide.abs().amax(1, keepdim=True)).exponent)
    return wide / wide.norm(dim=1, keepdim=True)


def _rows_at_once(d: int) -> int:
    return max(1, _CHUNK // d)


def _same_width(one: Tensor, other: Tensor) -> None:
    refuse_shape("an angle", 2, **{"one side": one, "the other side": other})
    if not one.shape[1]:
        raise ValueError("directions of width 0 have no angle; give rows with coordinates")
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"directions of width {one.shape[1]} and {other.shape[1]} have no angle; take both from "
            "the same place of models of one width"
        )
