"""What density and divergence do along ranks and depths, in words with n and exact p. Pure."""

from typing import Any, Literal, NamedTuple

import polars as pl

from lib.metrics.permutation import RankTest
from lib.metrics.statistics import spearman_exact, stratified_spearman
from lib.ui.verdicts import signed

LEVEL = 0.05
CLAIM = (
    "Claimed (arXiv:2605.28896): feature density rises with rank and depth, divergence from the "
    "pretrained dictionary stays flat over ranks."
)
_OTHER = {"rank": "layer", "layer": "rank"}
_WORDS = {"rank": "rank", "layer": "depth"}
_WITHIN = {"rank": "within depths", "layer": "within ranks"}
_UNITS = {"rank": "adapters", "layer": "depths"}


class Trend(NamedTuple):
    """A rank correlation along one direction of a grid of ranks and layers."""

    along: Literal["rank", "layer"]
    within: RankTest | None
    """Mean correlation within each line of the grid, permuted within lines; None = not defined."""
    means: RankTest | None
    """Of the means over the other direction: what is left where lines are not independent."""
    why: str
    """Why ``within`` is not defined."""

    @property
    def word(self) -> str:
        """``rises``, ``falls``, or that neither is shown."""
        if self.within is None:
            return "is not tested"
        if self.within.p >= LEVEL:
            return "shows no trend"
        return "rises" if self.within.rho > 0 else "falls"


def trend(rows: pl.DataFrame, along: Literal["rank", "layer"]) -> Trend:
    """Test ``value`` along ranks or layers; lines with fewer than 3 values, or a constant one, are
    left out.

    Args:
        rows: columns rank, layer, value; nulls are left out.
    """
    other = _OTHER[along]
    known = rows.select("rank", "layer", "value").drop_nulls()
    several = known.filter(
        (pl.len().over(other) >= 3) & (pl.col("value").n_unique().over(other) > 1)
    )
    if several.is_empty():
        most = int(known.group_by(other).len()["len"].max() or 0) if len(known) else 0
        why = (
            f"a line has {most} values along {_WORDS[along]}, 3 are needed" if most < 3
            else f"it is the same at every {_WORDS[along]}"
        )  # fmt: skip
        return Trend(along, None, None, why)
    within = stratified_spearman(
        several[along].to_list(), several["value"].to_list(), several[other].to_list()
    )
    lines = several[other].n_unique()
    means = (
        several.group_by(along).agg(pl.col("value").mean(), n=pl.len()).filter(n=lines).sort(along)
    )
    whole = len(means) >= 3 and means["value"].n_unique() > 1
    tested = spearman_exact(means[along].to_list(), means["value"].to_list()) if whole else None
    return Trend(along, within, tested, "")


def test(found: RankTest) -> str:
    """``rho = +0.80, n = 16, exact p = 0.002``."""
    return f"\u03c1 = {signed(found.rho)}, n = {found.n}, {'exact ' * found.exact}p = {found.p:.2g}"


def density_sentence(name: str, rows: pl.DataFrame, fixed: float | None) -> str:
    """Whether density rises with rank and with depth, and whether chance or the base predicts it.

    Args:
        name: what ``value`` is.
        rows: rank, layer, value, low, high, base (that of the base's own dictionary).
        fixed: k / latents where that fixes the measure, else None.
    """
    ranks, depths = trend(rows, "rank"), trend(rows, "layer")
    found = f"{name} {_both(ranks, depths)}"
    if fixed is not None:
        parts = [
            f"**{name} can test no claim: by construction it is about k / latents = "
            f"{100 * fixed:.2g} %, whatever was learned.** For what it is worth: {found}."
        ]
    elif rows["value"].min() == 1:
        parts = [
            f"**{name} can test no claim here: it is at its ceiling everywhere,** since the text "
            "affords so few latents that all of them fire this often."
        ]
    else:
        parts = [f"**{found}.**", _alone(ranks, depths)]
    parts.append(_ends(rows))
    base = rows.group_by("layer").agg(pl.col("base").first()).drop_nulls().sort("layer")
    if len(base) >= 3 and base["base"].n_unique() > 1:
        of_base = spearman_exact(base["layer"].to_list(), base["base"].to_list())
        parts.append(
            f"The base's own dictionaries, which know no adapter, along depth: {test(of_base)}."
        )
    return " ".join(part for part in parts if part)


