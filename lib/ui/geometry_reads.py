"""Cached reads of the geometry of adapters, keyed as in cache.py; the choices they allow."""

import polars as pl
import streamlit as st

from lib.store import geometry as _queries
from lib.ui import cache, lens_reads, names
from lib.ui.links import quoted, remembered_choice, url_choice

HOOKS = {"residual": "residual stream", "mlp": "MLP output"}
_TABLES = {
    "place": _queries.places, "fit": _queries.fits, "score": _queries.scores,
    "added": _queries.added, "written": _queries.written,
}  # fmt: skip
_KEY = "experiment"


@st.cache_data(max_entries=8, show_spinner=False)
def _runs(store_id: str) -> pl.DataFrame:
    return _queries.runs(cache.store())


def runs() -> pl.DataFrame:
    """Of ``lib.store.geometry.runs``: one row per experiment that has geometry."""
    return _runs(cache.store_id())


@st.cache_data(max_entries=64, show_spinner=False)
def _table(store_id: str, name: str, experiment_ids: tuple[str, ...]) -> pl.DataFrame:
    return _TABLES[name](cache.store(), list(experiment_ids))


def table(name: str, *experiment_ids: str) -> pl.DataFrame:
    """``place``, ``fit``, ``score``, ``added`` or ``written`` of some experiments."""
    return _table(cache.store_id(), name, experiment_ids)


def pick_experiment() -> str:
    """The experiment that all pages share, among those with geometry (at least one) and the one in the
    address."""
    shown = names.labels(cache.experiments())
    has = runs()["experiment_id"].to_list()
    asked = st.query_params.get(_KEY)
    known = [one for one in shown if one in has or one == asked]
    default = next(one for one in known if one in has)
    return remembered_choice("Experiment", known, _KEY, default, shown.__getitem__)


def pick_hook(experiment_id: str) -> str:
    """Where activations were read, in the address as ``hook``."""
    found = set(table("place", experiment_id)["hook"])
    return url_choice("Hook", [hook for hook in HOOKS if hook in found], "hook",
                      format_func=HOOKS.__getitem__)  # fmt: skip


def pick_layer(experiment_id: str, hook: str) -> int:
    """The layer that all pages share, in the address as ``layer``; the middle one unless chosen."""
    layers = table("place", experiment_id).filter(hook=hook)["layer"].unique().sort().to_list()
    n_layers = cache.experiment(experiment_id)["n_layers"]
    return remembered_choice(
        "Layer", layers, "layer", layers[len(layers) // 2],
        lambda layer: f"{layer} (depth {layer / n_layers:.2f})" if n_layers else str(layer),
    )  # fmt: skip


def pick_rank(experiment_id: str) -> int:
    """The rank whose matrices are shown, in the address as ``rank``; the experiment's own at first."""
    ranks = table("added", experiment_id)["rank"].unique().sort().to_list()
    own = cache.experiment(experiment_id)["rank"]
    return url_choice("Rank", ranks, "rank", own if own in ranks else ranks[-1])


def missing(experiment_id: str) -> None:
    """That there is no geometry, the lines that ask for it, and the commands that price and make it."""
    has = runs()["experiment_id"].to_list()
    there = f" It has that of {', '.join(f'`{name}`' for name in has[:4])}." if has else ""
    st.info(
        f"The store has no geometry of `{experiment_id}`: its recipe asks for no ranks, or its "
        f"`geometry` stage has not run.{there} These lines in its experiments file ask for it; the "
        "first command says what it would cost, the second makes it and keeps finished stages:",
        icon=":material/visibility_off:",
    )
    st.code("recipe:\n  geometry: {ranks: [4, 8, 16, 32]}", language="yaml")
    run = lens_reads.command(experiment_id)
    st.code(f"{run.replace(' run ', ' plan ', 1)}\n{run}", language="bash")


def source(experiment_id: str) -> str:
    """What stands behind every number of one experiment, in one line."""
    rows = table("place", experiment_id)
    run = runs().row(by_predicate=pl.col("experiment_id") == experiment_id, named=True)
    ranks = ", ".join(str(rank) for rank in run["ranks"])
    seeds = set(table("score", experiment_id)["against"])
    named = rows["pretrained"].drop_nulls()
    which = (
        "trained here on base activations, two seeds" if "pretrained_seeds" in seeds
        else f"{quoted(named[0])}, read from a path, no second seed" if len(named)
        else "read from a path, no second seed"
    )  # fmt: skip
    return (
        f"Geometry: adapters of rank {ranks} at {run['places']} places; dictionaries of "
        f"{span(rows['latents'])} latents, {span(rows['train_tokens'])} training and "
        f"{span(rows['tokens'])} held-out tokens; pretrained dictionary {which}; "
        f"part {run['part'][:12]}. The last line is of the experiment itself, its rank and hook."
    )


def span(values: pl.Series) -> str:
    """Whole numbers from least to most: ``128`` or ``128 to 256``."""
    known = values.drop_nulls()
    if known.is_empty():
        return "no"
    low, high = f"{known.min():,}", f"{known.max():,}"
    return low if low == high else f"{low} to {high}"
