"""What stands under the paths: verdict, tables and captions. The words are made in paths_claims.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import streamlit as st

from lib.ui import cache, names, paths_caption, paths_claims, paths_points, paths_slopes, tables
from lib.ui.paths_points import VARIED, Asked, Traced
from lib.ui.texts import TEXTS


def say(
    found: Sequence[Traced],
    own: Mapping[str, dict[str, Any] | None],
    asked: Asked,
    outputs: pl.DataFrame,
    layers: pl.DataFrame,
    draws: int,
) -> None:
    """One line for each path; slopes for scales, the remedy for mixtures.

    Args:
        own: by experiment_id, its own adapter on this text; None = on no path.
        outputs: of ``lib.store.sweep``; layers: of it too, on neutral text alone.
        draws: fewest random adapters behind a cut.
    """
    if asked.path == "mixing":
        said = _remedy(found, asked, outputs, layers)
    else:
        said = [paths_claims.course(traced, asked, TEXTS[asked.text]) for traced in found]
        st.markdown(paths_claims.summary(found))
    if asked.path == "scale":
        said += [
            paths_slopes.against_law(
                traced, asked, paths_slopes.slopes(traced.points, asked.column)
            )
            for traced in found
        ]
    st.markdown("\n".join(said))
    swept = pl.col("experiment_id").is_in(outputs["experiment_id"].unique().implode())
    called = names.labels(cache.experiments().filter(swept))
    have = set(outputs.filter(path=asked.path)["experiment_id"])
    lacking = [name for one, name in called.items() if one not in have]
    unmarked = [traced.name for traced in found if own[traced.id] is None]
    st.caption(paths_caption.caption(found, asked, lacking, unmarked, draws))


def _remedy(
    found: Sequence[Traced], asked: Asked, outputs: pl.DataFrame, layers: pl.DataFrame
) -> list[str]:
    keys = ["experiment_id", "path", "value"]
    corpus = outputs.filter(text="corpus").select(*keys, nll_corpus="nll", base_corpus="nll_base")
    neutral = paths_points.placed(outputs, layers, asked._replace(text="neutral")).join(
        corpus, on=keys, maintain_order="left"
    )
    said = []
    for traced in found:
        mixed, scaled = (
            neutral.filter(pl.col("experiment_id") == traced.id, pl.col("path") == path)
            for path in ("mixing", "scale")
        )
        said.append(paths_claims.remedy(traced.name, mixed, scaled, asked))
    return said


def show(found: Sequence[Traced], asked: Asked) -> None:
    """Every point; and the slopes of a scale path."""
    rows = pl.concat([t.points.with_columns(name=pl.lit(t.name)) for t in found])
    if asked.path != "scale":
        tables.show(rows, _columns(asked), name=f"paths-{asked.path}", helps=_HELPS)
        return
    one, two = st.tabs(["Points", "Slopes against the law"])
    with one:
        tables.show(rows, _columns(asked), name=f"paths-{asked.path}", helps=_HELPS)
    with two:
        tables.show(paths_slopes.table(found, asked), SLOPES, name="paths-slopes")


_HELPS = {
    "course": "early: the output was high at every smaller value of this path too; internal first: the "
    "inner was high where the output was still low; delayed: the output was low before",
    "offset_share": "of the inner change that is one constant vector",
}
_TRAINED_ON_CORPUS = ("rank", "checkpoint")
"""Whose training loss is of this adapter and of the corpus alone."""


def _columns(asked: Asked) -> dict[str, tuple[str, str | None]]:
    return {
        "name": ("experiment", None), "value": (VARIED[asked.path].label, "%.4g"),
        "label": ("regime", None), "course": ("with its course", None),
        **tables.with_bounds("x", asked.inner.unit, "%.4g"), "layer": ("at layer", "%d"),
        "offset_share": ("offset share", "percent"),
        **tables.with_bounds("y", "KL, nats", "%.4g"),
        **tables.with_bounds("agreement", "agreement", "percent"),
        "nll": ("loss, nats", "%.3f"), "nll_base": ("base's loss, nats", "%.3f"),
        **({"loss": ("training loss, nats", "%.3f")} if asked.path in _TRAINED_ON_CORPUS else {}),
        "documents": ("documents", "%d"),
        "tokens": ("tokens", "%d"), "inner_tokens": ("tokens, inner", "%d"),
    }  # fmt: skip


SLOPES = {
    "name": ("experiment", None), "quantity": ("quantity", None), "over": ("over s", None),
    "n": ("points", "%d"), **tables.with_bounds("slope", "slope", "%.3f"),
    "law": ("law", "%d"), "left": ("law left at s", "%.3g"),
    "factor": ("measured / law there", "%.3g"), "why": ("not defined because", None),
}  # fmt: skip
