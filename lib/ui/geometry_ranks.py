"""The Ranks view: density and divergence against rank, every depth a line, corpora side by side."""

from typing import Any

import polars as pl
import streamlit as st

from lib.figures.geometry_ranks import Side, by_rank
from lib.ui import cache, geometry_reads, tables
from lib.ui.geometry_claims import CLAIM, density_sentence, distance_sentence
from lib.ui.geometry_directions import suspect
from lib.ui.geometry_words import AGAINST, SCORES, UNITS, distance_words

DENSITIES = {
    "often": "firing on > 0.1 % of tokens",
    "effective": "effective, by energy",
    "per_token": "firing per token",
}
MOST = 3
"""Corpora side by side."""
_COLUMNS = {
    "corpus": ("corpus", None), "rank": ("rank", "%d"), "layer": ("layer", "%d"),
    **tables.with_bounds("density_often", "firing often", "percent"),
    **tables.with_bounds("density_effective", "effective", "percent"),
    **tables.with_bounds("density_per_token", "per token", "percent"),
    "base_density_often": ("base, often", "percent"),
    "base_density_effective": ("base, effective", "percent"),
    "nearer": ("distance from chance, sd", "%.2f"), "null_half": ("95 % of chance, \u00b1 sd", "%.2f"),
    "relative": ("|delta| / |base|", "percent"), "latents": ("latents", "%d"),
    "tokens": ("tokens", "%d"),
}  # fmt: skip
_HELPS = {
    "density_often": "latents firing on more than 0.1 % of held-out tokens",
    "density_effective": "as many equally strong latents would spread the energy as widely",
    "density_per_token": "mean share of latents firing on a token: about k / latents by construction",
    "base_density_often": "the pretrained dictionary on base activations: knows no adapter",
    "nearer": "of the chosen score, adapter against pretrained; more = nearer",
    "relative": "mean norm of the deltas over that of the base's activations",
}


def show(experiment_id: str, hook: str, density: str, score: str) -> None:
    """Figure, verdicts of every corpus against the claim, and every number."""
    ids = beside(experiment_id)
    places = geometry_reads.table("place", *ids).filter(hook=hook)
    scores = geometry_reads.table("score", *ids).filter(hook=hook, score=score)
    corpora = {one: str(cache.experiment(one)["corpus"]) for one in ids}
    sides = [
        side(corpora[one], places.filter(experiment_id=one), scores.filter(experiment_id=one),
             density, score)
        for one in ids
    ]  # fmt: skip
    names = (f"share of latents: {DENSITIES[density]}", f"{SCORES[score]}: sd from chance")
    st.plotly_chart(
        by_rank(sides, names, bounded=True), config={"displayModeBar": False}, key="geometry:ranks"
    )
    st.caption(
        f"{CLAIM} Bars: 95 % over documents. Grey band: 95 % of chance; higher = nearer to the "
        "pretrained dictionary. Dotted and dashed: two seeds of one dictionary, mean over depths."
    )
    for one in ids:
        st.markdown(verdict(corpora[one], places.filter(experiment_id=one),
                            scores.filter(experiment_id=one), density, score))  # fmt: skip
    if problem := suspect(scores):
        st.warning(problem, icon=":material/warning:")
    tests = len(DENSITIES) * 2 + len(SCORES) - 1
    st.caption(
        "A bare angle or cosine that stays flat over ranks is what unrelated directions give too: only "
        "its distance from chance tests the claim, and no trend shown is not the same as flat. One "
        f"training seed per rank. This view can make {tests} such tests for every corpus and hook; "
        "p are not corrected for that."
    )
    rows = places.join(
        scores.filter(against="pretrained").select(
            "experiment_id", "rank", "layer", "nearer", "null_half"
        ),
        on=["experiment_id", "rank", "layer"], how="left", maintain_order="left",
    )  # fmt: skip
    tables.show(rows, _COLUMNS, name="geometry_ranks", helps=_HELPS)


def first_density(experiment_id: str) -> str:
    """The published one, unless every latent fires that often everywhere: then it shows nothing."""
    full = geometry_reads.table("place", experiment_id)["density_often"].min() == 1
    return "effective" if full else "often"


def beside(experiment_id: str) -> list[str]:
    """The chosen experiment, then others of its model and other corpora, one of each."""
    runs = geometry_reads.runs()
    own = runs.row(by_predicate=pl.col("experiment_id") == experiment_id, named=True)
    others = (
        runs.filter(pl.col("base_model") == own["base_model"], pl.col("corpus") != own["corpus"])
        .unique("corpus", keep="first", maintain_order=True)
    )  # fmt: skip
    return [experiment_id, *others["experiment_id"].to_list()][:MOST]


def side(corpus: str, places: pl.DataFrame, scores: pl.DataFrame, density: str, score: str) -> Side:
    """What the figure draws of one experiment at one hook."""
    dense = densities(places, density)
    hovers = [
        f"{corpus}, rank {r['rank']}, layer {r['layer']}: latents {DENSITIES[density]} "
        f"{100 * r['value']:.3g} %{_ends(r)}<br>base's own dictionary: {_share(r['base'])}"
        f"<br>n = {r['tokens']:,} held-out tokens, {r['latents']} latents"
        if r["value"] is not None else ""
        for r in dense.iter_rows(named=True)
    ]  # fmt: skip
    far = scores.filter(against="pretrained")
    words = [f"{corpus}, {distance_words(r)}" for r in far.iter_rows(named=True)]
    none = pl.lit(None, dtype=pl.Float64)
    seeds = {
        AGAINST[name]: scores.filter(against=name).group_by("rank").agg(value=pl.col("nearer").mean())
        for name in ("adapter_seeds", "pretrained_seeds")
    }  # fmt: skip
    return Side(
        corpus,
        dense.with_columns(hover=pl.Series(hovers, dtype=pl.String)),
        far.select("rank", "layer", value="nearer", low=none, high=none).with_columns(
            hover=pl.Series(words, dtype=pl.String)
        ),
        {name: frame for name, frame in seeds.items() if not frame.is_empty()},
        far["null_half"].max() if len(far) else None,
    )


def densities(places: pl.DataFrame, density: str) -> pl.DataFrame:
    """One density with its interval as value, low and high; base = of the base's dictionary."""
    name = f"density_{density}"
    return places.select(
        "rank", "layer", "tokens", "latents", "k", value=name, low=f"{name}_low",
        high=f"{name}_high", base=f"base_{name}",
    )  # fmt: skip


def verdict(
    corpus: str, places: pl.DataFrame, scores: pl.DataFrame, density: str, score: str
) -> str:
    """Density and divergence of one corpus, as two points of a list."""
    dense = densities(places, density)
    fixed = None
    if density == "per_token" and len(dense):
        fixed = float((dense["k"] / dense["latents"]).mean())
    far = scores.filter(against="pretrained").select(
        "rank", "layer", "null_half", "chance", value="nearer", bare="value"
    )
    return (
        f"- {corpus}, {density_sentence(f'density ({DENSITIES[density]})', dense, fixed)}\n"
        f"- {corpus}, {distance_sentence(SCORES[score], far, UNITS.get(score, ''))}"
    )


def _ends(row: dict[str, Any]) -> str:
    if row["low"] is None or row["high"] is None:
        return " (no interval)"
    return f" (95 % {100 * row['low']:.3g} to {100 * row['high']:.3g})"


def _share(value: float | None) -> str:
    return "not defined" if value is None else f"{100 * value:.3g} %"
