"""Shared features: does taking one away move base and tuned alike?"""

from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from lib.ablation import AblationError
from lib.ablation.catalogue import Offered
from lib.ablation.meaning import (
    CODES,
    LATENTS_LIMIT,
    Correlation,
    MeaningRequest,
    MeaningResult,
)
from lib.figures.ablation_meaning import Shift, shifts
from lib.ui import (
    ablation_address,
    ablation_clients,
    ablation_controls,
    ablation_run,
    ablation_texts,
    tables,
)
from lib.ui.frame import url_choice
from lib.ui.links import warn, warnings_in
from lib.ui.verdicts import signed

COUNT = 32
CODE_WORDS = {
    "paired": "read from both models",
    "own": "read from the ablated one",
}
COLUMNS = {
    "feature": ("feature", "%d"), "fires": ("fires, base + tuned", "%d"),
    "base": ("KL in base, nats", "%.3g"), "tuned": ("KL in tuned, nats", "%.3g"),
    "ratio": ("tuned / base", "%.3g"),
}  # fmt: skip


def show(experiment_id: str, row: list[Any]) -> None:
    """Controls, the scatter with its correlation, and the features one by one."""
    request = _ask(experiment_id, row)
    current = request == ablation_run.slot("shared").request
    result: MeaningResult | None = ablation_run.follow("shared", experiment_id, current=current)
    if result is not None:
        _finished(result, request)
    elif not ablation_run.slot("shared").ticket:
        st.info(
            "Press Run: each shared feature is taken away alone, once from base and once from "
            "tuned. If both use it alike, their predictions move by similar amounts.",
            icon=":material/science:",
        )


def _ask(experiment_id: str, row: list[Any]) -> MeaningRequest | None:
    info, offered = ablation_clients.offered(experiment_id)
    with row[0]:
        layer = url_choice("Layer", info.layers, "layer")
    with row[1]:
        code = url_choice(
            "Activation taken away", CODES, "code", format_func=CODE_WORDS.get,
            help="What the crosscoder reads from both models, or from the ablated model alone",
        )  # fmt: skip
    most = min(len(offered[layer].latents), LATENTS_LIMIT)
    with row[2]:
        count = ablation_address.number(
            "Features", "count", min(COUNT, most), st.slider, 1, most,
            help="The most frequent shared ones; picked features take their place",
        )  # fmt: skip
    third = st.columns([5, 1.6, 1.3, 1.2], vertical_alignment="bottom")
    asked, _ = ablation_address.picks()
    picked = tuple(dict.fromkeys(latent for at, latent in asked if at == layer))
    third[0].caption(f"Features: {which(layer, offered[layer], count, len(picked))}.")
    request = None
    with warnings_in(st.container()):
        with third[1].popover("Texts", width="stretch"):
            texts = ablation_texts.documents(experiment_id, neutral_too=False)
        with third[2].popover("Run as", width="stretch"):
            options = ablation_controls.options(experiment_id, info, "meaning")
        if texts.problem:
            warn(texts.problem)
        else:
            try:
                request = MeaningRequest(
                    experiment_id=experiment_id, documents=texts.documents, layer=layer,
                    latents=picked, count=count, code=code, prompt_limit=texts.prompt_limit,
                )  # fmt: skip
            except AblationError as problem:
                warn(f"This cannot be run: {problem}")
    with third[3]:
        ablation_run.button("shared", "meaning", request, options)
    return request


def which(layer: int, offered: Offered, count: int, picked: int) -> str:
    """The features that are taken away, in words."""
    if picked:
        return f"the {picked} picked at layer {layer}"
    if offered.classes is None:
        return f"the {count} most frequent of all classes (this bundle does not name classes)"
    shared = len(offered.shared)
    if not shared:
        return (
            f"**none of the {len(offered.latents)} that the live bundle carries at layer {layer} is "
            f"classed as shared**, so the {count} most frequent of all classes are taken"
        )
    fewer = f" (the live bundle carries no more at layer {layer})" if shared < count else ""
    return f"the {min(count, shared)} most frequent shared ones{fewer}"


def _finished(result: MeaningResult, asked: MeaningRequest | None) -> None:
    if result.request != asked:
        st.caption(
            ":material/history: This result belongs to other settings than the controls above. "
            "Press Run for these."
        )
    points = [Shift(shift.latent, *result.mean_kl(shift), shift.fires) for shift in result.shifts]
    st.plotly_chart(
        shifts(points), config={"displaylogo": False}, key=f"ablation:meaning:{result.request.id}"
    )
    st.markdown(verdict(result))
    st.caption(besides(result))
    tables.show(frame(points), COLUMNS, name="ablation_shared_features")
    st.caption(
        f"Run `{result.request.id}` on {result.device}, layer {result.request.layer}, "
        f"{result.hook} hook; {result.seconds:.1f} s."
    )


def verdict(result: MeaningResult) -> str:
    """The rank correlation with its interval over features and documents."""
    found = result.spearman
    n = f"n = {found.n} features, {len(result.tokens)} documents, {sum(result.tokens):,} tokens"
    if found.value is None:
        return f"**No correlation can be given**: {found.missing} ({n})."
    low = None if found.over_both is None else found.over_both[0]
    says = (
        "Features move base and tuned in nearly the same order"
        if low is not None and low > 0.7
        else "Features that move base more also tend to move tuned more"
        if low is not None and low > 0
        else "It is open whether features that move base also move tuned"
    )
    why = f"; {found.missing}" if found.missing else ""
    return f"**{says}: rank correlation {_with_ends(found)}** ({n}{why})."


def besides(result: MeaningResult) -> str:
    """The other two correlations, the size of the shifts, and the features that say nothing."""
    ratios = [
        tuned / base for base, tuned in (result.mean_kl(s) for s in result.shifts) if base and tuned
    ]
    middle = f"Median of tuned / base: {np.median(ratios):.2g}. " if ratios else ""
    return (
        f"{middle}Pearson of log KL {_with_ends(result.pearson)}; of log (KL / size of what was "
        f"taken away) {_with_ends(result.potency)}, which leaves out what merely follows from large "
        f"or frequent activations. Left out because they never fire on these texts: "
        f"{result.silent}."
    )


def _with_ends(found: Correlation) -> str:
    if found.value is None:
        return "not defined"
    ends = found.over_both
    span = "no interval" if ends is None else f"95 % {signed(ends[0])} to {signed(ends[1])}"
    return f"{signed(found.value)} ({span})"


def frame(points: list[Shift]) -> pl.DataFrame:
    """One row a feature, the largest shift in either model first."""
    rows = sorted(points, key=lambda p: -max(p.base, p.tuned))
    return pl.DataFrame(
        [
            {**p._asdict(), "ratio": p.tuned / p.base if p.base else None}
            for p in rows
        ],
        schema_overrides={"ratio": pl.Float64},
    )  # fmt: skip
