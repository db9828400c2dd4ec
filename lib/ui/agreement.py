"""Does CKA, which needs no dictionary, agree with the reconstruction metric? No Streamlit."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from lib.metrics.profile import MID
from lib.metrics.statistics import RankTest, spearman_exact
from lib.ui.labelling import corpus_means
from lib.ui.verdicts import chance, listed, number, signed

METRICS = {"ratio": "reconstruction ratio", "excess_fvu": "excess FVU"}
BANDS = ("mid", "late")


class Agreement(NamedTuple):
    """A rank test of CKA displacement against a reconstruction metric, or why there is none."""

    band: str
    model: str
    metric: str
    test: RankTest | None
    why: str = ""


def in_bands(layers: pl.DataFrame, metric: str) -> pl.DataFrame:
    """One row per experiment and band: means over the layers that have both measures.

    Bounds are means of the layers' bounds, which is right when their errors go together and too
    wide otherwise. Columns: band, experiment_id, name, corpus, model, layers, x and y with bounds
    (x = CKA displacement, y = ``metric``).

    Args:
        layers: ``store.read.layers`` with a ``name`` of each experiment.
    """
    known = layers.drop_nulls(["displacement", metric, "n_layers"])
    late = (7 * pl.col("n_layers") + 9) // 10  # ceil(0.7 L) in whole numbers, as late_start
    depth = pl.col("layer") / pl.col("n_layers")
    band = (
        pl.when(depth.is_between(*MID)).then(pl.lit("mid"))
        .when(pl.col("layer") >= late).then(pl.lit("late"))
    )  # fmt: skip
    ends = {"x": "displacement", "y": metric}
    columns = {
        f"{axis}{end}": f"{source}{end}"
        for axis, source in ends.items()
        for end in ("", "_low", "_high")
    }
    return (
        known.with_columns(band=band, model="base_model")
        .drop_nulls("band")
        .group_by("band", "experiment_id", "name", "corpus", "model", maintain_order=True)
        .agg(pl.col("layer").sort().alias("layers"),
             **{new: pl.col(old).mean() for new, old in columns.items()})
    )  # fmt: skip


def tests(points: pl.DataFrame, metric: str) -> list[Agreement]:
    """Spearman's rho over the corpora of each model, in each band."""
    found = []
    for band in BANDS:
        rows = points.filter(pl.col("band") == band)
        if rows.is_empty():
            found.append(Agreement(band, "", metric, None, "no dictionary is at such a depth"))
        for (model,), part in corpus_means(rows).group_by("model", maintain_order=True):
            if len(part) < 3:
                why = f"n = {len(part)}: it needs at least three corpora"
                found.append(Agreement(band, str(model), metric, None, why))
            elif min(part["x"].n_unique(), part["y"].n_unique()) < 2:
                found.append(Agreement(band, str(model), metric, None, "a measure is constant"))
            else:
                test = spearman_exact(part["x"].to_numpy(), part["y"].to_numpy())
                found.append(Agreement(band, str(model), metric, test))
    return found


def said(found: Sequence[Agreement], points: pl.DataFrame) -> str:
    """Agreement in words: band by band, with n, exact p, and what n allows."""
    text = [_one(a, points) for a in found]
    n = {a.test.n: a.test.p_min for a in found if a.test is not None and a.test.p_min >= 0.05}
    text += [
        f"No result on {number(k)} corpora can reach p < 0.05 (the smallest is {p:.3f})."
        for k, p in sorted(n.items())
    ]
    text.append(
        "Published: +0.62 at mid layers without n; four points without ties cannot give it, so it is "
        "presumably pooled over scales and confounded by them. Not to be compared."
    )
    return " ".join(text)


def _one(a: Agreement, points: pl.DataFrame) -> str:
    where = f"{a.band.capitalize()} layers"
    used = points.filter(pl.col("band") == a.band, pl.col("model") == a.model)
    if len(used):
        numbers = sorted({layer for row in used["layers"] for layer in row})
        where += f" ({listed([str(k) for k in numbers])}{' on ' + a.model if a.model else ''})"
    if a.test is None:
        return f"{where}: **not defined because** {a.why}."
    return (
        f"**{where}: CKA displacement against {METRICS[a.metric]}, \u03c1 = {signed(a.test.rho)}** "
        f"(n = {a.test.n}, exact p = {a.test.p:.2g}; by chance {chance(a.test.p)})."
    )