def distance_sentence(name: str, rows: pl.DataFrame, unit: str = "") -> str:
    """Whether the distance from chance changes with rank, and what chance alone predicts.

    Args:
        rows: rank, layer, value (distance, more = nearer), null_half, bare, chance.
        unit: of the bare value.
    """
    known = rows.drop_nulls("value")
    if known.is_empty():
        return f"**{name}: no distance from chance is stored.**"
    ranks = trend(known, "rank")
    outside = known.filter(pl.col("value").abs() > pl.col("null_half"))
    spread = known.group_by("layer").agg(
        bare=_range("bare"), chance=_range("chance"), level=pl.col("chance").mean().abs()
    )
    moved = 100 * float((spread["chance"] / spread["level"]).max())
    return (
        f"**{name}: its distance from chance {_one(ranks)}.** {_alone(ranks)} Outside the 95 % of "
        f"chance at {len(outside)} of {len(known)} points. Over the ranks of a depth the bare value "
        f"moves by at most {spread['bare'].max():.3g}{unit}, its chance level by {moved:.2g} %."
    ).replace("  ", " ")


def _both(ranks: Trend, depths: Trend) -> str:
    if ranks.word == depths.word and ranks.within and depths.within:
        said = (
            " with either" if ranks.word == "shows no trend"
            else f" with rank{_only(ranks)} and depth{_only(depths)}"
        )  # fmt: skip
        return (
            f"{ranks.word}{said} (rank: {test(ranks.within)}; depth: {test(depths.within)}; mean "
            "correlation within the other)"
        )
    return f"{_one(ranks)} and {_one(depths)}"


def _one(found: Trend) -> str:
    name = _WORDS[found.along]
    if found.within is None:
        return f"is not tested along {name} ({found.why})"
    return f"{found.word} with {name}{_only(found)} ({_WITHIN[found.along]} {test(found.within)})"


def _only(found: Trend) -> str:
    """What a trend is said of where too few points are independent to say more."""
    if found.word == "shows no trend" or found.means is None or found.means.p_min < LEVEL:
        return ""
    return f" over these {found.means.n} {_UNITS[found.along]}"


def _alone(*trends: Trend) -> str:
    """Lines of one grid share their adapters (or their layers): fewer independent points than n."""
    said = [
        f"over the {found.means.n} {_UNITS[found.along]}' means \u03c1 = {signed(found.means.rho)}, "
        f"p = {found.means.p:.2g} (at best {found.means.p_min:.2g})"
        for found in trends if found.means is not None
    ]  # fmt: skip
    if not said:
        return ""
    few = all(t.means is None or t.means.p_min >= LEVEL for t in trends)
    more = ", so few that no order of them could decide" if few else ""
    return f"Points of one adapter or depth are not independent: {'; '.join(said)}{more}."


def _ends(rows: pl.DataFrame) -> str:
    """The middle depth at the least and at the largest rank, with intervals."""
    known = rows.drop_nulls("value")
    layers = known["layer"].unique().sort().to_list()
    if not layers:
        return ""
    middle = layers[len(layers) // 2]
    line = known.filter(layer=middle).sort("rank")
    ends = [line.row(i, named=True) for i in ((0, -1) if len(line) > 1 else (0,))]
    said = ", ".join(f"{_percent(row)} at rank {row['rank']}" for row in ends)
    return f"At layer {middle}: {said}."


def _percent(row: dict[str, Any]) -> str:
    span = (
        "" if row["low"] is None or row["high"] is None
        else f" (95 % {100 * row['low']:.3g} to {100 * row['high']:.3g})"
    )  # fmt: skip
    return f"{100 * (row['value'] or 0):.3g} %{span}"


def _range(column: str) -> pl.Expr:
    return pl.col(column).max() - pl.col(column).min()
