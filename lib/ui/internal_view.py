"""Inner change beside its nulls, on the layers page: verdict and table."""

from collections.abc import Mapping, Sequence

import polars as pl
import streamlit as st

from lib.ui import cache, internal, internal_table, reads
from lib.ui.internal import CONTROLS, FEW, GUARD, LIMITED, Against, Depth, span
from lib.ui.internal_table import HOW
from lib.ui.verdicts import listed, number


def null_draws(experiment_id: str) -> pl.DataFrame:
    """Null draws of every experiment with the model and hook of this one."""
    return internal.pool(reads.nulls("corpus").layers, cache.experiments(), experiment_id)


def panel(experiment_id: str) -> None:
    """Each dictionary depth beside its nulls; or which stage is missing."""
    layers = cache.layers([experiment_id])
    if layers.is_empty():  # the figure above has said so
        return
    st.subheader("Is it more than where nothing was learned?", anchor=False)
    found = internal.depths(layers, null_draws(experiment_id))
    if not found:
        st.info(f"`{experiment_id}` has no reconstruction ratio at any depth: its `sparse` stage "
                "has not run. Run `python -m lib run` on its experiments file to the end.")  # fmt: skip
        return
    profile = next(reads.profiles().filter(experiment_id=experiment_id).iter_rows(named=True), {})
    peak = internal.peak(profile.get("peak_ratio"), null_draws(experiment_id))
    st.markdown(said(found, profile, peak))
    table = internal_table.words(found, profile, peak)
    st.dataframe(
        table.drop(HOW), hide_index=True, width="stretch", height="content", key="internal:table",
        column_config={"measure": st.column_config.TextColumn(pinned=True, width=175)},
    )  # fmt: skip
    with st.expander("How to read each row"):
        st.dataframe(
            table.select("measure", HOW), hide_index=True, height="content", key="internal:how",
            column_config={"measure": st.column_config.TextColumn(width=175)},
        )  # fmt: skip
    st.download_button(
        "CSV", internal_table.numbers(found).write_csv(), "inner-change.csv", "text/csv",
        icon=":material/download:", on_click="ignore", key="csv:internal",
    )  # fmt: skip


def said(found: Sequence[Depth], profile: Mapping[str, object], peak: Mapping[str, Against]) -> str:
    """Peak, nulls and warning lights in words, with n and interval."""
    parts = [_peak(found, profile)]
    parts += [_null(name, peak[control]) for control, name in CONTROLS.items()]
    overfit = [str(d.row["layer"]) for d in found if d.overfit is not None and d.overfit > GUARD]
    if overfit:
        parts.append(
            f"**The in-sample ratio is withheld at layer {listed(overfit)}**: it is over {GUARD:g} "
            "times the held-out one, which is overfitting."
        )
    bound = [f"{d.row['layer']} ({d.limited})" for d in found if d.limited]
    parts.append(
        f"**Denominator-limited at layer {listed(bound)}**: there the ratio says more of the "
        "dictionary's own error than of the change; read the excess FVU."
        if bound
        else f"No depth is denominator-limited (none reaches {LIMITED:g} of its bound)."
    )
    return " ".join(parts)


def _peak(found: Sequence[Depth], profile: Mapping[str, object]) -> str:
    if profile.get("peak_ratio") is None:
        return (
            "**The largest ratio over depths is not defined because its bootstrap over all depths "
            "was not measured**; single depths are below."
        )
    value = internal_table.value(profile, "peak_ratio", ".3f")
    known = [d for d in found if d.row["peak_share"] is not None]
    where = ""
    if known:
        top = max(known, key=lambda d: d.row["peak_share"])
        where = (
            f", at layer {top.row['layer']} in {100 * top.row['peak_share']:.0f} % of resamples of "
            "the documents"
        )
    return (
        f"**The largest ratio of {number(len(found))} depths is {value}**{where}; the interval "
        "(95 %) lets each resample choose its own depth."
    )


def _null(name: str, null: Against) -> str:
    draws = span(null.draws)
    if not null.draws:
        return f"Null, {name}: **not measured** for this model."
    if null.over is None:
        return f"Null, {name}: {draws}; over it is **not defined because** {null.why}."
    text = f"Null, {name}: {draws}, so {null.over:.2f} times the null"
    if null.why == FEW:
        return f"{text}; {FEW}."
    if null.z is None:
        return f"{text}; z is **not defined because** {null.why}."
    z = internal_table.over(null).split("; ")[1]
    return f"{text}, {z}."
