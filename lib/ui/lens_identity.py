"""The Which corpus view: every adapter's read words against every corpus of the same model."""

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from lib.evidence.identity import Adapter, Identification, Table, identify
from lib.figures.lens_matrix import Scores, matrix
from lib.metrics.shares import wilson
from lib.ui import cache, lens_ranks, lens_reads, names, tables
from lib.ui.lens_tokens import capital
from lib.ui.lens_words import by_chance, number
from lib.ui.verdicts import listed

MOST_BESIDE = 8
"""Rows or columns past which cells of two matrices side by side get too small for their numbers."""
_COLUMNS = {
    "adapter": ("adapter", None), "corpus": ("corpus", None), "own": ("is its own", None),
    "share": ("share of own words", "percent"), "low": ("95 % low", "percent"),
    "high": ("95 % high", "percent"), "position": ("position", "%d"),
    "overlap": ("own words", "%d"), "read": ("words read", "%d"),
    "expected": ("own by chance", "%.2g"), "p": ("p, Holm", "%.2g"), "named": ("named", None),
}  # fmt: skip
_HELPS = {
    "share": "of the distinct words read at the position that fits this corpus best",
    "low": "Wilson's interval over the words read; it leaves the choice of the position out",
    "high": "Wilson's interval over the words read; it leaves the choice of the position out",
    "position": "each corpus has its own best position, so a row favours none",
    "expected": "own words among as many words drawn at random: the null",
    "p": "hypergeometric, corrected over the positions and corpora of this adapter (Holm)",
    "named": "the corpus with the largest share; none where two share it or nothing overlaps",
}


def show(experiment_id: str, reading: str) -> None:
    """Heat maps of the chosen reading and of Patchscope (or the lens), their verdicts, all numbers."""
    model = str(cache.experiment(experiment_id)["base_model"])
    runs = lens_reads.runs().filter(base_model=model)
    if runs["corpus"].n_unique() < 2:
        _too_few(model, runs)
        return
    readings = [reading, "lens" if reading == "patchscope" else "patchscope"]
    found = {name: table(runs, lens_reads.words_read(name)) for name in readings}
    beside = all(one is None or small(one) for one in found.values())
    places = st.columns(len(found), gap="medium") if beside else [st.container() for _ in found]
    labels = names.labels(runs.with_columns(seed="training_seed", rank=pl.lit(0), steps=pl.lit(0)))
    for place, (name, one) in zip(places, found.items(), strict=True):
        with place:
            if one is None:
                st.info(f"{capital(name)}: no experiment of {model} has this reading.")
                continue
            st.plotly_chart(figure(one, labels, capital(name)), key=f"lens:matrix:{name}",
                            config={"displayModeBar": False})  # fmt: skip
            st.markdown(sentence(one, capital(name)))
    st.caption(
        "Orange outline: the corpus that the adapter was trained on. \u25cf: the corpus that is "
        f"named. Corpora of {model} that have a lens are the columns, {_seeds(runs)}."
    )
    shown = {name: one for name, one in found.items() if one is not None}
    for name, one in shown.items():
        with st.expander(f"Every number: {capital(name)}"):
            tables.show(frame(one, labels), _COLUMNS, name=f"lens_corpora_{name}", helps=_HELPS)
    lens_ranks.show(runs, labels)
    _missing(model, runs)


def small(found: Table) -> bool:
    """Whether two such matrices can be read side by side, also in a narrow window."""
    return max(len(found.rows), len(found.corpora)) <= MOST_BESIDE


def table(runs: pl.DataFrame, words: pl.DataFrame) -> Table | None:
    """All adapters of one model against its corpora; None where none has the reading.

    Args:
        runs: of ``lib.store.lens.runs``, one base model.
        words: of ``lib.store.lens.words_read``.
    """
    adapters = []
    for row in runs.iter_rows(named=True):
        read = words.filter(experiment_id=row["experiment_id"]).sort("position")
        if len(read):
            positions = tuple(map(tuple, read["words"].to_list()))
            adapters.append(Adapter(row["experiment_id"], row["corpus"], positions))
    if not adapters:
        return None
    return identify(adapters, lens_ranks.own_words(runs), int(runs["vocabulary"].max()))


def one_seed(found: Table) -> Table:
    """The first adapter of every corpus: seeds of one corpus are not independent."""
    first: dict[str, int] = {}
    for index, row in enumerate(found.rows):
        first.setdefault(row.adapter.corpus, index)
    kept = list(first.values())
    return Table(found.corpora, tuple(found.rows[i] for i in kept), found.shares[kept])


