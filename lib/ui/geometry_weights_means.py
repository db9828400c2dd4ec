"""What is said of a number of the matrices other than their share. Pure: frames in, markdown out."""

from typing import NamedTuple

import polars as pl


class Mean(NamedTuple):
    """How the mean of one number over an adapter's matrices is told."""

    column: str
    chance: str
    says: str
    """With places for ``label`` and ``value``."""
    null: str
    """What chance is."""


MEANS = {
    "spectral": Mean(
        "spectral", "spectral_chance",
        "The spectral norm of a matrix's update is {value} on average over those of {label}",
        "random factors of equal Frobenius norm",
    ),
    "entropy": Mean(
        "entropy_rank", "chance_entropy_rank",
        "On average {value} directions carry a matrix's update of {label}, by entropy",
        "random factors",
    ),
    "stable": Mean(
        "stable_rank", "chance_stable_rank",
        "The stable rank of a matrix's update is {value} on average over those of {label}",
        "random factors",
    ),
}  # fmt: skip
"""By key of ``QUANTITIES`` (geometry_weights_update.py), without the share, which has places."""


def sentence(rows: pl.DataFrame, experiment_id: str, label: str, shown: str) -> str:
    """Mean over the matrices with its chance, least and most matrix, range over the other adapters.

    Args:
        rows: all adapters of one base, with the spectral norm of random factors.
        shown: one of ``MEANS``.
    """
    told = MEANS[shown]
    own = rows.filter(experiment_id=experiment_id).drop_nulls(told.column).sort(told.column)
    if own.is_empty():
        return f"**The update of {label} is zero**: no matrix has this number."
    value, chance = own[told.column].mean(), own[told.chance].mean()
    others = [
        part[told.column].mean()
        for (name,), part in rows.drop_nulls(told.column).group_by("experiment_id")
        if name != experiment_id
    ]
    null = "" if chance is None else f"{told.null}: {chance:.3g}"
    if chance:
        null += f", so {value / chance:.2g} times that"
    ends = f"Least in {_matrix(own, 0, told)}, most in {_matrix(own, -1, told)}"
    beside = "; ".join(part for part in (null, span(others, ".3g")) if part)
    return (
        f"**{told.says.format(label=label, value=f'{value:.3g}')}**"
        f"{f' ({beside})' if beside else ''}. {ends}; n = {len(own)} matrices. Nothing is sampled, "
        "so there is no interval: read the range over the other adapters instead."
    )


def span(values: list[float], form: str, unit: str = "") -> str:
    """``the other 3 adapters of this model: 1 to 2``; empty without others."""
    if not values:
        return ""
    others = f"the other {len(values)} adapters" if len(values) > 1 else "the other adapter"
    return f"{others} of this model: {min(values):{form}} to {max(values):{form}}{unit}"


def _matrix(own: pl.DataFrame, at: int, told: Mean) -> str:
    row = own.row(at, named=True)
    chance = row[told.chance]
    null = "" if chance is None else f" (random {chance:.3g})"
    return f"`{row['module'].removeprefix('model.')}` with {row[told.column]:.3g}{null}"
