"""Which of four regimes a fine-tune falls into, from one internal and one output number."""

import math
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import numpy as np

from lib.metrics.shapes import refuse_level, refuse_shape

Regime = Literal[
    "near-unchanged",
    "latent divergence",
    "behavioural capture",
    "coupled adaptation",
    "indeterminate",
]
QUARTERS: dict[str, tuple[bool, bool]] = {
    "near-unchanged": (False, False),
    "latent divergence": (True, False),
    "behavioural capture": (False, True),
    "coupled adaptation": (True, True),
}
"""Whether inner and outer are high, by label."""


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
        ValueError: a value is NaN or infinite, a cut is not positive and finite, or the margin is
            negative.

    Source: the four regimes are those of the post on internal-output decorrelation (A. Blackwell);
    the margin band is ours.
    """
    if not margin >= 0:
        raise ValueError(f"margin must be 0 or more natural-log units, got {margin}")
    inside = distance("internal", internal, internal_cut)
    outside = distance("output", output, output_cut)
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
        ValueError: fewer than two experiments, unequal lengths, a value that is not finite, or a
            middle value that is not positive.
    """
    if len(internal) != len(output):
        raise ValueError(
            f"{len(internal)} internal and {len(output)} output values are not of the same experiments"
        )
    return Cuts(_middle("internal", internal), _middle("output", output))


def null_cuts(
    internal_null: Collection[Any],
    output_null: Collection[Any] = (),
    *,
    no_change: float | int = 0.0,
    kl_floor: float | int = 0.0,
    practical_internal: float | int = 0.005,
    practical_output: float | int = 0.02,
    level: float = 0.95,
) -> Cuts:
    """Cuts above what the null controls reach, in the units of the two axes.

    Each cut is the ``level`` quantile of its null draws, never interpolated downwards (fewer than
    20 draws give their maximum), and at least the smallest change that is worth a name:
    ``no_change + practical_internal`` on the internal axis; three times the numerical floor and
    ``practical_output`` nats on the output axis. High then means more than chance, not more than
    half of the other experiments.

    Args:
        internal_null: the internal number of every null draw (another seed, a random adapter), taken
            as the measured one is: where that is a maximum over layers, the maximum of each draw.
        output_null: KL of every null draw in nats; may be empty, the floors still hold.
        no_change: value of the internal metric when nothing changed (1 for a ratio).

    Raises:
        ValueError: no internal null draw, a draw or a floor that is not finite, or a level outside
            0..1.
    """
    refuse_level(level)
    floors = (no_change, kl_floor, practical_internal, practical_output)
    if not all(math.isfinite(v) for v in floors):
        raise ValueError(
            f"no change, numerical floor and least changes must be finite, got {floors}"
        )
    if not len(internal_null):
        raise ValueError("no null draw of the internal axis: measure null controls first")
    inside = _upper("internal", internal_null, level)
    outside = _upper("output", output_null, level) if len(output_null) else 0.0
    return Cuts(
        max(inside, no_change + practical_internal), max(outside, 3 * kl_floor, practical_output)
    )


def metric_dependent(labels: Collection[str]) -> bool:
    """Whether labels of one experiment by several internal metrics contradict each other.

    An ``indeterminate`` one contradicts nothing: it says that this metric does not decide.
    """
    return len({label for label in labels if label != "indeterminate"}) > 1


def with_timing(label: str, earlier: Collection[tuple[bool | None, bool | None]]) -> str:
    """The label with its course, which only a trajectory can give.

    Args:
        earlier: (inner high, outer high) of the same corpus at a smaller scale, an earlier
            checkpoint or a lower rank; None = undecided. Empty = no trajectory, label unchanged.

    "delayed" behavioural capture: the output was low before. Coupled adaptation is "internal first"
    when the inner was high while the outer was still low, and "early" when the outer never was low.
    """
    known = [outside for _, outside in earlier if outside is not None]
    if label == "behavioural capture" and False in known:
        return f"delayed {label}"
    if label == "coupled adaptation" and (True, False) in set(earlier):
        return f"{label}, internal first"
    if label == "coupled adaptation" and known and all(known):
        return f"{label}, early"
    return label


def distance(axis: str, value: float | int, cut: float | int) -> float:
    """Natural-log distance above the cut; minus infinity for values that are not positive.

    Raises:
        ValueError: the value is not finite, or the cut is not positive and finite.
    """
    if not math.isfinite(value):
        found = "NaN" if math.isnan(value) else "infinite"
        raise ValueError(f"the {axis} value is {found}: not measured, so it has no regime")
    if not (cut > 0 and math.isfinite(cut)):
        raise ValueError(f"the {axis} cut must be positive and finite, got {cut}")
    return math.log(value / cut) if value > 0 else -math.inf


def _middle(axis: str, values: Collection[Any]) -> float:
    refuse_shape(f"the cut of the {axis} axis", 1, values=values)
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n < 2:
        raise ValueError(f"median cuts need at least two experiments; the {axis} axis has {n}")
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    if not np.isfinite(ordered).all():
        raise ValueError(f"the {axis} axis holds NaN or infinity: leave out what was not measured")
    if not low > 0:
        raise ValueError(
            f"the middle {axis} values are {low} and {high}: no geometric midpoint exists; "
            "set absolute cuts instead"
        )
    return float(math.sqrt(low) * math.sqrt(high))


def _upper(axis: str, draws: Collection[Any], level: float) -> float:
    refuse_shape(f"the cut of the {axis} axis", 1, draws=draws)
    values = np.asarray(draws, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"the null draws of the {axis} axis must be finite, got {values.tolist()}")
    return float(np.quantile(values, level, method="higher"))