def sentence(found: Table, reading: str) -> str:
    """How many adapters are named right, how many not, chance, and p over one seed per corpus."""
    total, once = len(found.rows), one_seed(found)
    wrong = [row.adapter.corpus for row in found.rows if row.named and not row.right]
    none = sum(not row.named for row in found.rows)
    held = wilson(once.right, len(once.rows))
    failed = total - found.right
    return (
        f"**{reading}: {found.right} of {total} adapters are named right, {failed} "
        f"{'is' if failed == 1 else 'are'} not** ({len(wrong)} as another corpus, {none} as none, by "
        f"a tie or for want of an own word; by drawing a corpus, {100 * found.chance:.0f} % would "
        f"be). Over one training seed per corpus {once.right} of {len(once.rows)} (95 % "
        f"{100 * held.low:.0f} to {100 * held.high:.0f} %), "
        f"exact p = {number(once.p)} (one-sided; smallest possible "
        f"{number(found.chance ** len(once.rows))})."
    )


def figure(found: Table, labels: dict[str, str], reading: str) -> go.Figure:
    """The heat map of one reading."""
    scores = Scores(
        found.shares,
        [labels[row.adapter.experiment_id] for row in found.rows],
        found.corpora,
        [row.adapter.corpus for row in found.rows],
        [row.named for row in found.rows],
        [_hovers(row, found, labels) for row in found.rows],
    )
    return matrix(scores, title=f"{reading}: words read that are a corpus\u2019 own, %")


def _hovers(row: Identification, found: Table, labels: dict[str, str]) -> list[str]:
    texts = []
    for corpus, match in zip(found.corpora, row.matches, strict=True):
        best, start = match.best, f"{labels[row.adapter.experiment_id]} against {corpus}<br>"
        if not best.read:
            texts.append(f"{start}no word was read at any position")
            continue
        held = wilson(best.overlap, best.read)
        texts.append(
            f"{start}{best.overlap} of {best.read} distinct words are its own: "
            f"{100 * best.share:.0f} % (95 % {100 * held.low:.0f} to {100 * held.high:.0f} %)<br>"
            f"at position {match.position}; {by_chance(best.expected)}; "
            f"p = {number(match.p)} after Holm"
        )
    return texts


def frame(found: Table, labels: dict[str, str]) -> pl.DataFrame:
    """One row for every adapter and corpus."""
    rows = []
    for row in found.rows:
        for corpus, match in zip(found.corpora, row.matches, strict=True):
            best = match.best
            held = wilson(best.overlap, best.read) if best.read else None
            rows.append({
                "adapter": labels[row.adapter.experiment_id], "corpus": corpus,
                "own": "yes" if corpus == row.adapter.corpus else "",
                "share": held and held.value, "low": held and held.low, "high": held and held.high,
                "position": match.position, "overlap": best.overlap, "read": best.read,
                "expected": best.expected, "p": match.p,
                "named": "yes" if corpus == row.named else "",
            })  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def _seeds(runs: pl.DataFrame) -> str:
    more = len(runs) - runs["corpus"].n_unique()
    return f"with {more} further training seeds as rows" if more else "one training seed each"


def _without(model: str, runs: pl.DataFrame) -> pl.DataFrame:
    every = cache.experiments().filter(base_model=model, provenance="measured")
    return every.filter(~pl.col("experiment_id").is_in(runs["experiment_id"].implode()))


def _missing(model: str, runs: pl.DataFrame) -> None:
    left = _without(model, runs)["experiment_id"].to_list()
    if left:
        st.caption(f"Without a lens: {', '.join(left)}.")


def _too_few(model: str, runs: pl.DataFrame) -> None:
    """What is missing before anything can be told apart, and the commands that make it."""
    known = runs["corpus"].unique(maintain_order=True).to_list()
    left = _without(model, runs)
    has = f"only {listed(known)} has one" if known else "none has one"
    corpora = left["corpus"].unique(maintain_order=True).to_list()
    st.info(
        "Which corpus it was can be asked only where at least two corpora of one model have a lens; "
        f"of {model} {has}. Missing: {listed([c for c in corpora if c not in known]) or 'nothing'}.",
        icon=":material/grid_off:",
    )
    commands = dict.fromkeys(lens_reads.command(name) for name in left["experiment_id"])
    if commands:
        st.code("\n".join(commands), language="bash")
