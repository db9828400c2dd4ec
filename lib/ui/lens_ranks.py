"""Which corpus, by the rank of every word instead of the words that come first."""

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from lib.evidence.ranking import Ranked, Ranking, rank_corpora, shuffled
from lib.figures.lens_matrix import Scores, matrix
from lib.metrics.shares import wilson
from lib.ui import lens_reads, tables
from lib.ui.lens_words import number

MOST = 8
"""Corpora whose assignments are counted out (lib/evidence/ranking.py)."""
_COLUMNS = {
    "adapter": ("adapter", None), "corpus": ("corpus", None), "own": ("is its own", None),
    "area": ("area, 0.5 = as any word", "%.3f"), "beyond": ("beyond the means", "%.3f"),
    "n": ("own words ranked", "%d"), "words": ("words in use", "%d"), "named": ("named", None),
}  # fmt: skip
_HELPS = {
    "area": "chance that an own word of the corpus ranks above another word in use; null: 0.5",
    "beyond": "area less the adapter's and the corpus' means, plus the overall mean; null: 0",
    "n": "own frequent words of the corpus that are ranked in every adapter",
    "named": "the corpus with the largest number beyond the means",
}


def show(runs: pl.DataFrame, labels: dict[str, str]) -> None:
    """Heat map, verdict and numbers; or that words were not ranked.

    Args:
        runs: of ``lib.store.lens.runs``, one base model with at least two corpora.
    """
    st.subheader("By the rank of every word", anchor=False)
    found = ranking(runs, lens_reads.rankings())
    if isinstance(found, str):
        st.info(found, icon=":material/format_list_numbered:")
        return
    st.plotly_chart(figure(found, labels, runs), key="lens:ranks", config={"displayModeBar": False})
    st.markdown(sentence(found))
    st.caption(
        "Shown: by how much own words of the corpus rank higher than the adapter's and the corpus' "
        "means would have it, as an area under the ROC curve. No interval: words are not a sample."
    )
    with st.expander("Every number: by rank"):
        tables.show(frame(found, labels, runs), _COLUMNS, name="lens_ranks", helps=_HELPS)


def ranking(runs: pl.DataFrame, words: pl.DataFrame) -> Ranking | str:
    """Or in words, why there is none.

    Args:
        words: of ``lib.store.lens.rankings``.
    """
    here = words.filter(pl.col("experiment_id").is_in(runs["experiment_id"].implode()))
    if here["corpus"].n_unique() < 2:
        return (
            "Ranks of words are kept of fewer than two corpora of this model (table `lens_words`). "
            "Run the lens again: " + lens_reads.command(runs["experiment_id"][0])
        )
    adapters = [
        Ranked(row["experiment_id"], row["corpus"],
               dict(zip(row["words"], row["percentile"], strict=True)))
        for row in here.iter_rows(named=True)
    ]  # fmt: skip
    own = own_words(runs.filter(pl.col("corpus").is_in(here["corpus"].implode())))
    try:
        return rank_corpora(adapters, own)
    except ValueError as problem:
        return f"Words cannot be ranked against each other: {problem}"


def own_words(runs: pl.DataFrame) -> dict[str, list[int]]:
    """Own words of every corpus, of its first training seed."""
    return {row["corpus"]: row["words"] for row in reversed(runs.to_dicts())}


def one_seed(found: Ranking) -> Ranking:
    """The first adapter of every corpus."""
    first: dict[str, int] = {}
    for index, adapter in enumerate(found.adapters):
        first.setdefault(adapter.corpus, index)
    kept = list(first.values())
    area = found.area[kept]
    beyond = area - area.mean(1, keepdims=True) - area.mean(0) + area.mean()
    return found._replace(adapters=tuple(found.adapters[i] for i in kept), area=area, beyond=beyond)


def sentence(found: Ranking) -> str:
    """How many are named right, and the exact permutation test over one seed per corpus."""
    total, once = len(found.adapters), one_seed(found)
    held = wilson(once.right, len(once.adapters))
    failed = total - found.right
    start = (
        f"**By rank: {found.right} of {total} adapters are named right, {failed} "
        f"{'is' if failed == 1 else 'are'} not** (by drawing a corpus, "
        f"{100 / len(found.corpora):.0f} % would be). Over one training seed per corpus "
        f"{once.right} of {len(once.adapters)} (95 % {100 * held.low:.0f} to "
        f"{100 * held.high:.0f} %)"
    )
    if len(once.adapters) > MOST:
        return f"{start}; no p: assignments of more than {MOST} corpora are not counted out."
    test = shuffled(once)
    return (
        f"{start}; own words rank at an area of {test.mean:.3f} in their own adapter against "
        f"{test.expected:.3f} over all {test.assignments:,} ways to deal out the corpora: exact "
        f"p = {number(test.p)} (one-sided; smallest possible {number(1 / test.assignments)}; n = "
        f"{found.words:,} words)."
    )


def figure(found: Ranking, labels: dict[str, str], runs: pl.DataFrame) -> go.Figure:
    """The heat map of ``beyond``."""
    own, named = own_words(runs), found.named()
    hovers = [
        [
            f"{labels[adapter.experiment_id]} against {corpus}<br>own words rank above "
            f"{100 * found.area[i, j]:.1f} % of other words in use (null: 50 %)<br>beyond the "
            f"means of adapter and corpus: {_signed(found.beyond[i, j])} (null: 0)<br>n = "
            f"{len(own[corpus])} own words of {found.words:,} in use; no interval"
            for j, corpus in enumerate(found.corpora)
        ]
        for i, adapter in enumerate(found.adapters)
    ]
    scores = Scores(
        found.beyond,
        [labels[adapter.experiment_id] for adapter in found.adapters],
        found.corpora,
        [adapter.corpus for adapter in found.adapters],
        named,
        hovers,
    )
    title = "Logit lens: area beyond the means of adapter and corpus"
    return matrix(scores, title=title, percent=False)


def frame(found: Ranking, labels: dict[str, str], runs: pl.DataFrame) -> pl.DataFrame:
    """One row for every adapter and corpus."""
    own, named = own_words(runs), found.named()
    ranked = set.intersection(*(set(a.percentile) for a in found.adapters))
    return pl.DataFrame([
        {
            "adapter": labels[adapter.experiment_id], "corpus": corpus,
            "own": "yes" if corpus == adapter.corpus else "", "area": found.area[i, j],
            "beyond": found.beyond[i, j], "n": len(ranked & set(own[corpus])),
            "words": found.words, "named": "yes" if named[i] == corpus else "",
        }
        for i, adapter in enumerate(found.adapters)
        for j, corpus in enumerate(found.corpora)
    ])  # fmt: skip


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")
