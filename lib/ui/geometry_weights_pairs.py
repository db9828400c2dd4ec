"""Pairs of adapters as a table of cells and as sentences. Pure: frames in, words out."""

from typing import NamedTuple

import polars as pl

from lib.figures.weights import Quantity
from lib.figures.weights_between import SAME_START, Between

SCORES = {
    "value": "mean squared cosine",
    "distance": "distance from chance",
    "angle": "mean principal angle",
}
"""In the address as ``overlap_score``."""
_NAMED = {"outputs": "directions written", "inputs": "directions read", "update": "updates"}
_DOES = {"outputs": "what they write", "inputs": "what they read", "update": "their updates"}
_STARTS = {
    0: "of other training seeds",
    1: "of one training seed, so of one start of A",
    2: "whose training seeds are not known",
}


def score_name(score: str, space: str) -> str:
    """One of ``SCORES`` in words; of the update as a whole there is only a plain cosine."""
    return "cosine" if (score, space) == ("value", "update") else SCORES[score]


class Asked(NamedTuple):
    """What is drawn: a space, and the score of it."""

    space: str
    score: str

    @property
    def quantity(self) -> Quantity:
        what, of = SCORES[self.score], _NAMED[self.space]
        if self.score == "value":
            update = self.space == "update"
            what = score_name(self.score, self.space)
            return Quantity(
                f"{what} of {of}",
                "" if update else "chance",
                colours="both sides" if update else "from 0",
            )
        if self.score == "angle":
            return Quantity(
                f"{what} of {of}, degrees (darker = nearer)", "chance", colours="less is more"
            )
        return Quantity(f"{what} of {of}, in sd of a random pair", "", colours="both sides")


def partners(pairs: pl.DataFrame, experiment_id: str, labels: dict[str, str]) -> list[str]:
    """Adapters that this one was compared with, in the order of ``labels``."""
    ends = pairs.filter((pl.col("one") == experiment_id) | (pl.col("other") == experiment_id))
    found = {*ends["one"], *ends["other"]} - {experiment_id}
    return [name for name in labels if name in found]


def table(pairs: pl.DataFrame, asked: Asked, labels: dict[str, str]) -> Between:
    """All pairs of one space, both ways round."""
    ids = [name for name in labels if name in {*pairs["one"], *pairs["other"]}]
    rows = {frozenset((row["one"], row["other"])): row for row in pairs.iter_rows(named=True)}
    grid = [[rows.get(frozenset((one, other))) for other in ids] for one in ids]
    values = [[row[asked.score] if row else None for row in line] for line in grid]
    texts = [[_text(row, asked) if row else "" for row in line] for line in grid]
    hovers = [
        [
            _hover(row, labels, one, other) if row else ""
            for other, row in zip(ids, line, strict=True)
        ]
        for one, line in zip(ids, grid, strict=True)
    ]
    return Between(ids, [labels[name] for name in ids], values, texts, hovers)


def _text(row: dict[str, object], asked: Asked) -> str:
    value = row[asked.score]
    if not isinstance(value, float):
        return ""
    digits = f"{value:.2f}" if asked.score == "value" else f"{value:.0f}"
    return digits.replace("-", "\u2212") + (f" {SAME_START}" if row["same_start"] else "")


def _hover(row: dict[str, object], labels: dict[str, str], one: str, other: str) -> str:
    score = score_name("value", str(row["space"]))
    lines = [
        f"{labels[one]} and {labels[other]}",
        f"{score} {_number(row['value'], '.3f')} (chance {_number(row['chance'], '.3f')})",
        f"distance from chance {_number(row['distance'], '.1f')} sd of a random pair",
    ]
    if row["angle"] is not None:
        angles = _number(row["angle"], ".1f"), _number(row["angle_chance"], ".1f")
        lines.append(f"mean angle {angles[0]} degrees (chance {angles[1]})")
    return "<br>".join([*lines, f"n = {row['modules']} matrices; {_start(row['same_start'])}"])


def _start(same: object) -> str:
    if same is None:
        return "training seed not known"
    return "same start of A" if same else "another start of A"


def _number(value: object, form: str) -> str:
    return format(value, form).replace("-", "\u2212") if isinstance(value, float) else "not defined"


def listed(pairs: pl.DataFrame, labels: dict[str, str]) -> pl.DataFrame:
    """With names in place of ids, farthest from chance first."""
    start = pl.col("same_start").replace_strict(
        {True: "same", False: "other"}, default="not known", return_dtype=pl.String
    )
    return pairs.with_columns(
        pl.col("one", "other").replace(labels), start=start,
        corpus=pl.when("same_corpus").then(pl.lit("same")).otherwise(pl.lit("other")),
    ).sort("distance", descending=True, nulls_last=True)  # fmt: skip


def verdict(pairs: pl.DataFrame, space: str) -> str:
    """Overlap against chance over all pairs of one space, by start and by corpus, with n and range."""
    defined = pairs.drop_nulls("value")
    if defined.is_empty():
        return "**No overlap is defined**: of every pair one update is zero."
    groups = (
        defined.with_columns(start=pl.col("same_start").cast(pl.Int8).fill_null(2))
        .group_by("start", "same_corpus")
        .agg(
            pl.col("value", "chance", "distance").mean(),
            n=pl.len(),
            low=pl.col("value").min(),
            high=pl.col("value").max(),
        )
        .sort("start", "same_corpus")
    )
    score = score_name("value", space).capitalize()
    said = "; ".join(_group(row) for row in groups.iter_rows(named=True))
    return (
        f"**{_headline(defined, space)}** {score}: {said}. Pairs share adapters, so they are not "
        "independent: no interval, but the range over pairs."
    )


def _group(row: dict[str, object]) -> str:
    corpora = "of one corpus" if row["same_corpus"] else "of different corpora"
    pairs = f"{row['n']} pair{'' if row['n'] == 1 else 's'}"
    return (
        f"{pairs} {corpora} and {_STARTS[int(str(row['start']))]}: {_number(row['value'], '.3f')} "
        f"(range {_number(row['low'], '.3f')} to {_number(row['high'], '.3f')}; chance "
        f"{_number(row['chance'], '.3f')}, {_number(row['distance'], '+.0f')} sd of a random pair)"
    )


def _headline(defined: pl.DataFrame, space: str) -> str:
    """What pairs without a common start say; they alone speak of text."""
    apart = defined.filter(same_start=False)
    if apart.is_empty():
        return (
            "No adapters of different training seeds were compared, so what a common start does "
            "cannot be told from what text does."
        )
    parts = [
        _apart(apart.filter(same_corpus=same), where)
        for same, where in ((True, "of one corpus"), (False, "of different corpora"))
    ]
    return (
        f"Adapters of different training seeds overlap in {_DOES[space]} by "
        f"{' and by '.join(part for part in parts if part)}."
    )


def _apart(pairs: pl.DataFrame, where: str) -> str:
    if pairs.is_empty():
        return ""
    value, chance = (float(pairs[name].mean()) for name in ("value", "chance"))
    times = f", so {value / chance:.2g} times that" if chance else ""
    n = f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}"
    return f"{_number(value, '.3f')} if {where} (chance {chance:.2g}{times}; n = {n})"
