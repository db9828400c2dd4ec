"""Which regime each point has: cuts, label, support, and what the label depends on. No Streamlit."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from lib.figures.scatter import Cuts
from lib.metrics.regimes import median_cuts, metric_dependent, with_timing
from lib.metrics.support import Judgement, Sampled, judge, middle_of_draws, sample_axis, with_seeds

NOTHING = Judgement("indeterminate", ("inner", "outer"), {})
"""Of a point whose model has no cuts: one corpus alone is neither high nor low."""


class Axes(NamedTuple):
    """Values with bounds of some points of one model, as changes from no change."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, points: pl.DataFrame, axis: str, start: float = 0.0) -> "Axes":
        columns = (axis, f"{axis}_low", f"{axis}_high")
        return cls(*(points[c].cast(pl.Float64).fill_null(np.nan).to_numpy() - start
                     for c in columns))  # fmt: skip


def corpus_means(points: pl.DataFrame) -> pl.DataFrame:
    """One row per model and corpus: seeds and recipes of one corpus are no further corpora."""
    return (
        points.group_by("model", "corpus")
        .agg(pl.mean("x", "y"), runs=pl.len())
        .sort("model", "corpus")
    )


def medians(points: pl.DataFrame, model: str, start: float = 0.0) -> Cuts:
    """Cuts that halve the corpora of one model on either axis; none for fewer than two corpora.

    The middle is geometric in the change from ``start``, so there is none where that is not
    positive.
    """
    means = corpus_means(points)
    if len(means) < 2:
        return Cuts(None, None, model)
    x, y = means["x"].to_numpy() - start, means["y"].to_numpy()
    if any(np.sort(v)[(len(v) - 1) // 2] <= 0 for v in (x, y)):
        return Cuts(None, None, model)
    found = median_cuts(x, y)
    return Cuts(found.internal + start, found.output, model)


def judged(
    points: pl.DataFrame, cuts: Cuts, start: float = 0.0, *, redrawn: bool, seed: int = 0
) -> list[Judgement]:
    """Label, undecided axes and support of each point of one model, in the order given.

    Support holds the error over documents, and that of the mean over training seeds where a point
    has several.

    Args:
        points: one per corpus and recipe, as ``lib.ui.retest.cells`` makes them; without its
            columns ``*_sd`` and ``*_seeds`` no point has repeated seeds.
        start: value of x when nothing changed.
        redrawn: the cuts are medians of these points and move with every draw of them.
    """
    if cuts.internal is None or cuts.output is None:
        return [NOTHING] * len(points)
    sampled = []
    for offset, (axis, zero, cut) in enumerate(
        [("x", start, cuts.internal - start), ("y", 0.0, cuts.output)]
    ):
        found = Axes.of(points, axis, zero)
        draws = _with_seeds(
            sample_axis(*found, seed=seed + offset), found.values, points, axis, seed
        )
        moving = middle_of_draws(_by_corpus(draws, points)) if redrawn else np.full(len(draws), cut)
        sampled.append([Sampled(float(v), cut, draws[:, i], moving)
                        for i, v in enumerate(found.values)])  # fmt: skip
    return [judge(inner, outer) for inner, outer in zip(*sampled, strict=True)]


def _with_seeds(
    draws: np.ndarray, values: np.ndarray, points: pl.DataFrame, axis: str, seed: int
) -> np.ndarray:
    if f"{axis}_sd" not in points.columns:
        return draws
    sd = points[f"{axis}_sd"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    seeds = points[f"{axis}_seeds"].cast(pl.Int64).to_numpy()
    stream = seed + 2 + (axis == "y")  # apart from the streams of the documents' error
    return with_seeds(draws, values, sd, seeds, seed=stream)


def _by_corpus(draws: np.ndarray, points: pl.DataFrame) -> np.ndarray:
    corpora = points["corpus"].to_numpy()
    return np.stack([draws[:, corpora == c].mean(1) for c in np.unique(corpora)], axis=1)


_COURSES = ("n_parameters", "steps", "rank")
"""Scale, checkpoint, rank: what a trajectory of one corpus can run along."""


def timed(rows: pl.DataFrame, judgements: Mapping[str, Judgement]) -> dict[str, str]:
    """Label with its course by experiment_id, from the same corpus earlier on one trajectory.

    Earlier: the same corpus and hook, and smaller in just one of parameters, steps and rank while the
    other two are equal. A model of another family is not another scale, another seed no course.
    """
    found = {}
    for row in rows.iter_rows(named=True):
        label = judgements[row["experiment_id"]].label
        before = [
            _sides(judgements[other["experiment_id"]])
            for other in rows.iter_rows(named=True)
            if other["experiment_id"] in judgements and _earlier(other, row)
        ]
        found[row["experiment_id"]] = with_timing(label, before)
    return found


def _earlier(other: Mapping[str, object], row: Mapping[str, object]) -> bool:
    if any(other.get(key) != row.get(key) for key in ("corpus", "hook")):
        return False
    differing = [key for key in _COURSES if other.get(key) != row.get(key)]
    if len(differing) != 1 or family(str(other["base_model"])) != family(str(row["base_model"])):
        return False
    mine, theirs = row.get(differing[0]), other.get(differing[0])
    return isinstance(mine, int) and isinstance(theirs, int) and theirs < mine


def family(model: str) -> str:
    """``smollm2`` of ``smollm2-135m``, ``Llama`` of ``hf:meta-llama/Llama-3.2-3B``."""
    return model.rsplit("/", 1)[-1].split("-")[0]


def _sides(judgement: Judgement) -> tuple[bool | None, bool | None]:
    """(inner high, outer high); None for an undecided axis."""
    if not judgement.support:
        return None, None
    best = {
        "inner": judgement.support["latent divergence"] + judgement.support["coupled adaptation"],
        "outer": judgement.support["behavioural capture"] + judgement.support["coupled adaptation"],
    }
    inner, outer = (
        None if axis in judgement.undecided else share >= 0.5 for axis, share in best.items()
    )
    return inner, outer


def opinions(labels: Sequence[str]) -> str:
    """Labels of one experiment by several inner metrics, in a word."""
    if metric_dependent(labels):
        return "metric-dependent"
    decided = [label for label in labels if label != "indeterminate"]
    return f"{len(decided)} of {len(labels)} metrics decide, alike" if decided else "none decides"
