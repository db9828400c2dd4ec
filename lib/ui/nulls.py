"""Null draws of the store, in the form of the two axes. No Streamlit."""

from collections.abc import Collection
from typing import NamedTuple

import polars as pl

from lib.metrics.regimes import Cuts, null_cuts


class Reach(NamedTuple):
    """What the null draws of one model reach on one axis, in the axis' unit."""

    low: float
    high: float
    draws: int


class Nulls(NamedTuple):
    """What null controls gave; empty frames where none were measured."""

    layers: pl.DataFrame
    """As ``lib.store.nulls.null_layers``."""
    outputs: pl.DataFrame
    """As ``lib.store.nulls.null_outputs``, for the text of the outer axis."""

    def internal(self, model: str, column: str) -> list[float]:
        """The null value of one inner metric for every draw of a model.

        The largest over the layers of the draw, because the measured number is the largest over
        layers as well; the centred ratio and excess FVU at the layer with the largest ratio.
        """
        source = {"moved": "relative_displacement"}.get(column, column)
        by = "ratio" if source in {"ratio_centred", "excess_fvu"} else source
        known = [pl.col(c).is_finite() for c in (source, by)]
        rows = self.layers.filter(pl.col("base_model") == model, *known)
        largest = rows.sort(by, descending=True).group_by(
            "experiment_id", "control", "draw", maintain_order=True
        )
        return largest.first()[source].to_list()

    def output(self, model: str) -> list[float]:
        """KL of every null draw of a model, nats per token."""
        rows = self.outputs.filter(pl.col("base_model") == model, pl.col("kl").is_finite())
        return rows["kl"].to_list()

    def reach(self, model: str, column: str) -> tuple[Reach | None, Reach | None]:
        """Range of the null draws on the inner and the outer axis; None = not measured."""
        return _reach(self.internal(model, column)), _reach(self.output(model))


def _reach(drawn: list[float]) -> Reach | None:
    return Reach(min(drawn), max(drawn), len(drawn)) if drawn else None


def cuts(
    nulls: Nulls, model: str, rows: pl.DataFrame, column: str, no_change: float
) -> Cuts | None:
    """Cuts of one model from its null controls; None where the inner metric has none.

    Args:
        rows: of ``store.read.axes``, this model only; for the numerical floor of KL.
    """
    drawn = nulls.internal(model, column)
    if not drawn:
        return None
    floor = rows["kl_floor"].max() if "kl_floor" in rows.columns else None
    return null_cuts(drawn, nulls.output(model), no_change=no_change, kl_floor=float(floor or 0.0))


def known(nulls: Nulls, models: Collection[str], column: str) -> bool:
    """Whether any of these models has null controls of this inner metric."""
    return any(nulls.internal(model, column) for model in models)
