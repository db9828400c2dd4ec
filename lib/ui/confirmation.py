"""The confirmation panel of the layers page: a second tool on the same change."""

import polars as pl
import streamlit as st

from lib.figures import agreement as figures
from lib.ui import agreement, cache, internal_view, late, names, reads, tables
from lib.ui.claims import power
from lib.ui.links import url_choice


@st.fragment
def panel(experiment_id: str) -> None:
    """CKA displacement against the reconstruction metric, and the late share, in one model.

    The model is that of the experiment: over several models the size of the model would answer.
    """
    st.subheader("Does a tool without dictionaries say the same?", anchor=False)
    model = cache.experiment(experiment_id)["base_model"]
    shown = names.labels(cache.experiments().filter(base_model=model))
    layers = cache.layers(list(shown))
    if layers.is_empty():
        st.info(
            f"No experiment on {model} has layer metrics. Run `python -m lib run "
            "data/experiments/embedded.yaml` to the end."
        )
        return
    layers = layers.with_columns(name=pl.col("experiment_id").replace_strict(shown))
    metric = url_choice(
        "Reconstruction metric", list(agreement.METRICS), "confirm", "ratio",
        agreement.METRICS.__getitem__, widget="segmented",
    )  # fmt: skip
    points = agreement.in_bands(layers, metric)
    shares = late.late(layers, reads.profiles())
    draws = late.null_draws(internal_view.null_draws(experiment_id))
    points = told(points, layers, internal_view.null_draws(experiment_id), metric)
    st.plotly_chart(
        figures.agreement(points, shares, draws, agreement.METRICS[metric]),
        config={"displayModeBar": False}, key="confirmation:figure",
    )  # fmt: skip
    st.markdown(agreement.said(agreement.tests(points, metric), points))
    st.markdown(late.said(shares, draws, experiment_id))
    tables.show(late.with_places(shares, draws), SHARES, name="late-share")


def told(
    points: pl.DataFrame, layers: pl.DataFrame, nulls: pl.DataFrame, metric: str
) -> pl.DataFrame:
    """Adds ``says``: n of each point, and what null draws give on both axes at its layers.

    Args:
        points: ``agreement.in_bands`` of ``layers``.
        nulls: ``internal_view.null_draws``; a draw's number is its mean over the layers, too.
    """
    says = []
    for row in points.iter_rows(named=True):
        here = pl.col("layer").is_in(row["layers"])
        n = layers.filter(here, experiment_id=row["experiment_id"])["n_tokens"].unique().sort()
        ends = dict.fromkeys((n[0], n[-1]))
        drawn = nulls.filter(here).group_by("experiment_id", "control", "draw")
        means = drawn.agg(pl.mean("displacement", metric))
        says.append(
            f"{' to '.join(f'{tokens:,}' for tokens in ends)} tokens a layer<br>null: 1 \u2212 CKA "
            f"{_range(means['displacement'])}, {agreement.METRICS[metric]} {_range(means[metric])}"
        )
    return points.with_columns(says=pl.Series(says, dtype=pl.String))


def _range(draws: pl.Series) -> str:
    known = draws.drop_nulls().to_list()
    if not known:
        return "not measured"
    plural = "s" * (len(known) != 1)
    return f"{power(min(known), '.3g')} to {power(max(known), '.3g')} ({len(known)} draw{plural})"


SHARES = {
    "experiment_id": ("experiment", None), "corpus": ("corpus", None), "model": ("model", None),
    **tables.with_bounds("late_share", "late share of 1 - CKA", "percent"),
    "late_share_place": ("against random LoRA", None),
    **tables.with_bounds("late_minus_mid", "late minus mid, 1 - CKA", "%.4f"),
    "late_minus_mid_place": ("against random LoRA ", None),
    "source": ("interval over", None), "n_layers": ("layers", "%d"),
}  # fmt: skip
