"""How late in depth the CKA displacement lies, against random adapters. No Streamlit."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from lib.metrics.profile import late_minus_mid, late_part
from lib.ui.claims import power
from lib.ui.verdicts import number

NUMBERS = {"late_share": "late share", "late_minus_mid": "late minus mid"}
"""Columns of table ``profile``, as the page calls them."""
ENDS = ("", "_low", "_high")
LATE = pl.Schema({
    "experiment_id": pl.String, "name": pl.String, "corpus": pl.String, "model": pl.String,
    "n_layers": pl.Int64, **{f"{column}{end}": pl.Float64 for column in NUMBERS for end in ENDS},
    "source": pl.String,
})  # fmt: skip
DRAWS = pl.Schema({
    "model": pl.String, "experiment_id": pl.String, "draw": pl.Int64,
    **dict.fromkeys(NUMBERS, pl.Float64),
})  # fmt: skip


def late(layers: pl.DataFrame, profiles: pl.DataFrame) -> pl.DataFrame:
    """Both numbers of each experiment whose CKA was measured at every layer; columns ``LATE``.

    Taken from the store with their interval over documents; where it has none they are computed
    from the layers, without an interval, and ``source`` says so. Null where not defined: fewer than
    four layers have no last 30 %, and where nothing moved there is no share.

    Args:
        layers: ``store.read.layers`` with a ``name`` of each experiment.
        profiles: ``lib.store.nulls.profiles``.
    """
    rows = []
    for (experiment_id,), part in layers.group_by("experiment_id", maintain_order=True):
        whole = part.sort("layer").drop_nulls("displacement")
        n_layers = part["n_layers"][0]
        if n_layers is None or len(whole) < n_layers:
            continue
        stored = profiles.filter(experiment_id=experiment_id)
        if len(stored):
            values, source = stored.row(0, named=True), "documents"
        else:
            values = _numbers(whole["displacement"].to_numpy())
            source = "none stored"
        rows.append({
            "experiment_id": experiment_id, "name": whole["name"][0], "corpus": whole["corpus"][0],
            "model": whole["base_model"][0], "n_layers": n_layers, "source": source,
            **{f"{c}{end}": values.get(f"{c}{end}") for c in NUMBERS for end in ENDS},
        })  # fmt: skip
    return pl.DataFrame(rows, schema=LATE)


def null_draws(null_layers: pl.DataFrame) -> pl.DataFrame:
    """Both numbers of every random-LoRA draw with CKA at every layer; columns ``DRAWS``."""
    rows = []
    drawn = null_layers.filter(control="random_lora").drop_nulls(["displacement", "n_layers"])
    for (model, experiment_id, draw), part in drawn.group_by(
        "base_model", "experiment_id", "draw", maintain_order=True
    ):
        if len(part) == part["n_layers"][0]:
            values = _numbers(part.sort("layer")["displacement"].to_numpy())
            rows.append({"model": model, "experiment_id": experiment_id, "draw": draw, **values})
    return pl.DataFrame(rows, schema=DRAWS)


def _numbers(displacement: np.ndarray) -> dict[str, float | None]:
    """Of one profile over all layers; None for what is not defined."""
    whole = displacement[None, :]
    found = {"late_share": late_part(whole)[0], "late_minus_mid": late_minus_mid(whole)[0]}
    return {name: None if np.isnan(v) else float(v) for name, v in found.items()}


def placed(row: dict[str, object], column: str, draws: Sequence[float]) -> str:
    """Where an experiment's interval lies against all null draws: above, below, or among them."""
    low, high = (row[f"{column}_{end}"] for end in ("low", "high"))
    if row[column] is None or low is None or high is None or not draws:
        return "not defined"
    if low > max(draws):
        return "above all of them"
    if high < min(draws):
        return "below all of them"
    return "not apart from them"


def with_places(rows: pl.DataFrame, draws: pl.DataFrame) -> pl.DataFrame:
    """``late`` with one more column per number, ``*_place``: ``placed`` against its model's draws."""
    of_model = {
        (model, column): part[column].drop_nulls().to_list()
        for (model,), part in draws.group_by("model")
        for column in NUMBERS
    }
    return rows.with_columns(
        pl.Series(
            f"{column}_place",
            [placed(row, column, of_model.get((row["model"], column), ()))
             for row in rows.iter_rows(named=True)],
            dtype=pl.String,
        )
        for column in NUMBERS
    )  # fmt: skip


def said(rows: pl.DataFrame, draws: pl.DataFrame, experiment_id: str) -> str:
    """Both numbers of one experiment, its place among the others, and the random adapters'."""
    own = next(rows.filter(experiment_id=experiment_id).iter_rows(named=True), None)
    if own is None or own["late_share"] is None:
        return (
            "The late share of this experiment is **not defined because** it needs CKA at every one "
            "of at least four layers, and some displacement."
        )
    text = (
        f"**Late share: the last 30 % of layers hold {_value(own, 'late_share')} of all CKA "
        f"displacement in {own['name']}**"
    )
    others = rows.drop_nulls("late_share")
    if len(others) > 1:
        low, high = others["late_share"].min(), others["late_share"].max()
        text += f" ({100 * low:.0f} to {100 * high:.0f} % over {number(len(others))} experiments)"
    text += f"; {_beside(own, 'late_share', draws)}."
    if own["late_minus_mid"] is not None:
        text += (
            f" **Late minus mid: the mean 1 \u2212 CKA of the last 30 % less that of the mid layers is "
            f"{_value(own, 'late_minus_mid')}**; {_beside(own, 'late_minus_mid', draws)}."
        )
    if own["source"] != "documents":
        text += " No interval is stored for these two."
    return text


def _beside(row: dict[str, object], column: str, draws: pl.DataFrame) -> str:
    known = draws.filter(model=row["model"])[column].drop_nulls().to_list()
    if not known:
        return (
            "**the random-LoRA profile is not measured**, so whether any adapter of this size would "
            "do the same is open"
        )
    ends = [_form(end(known), column) for end in (min, max)]
    span = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
    unit = " %" if column == "late_share" else ""
    place = placed(row, column, known)
    says = (
        "without an interval its place is not defined"
        if place == "not defined"
        else f"so it is {place}"
    )
    return f"random adapters on {row['model']}: {span}{unit} (n = {len(known)}), {says}"


def _value(row: dict[str, object], column: str) -> str:
    unit = " %" if column == "late_share" else ""
    value, low, high = (row[f"{column}{end}"] for end in ENDS)
    if low is None or high is None:
        return f"{_form(value, column)}{unit}"
    return (
        f"{_form(value, column)}{unit} (95 %: {_form(low, column)} to {_form(high, column)}{unit})"
    )


def _form(value: float, column: str) -> str:
    return power(100 * value, ".0f") if column == "late_share" else power(value, ".3g")
