"""Which of four regimes a fine-tune falls into, from one internal and one output number."""

import math
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import numpy as np

Regime = Literal[
    "near-unchanged",
    "latent divergence",
    "behavioural capture",
    "coupled adaptation",
    "indeterminate",
]


class Cuts(NamedTuple):
    internal: float
    output: float


def classify(
    internal: float | int,
    output: float | int,
    internal_cut: float | int,
    output_cut: float | int,
    margin: float | int = 0.25,
) -> Regime:
    """Label of one experiment, relative to cuts that hold for its scale and its evaluation text.

    =====================  ========  ======
    label                  internal  output
    =====================  ========  ======
    near-unchanged         low       low
    latent divergence      high      low
    behavioural capture    low       high
    coupled adaptation     high      high
    =====================  ========  ======

    A value within ``margin`` natural-log units of its cut (0.25: a factor of 1.28) could be on
    either side, and the label is ``indeterminate``; ``margin=0`` switches the band off. A value
    at the cut is then high. Zero and negative values (no KL at all, an excess error below the
    self error) are low. Only value/cut enters, so rescaling an axis together with its cut changes
    no label.

    Raises:
        ValueError: a value is NaN, a cut is not positive and finite, or the margin is negative.

    Source: the four regimes are those of the post on internal-output decorrelation (A. Blackwell);
    the margin band is ours.
    """
    if not margin >= 0:
        raise ValueError(f"margin must be 0 or more natural-log units, got {margin}")
    inside = _distance("internal", internal, internal_cut)
    outside = _distance("output", output, output_cut)
    if abs(inside) < margin or abs(outside) < margin:
        return "indeterminate"
    if inside >= 0:
        return "coupled adaptation" if outside >= 0 else "latent divergence"
    return "behavioural capture" if outside >= 0 else "near-unchanged"


def median_cuts(internal: Collection[Any], output: Collection[Any]) -> Cuts:
    """Cuts that leave half of the experiments on each side of either axis.

    The geometric midpoint of the two middle values. With an odd number of experiments both middle
    values are the median itself, whose own label is then indeterminate under any margin. Such cuts
    are relative to the experiments at hand: adding one may relabel the others.

    Raises:
        ValueError: fewer than two experiments, or a middle value that is not positive.
    """
    return Cuts(_middle("internal", internal), _middle("output", output))


def _distance(axis: str, value: float | int, cut: float | int) -> float:
    """Natural-log distance above the cut; minus infinity for values that are not positive."""
    if math.isnan(value):
        raise ValueError(f"the {axis} value is NaN: not measured, so it has no regime")
    if not (cut > 0 and math.isfinite(cut)):
        raise ValueError(f"the {axis} cut must be positive and finite, got {cut}")
    return math.log(value / cut) if value > 0 else -math.inf


def _middle(axis: str, values: Collection[Any]) -> float:
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    n = len(ordered)
    if n < 2:
        raise ValueError(f"median cuts need at least two experiments; the {axis} axis has {n}")
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    if not low > 0:
        raise ValueError(
            f"the middle {axis} values are {low} and {high}: no geometric midpoint exists; "
            "set absolute cuts instead"
        )
    return float(math.sqrt(low) * math.sqrt(high))
