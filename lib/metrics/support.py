"""How certain a regime is: P(label) under sampling error, and which axis is undecided."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lib.metrics.regimes import QUARTERS, Regime, classify, distance
from lib.metrics.shapes import refuse_other_length

Axis = Literal["inner", "outer"]
_WIDTH = 2 * 1.959964  # of a 95 % interval, in standard deviations
_FAR = 20.0  # natural-log units: t with one degree of freedom has draws past what exp can hold


class Sampled(NamedTuple):
    """One axis of one experiment as changes from no change, with what sampling does to it."""

    value: float
    cut: float
    values: Float[np.ndarray, " draws"]
    cuts: Float[np.ndarray, " draws"]
    """The cut of each draw: constant for an absolute cut, redrawn for one made from the points."""


class Judgement(NamedTuple):
    label: Regime
    undecided: tuple[Axis, ...]
    """Axes on which it is not settled that the value is high or low; empty for a decided label."""
    support: dict[str, float]
    """P(label) of the four decided labels, without a margin; sums to 1."""


def sample_axis(
    values: Float[np.ndarray, " n"],
    low: Float[np.ndarray, " n"],
    high: Float[np.ndarray, " n"],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Float[np.ndarray, "draws n"]:
    """Draws of each value from its 95 % interval, independent of each other.

    Log-normal with the interval's width where the whole interval is positive; normal where it
    reaches 0 (no logarithm exists); the value itself where the interval is NaN. A stand-in for
    draws over documents when only their interval is stored.

    Args:
        values, low, high: changes from no change (a ratio minus 1), in one unit.

    Raises:
        ValueError: an interval whose low end lies above its high end, an infinite end or value, or
            not one interval for each value.
    """
    refuse_other_length("a draw of each value", len(values), values=values, low=low, high=high)
    if np.isinf([values, low, high]).any():
        raise ValueError(
            "a draw of each value is not defined because a value or an end of its interval is "
            "infinite; leave out what was not measured"
        )
    if (low > high).any():
        raise ValueError("an interval's low end lies above its high end; measure again")
    noise = np.random.default_rng(seed).standard_normal((draws, len(values)))
    positive = np.minimum(low, values) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(np.where(positive, high / low, 1.0)) / _WIDTH
        plain = np.where(np.isnan(high - low), 0.0, (high - low) / _WIDTH)
    return np.where(positive, values * np.exp(logs * noise), values + plain * noise)


def with_seeds(
    draws: Float[np.ndarray, "draws n"],
    values: Float[np.ndarray, " n"],
    sd: Float[np.ndarray, " n"],
    seeds: Int[np.ndarray, " n"],
    *,
    seed: int = 0,
) -> Float[np.ndarray, "draws n"]:
    """Draws of each value, a mean over training seeds, with the error of that mean added.

    The error is Student's t with seeds - 1 degrees of freedom times sd / sqrt(seeds): with three
    seeds its 95 % range is 2.5 sd to either side, because three values say little about a spread.
    It acts on the logarithm where the value is positive (sd / value is the spread there), so that a
    draw keeps its sign. A value with one seed keeps its draws: its spread is unknown, not zero.

    Args:
        draws: as ``sample_axis`` gives them, of the error over documents.
        values: changes from no change, means over seeds.
        sd: standard deviation over seeds, in the unit of ``values``; NaN with one seed.
        seeds: trainings behind each value, at least 1.

    Raises:
        ValueError: two or more seeds without a finite, non-negative sd.
    """
    rng = np.random.default_rng(seed)
    found = draws.copy()
    for i in np.flatnonzero(seeds > 1):
        if not (np.isfinite(sd[i]) and sd[i] >= 0):
            raise ValueError(f"{seeds[i]} seeds need a spread of 0 or more, got {sd[i]}")
        noise = rng.standard_t(seeds[i] - 1, len(draws)) * sd[i] / np.sqrt(seeds[i])
        if values[i] > 0:
            found[:, i] *= np.exp(np.clip(noise / values[i], -_FAR, _FAR))
        else:
            found[:, i] += noise
    return found


def middle_of_draws(draws: Float[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
    """The cut of ``median_cuts`` in every draw; where a middle value is not positive, 0.

    Raises:
        ValueError: no column, or a NaN: sorted last, it would move the median as the largest value.
    """
    n = draws.shape[1]
    if n == 0 or np.isnan(draws).any():
        held = (
            "no values" if n == 0 else f"NaN in {int(np.isnan(draws).any(0).sum())} of {n} values"
        )
        raise ValueError(f"no median of each draw: {held}; leave out what was not measured")
    ordered = np.sort(draws, axis=1)
    pair = ordered[:, (n - 1) // 2], ordered[:, n // 2]
    return np.sqrt(np.maximum(pair[0], 0.0)) * np.sqrt(np.maximum(pair[1], 0.0))


def judge(
    internal: Sampled, output: Sampled, margin: float | int = 0.25, support: float = 0.9
) -> Judgement:
    """The label of one experiment, how certain it is, and which axis is undecided if it is not.

    An axis is undecided when its value lies in the margin band of ``classify`` or when fewer than
    ``support`` of the draws agree on high or low. Where each axis is decided but the label as a
    whole has less than ``support``, the weaker axis is named.

    Raises:
        ValueError: as ``classify``; no draw, a draw that is NaN, values and cuts that do not pair up,
            or a support outside 0..1.
    """
    if not (margin >= 0 and 0 <= support <= 1):
        raise ValueError(f"margin {margin} must be 0 or more, and support {support} within 0..1")
    plain = classify(internal.value, output.value, internal.cut, output.cut, 0.0)
    for name, axis in (("inner", internal), ("outer", output)):
        n = len(internal.values)
        refuse_other_length(f"the {name} axis' support", n, values=axis.values, cuts=axis.cuts)
        if not n or np.isnan([axis.values, axis.cuts]).any():
            raise ValueError(
                f"the support of a label is not defined because the {name} axis has "
                f"{'NaN among its' if n else 'no'} draws; leave out what was not measured"
            )
    axes: dict[Axis, Sampled] = {"inner": internal, "outer": output}
    above = {name: axis.values >= axis.cuts for name, axis in axes.items()}
    shares = {
        label: float(((above["inner"] == inside) & (above["outer"] == outside)).mean())
        for label, (inside, outside) in QUARTERS.items()
    }
    agree = {
        name: float((above[name] == (distance(name, axis.value, axis.cut) >= 0)).mean())
        for name, axis in axes.items()
    }
    undecided = tuple(
        name
        for name, axis in axes.items()
        if abs(distance(name, axis.value, axis.cut)) < margin or agree[name] < support
    )
    if not undecided and shares[plain] < support:
        undecided = (min(agree, key=agree.__getitem__),)
    return Judgement("indeterminate" if undecided else plain, undecided, shares)
