"""Inner change beside its nulls: what one measured number is against the null draws. No Streamlit.

A null draw is the same measurement where nothing was learned; draws of one control are pooled over
the experiments of one model and hook, so that there is more than one.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

CONTROLS = {"seed": "other seed", "random_lora": "random LoRA"}
"""Controls of table ``null_layer``, as they are called on the page."""
GUARD = 2.0
"""In-sample over held-out ratio above which the in-sample number is withheld: two dictionaries of 512
synthetic tokens score tens of thousands in sample and 1.1 held out."""
LIMITED = 0.9
"""Share of the bound 1 / (1 - FVE) from which a ratio says more of its denominator than of change."""
SATURATED = 0.99
"""FVE of the own dictionary above which its error is too small to divide by."""

ENOUGH = 3
"""Null draws that a z needs: the spread of two is uncertain by about 75 %."""
FEW = f"z needs {ENOUGH} draws"


class Against(NamedTuple):
    """One measured number against the null draws of one control."""

    draws: tuple[float, ...]
    over: float | None
    """Measured divided by the mean draw; None without draws, or where that mean is not positive."""
    z: float | None
    """(ln measured - mean ln draws) / sd of ln draws, with n - 1 in the sd."""
    why: str
    """Why there is no z; empty when there is one."""


class Depth(NamedTuple):
    """One dictionary depth: its row of ``store.read.layers``, its nulls, its two warning lights."""

    row: dict[str, object]
    ratio: dict[str, Against]
    """By control."""
    excess: tuple[float, ...]
    """Null draws of excess FVU, all controls."""
    centred: tuple[float, ...]
    overfit: float | None
    """In-sample over held-out ratio; None where one of them was not measured."""
    limited: str
    """Why the ratio is denominator-limited; empty when it is not."""


def against(value: float | None, draws: Iterable[float | None]) -> Against:
    """A ratio against null draws of it. z needs ``ENOUGH`` draws that differ, and positive values."""
    known = tuple(d for d in draws if d is not None)
    if value is None:
        return Against(known, None, None, "it was not measured")
    if not known:
        return Against((), None, None, "no null draw was measured")
    mean = statistics.fmean(known)
    over = value / mean if mean > 0 else None
    if len(known) < ENOUGH:
        return Against(known, over, None, FEW)
    if min(*known, value) <= 0:
        return Against(known, over, None, "a value without a logarithm is among them")
    logs = [math.log(d) for d in known]
    spread = statistics.stdev(logs)
    if spread < 1e-12:
        return Against(known, over, None, "the null draws are all equal")
    return Against(known, over, (math.log(value) - statistics.fmean(logs)) / spread, "")


def pool(null_layers: pl.DataFrame, experiments: pl.DataFrame, experiment_id: str) -> pl.DataFrame:
    """Null draws of every experiment with the model and hook of one.

    Args:
        null_layers: ``lib.store.nulls.null_layers``.
        experiments: ``lib.store.read.experiments``.
    """
    own = experiments.filter(experiment_id=experiment_id)
    alike = experiments.join(own, on=["base_model", "hook"], how="semi", nulls_equal=True)
    return null_layers.join(alike.select("experiment_id"), on="experiment_id", how="semi")


def depths(layers: pl.DataFrame, draws: pl.DataFrame) -> list[Depth]:
    """Every dictionary depth of one experiment, ascending.

    Args:
        layers: ``store.read.layers`` of one experiment.
        draws: ``pool`` of its nulls.
    """
    found = []
    for row in layers.drop_nulls("ratio").sort("layer").iter_rows(named=True):
        at = draws.filter(layer=row["layer"])
        found.append(
            Depth(
                row,
                {c: against(row["ratio"], at.filter(control=c)["ratio"]) for c in CONTROLS},
                *(tuple(at[c].drop_nulls()) for c in ("excess_fvu", "ratio_centred")),
                overfit(row["ratio"], row["ratio_in_sample"]),
                limited(row["ratio"], row["ratio_bound"], row["fve_self"]),
            )
        )
    return found


def peak(value: float | None, draws: pl.DataFrame) -> dict[str, Against]:
    """The largest ratio over depths against draws that each take their own largest, by control."""
    largest = (
        draws.drop_nulls("ratio").group_by("control", "experiment_id", "draw").agg(pl.max("ratio"))
    )
    return {
        c: against(value, sorted(largest.filter(control=c)["ratio"].to_list())) for c in CONTROLS
    }


def overfit(held_out: float | None, in_sample: float | None) -> float | None:
    """In-sample ratio over the held-out one; above ``GUARD`` the former is overfitting."""
    return None if held_out is None or in_sample is None else in_sample / held_out


def limited(ratio: float | None, bound: float | None, fve_self: float | None) -> str:
    """Why a ratio measures its denominator more than a change; empty when it does not.

    Either the base dictionary does nearly as badly as the mean, so the ratio is about 1/(1 - FVE)
    whatever changed, or the own error is under 1 % of the variance and small errors of it count.
    """
    if ratio is not None and bound is not None and bound > 1 and ratio >= LIMITED * bound:
        return f"it reaches {ratio / bound:.0%} of the bound".replace("%", " %")
    if fve_self is not None and fve_self > SATURATED:
        return f"FVE self is above {SATURATED}"
    return ""


def span(values: Sequence[float], form: str = ".3f") -> str:
    """``1.004 (n = 4: 0.991 to 1.020)``: mean, count and range of null draws."""
    if not values:
        return "not measured"
    mean = f"{statistics.fmean(values):{form}}".replace("-", "\u2212")
    if len(values) == 1:
        return f"{mean} (n = 1)"
    ends = f"{min(values):{form}} to {max(values):{form}}".replace("-", "\u2212")
    return f"{mean} (n = {len(values)}: {ends})"
