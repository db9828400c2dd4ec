"""What a finished ablation says: a sentence, the figure, the strip, and two tables."""

import polars as pl
import streamlit as st

from lib.ablation import AblationRequest, AblationResult
from lib.ablation.request import Condition, NextToken
from lib.figures import theme
from lib.figures.ablation import LOOKS, divergence_from_base, percent, predicted
from lib.ui import cache, tokens

STRIP = (theme.TUNED, theme.DIFFERENCE)
"""Upper half of a token: before the clamp; lower half: after it."""


def show(result: AblationResult, asked: AblationRequest | None) -> None:
    """The whole result; ``asked`` is what the controls say now."""
    if asked is None or result.request != asked:
        st.caption(
            ":material/history: The result below belongs to other settings than the controls "
            "above. Press Run for these."
        )
    st.plotly_chart(divergence_from_base(result), config={"displaylogo": False})
    st.markdown(verdict(result))
    st.caption(seen(result))
    _strip(result)
    st.subheader("What would come next", anchor=False)
    st.dataframe(next_tokens(result), hide_index=True, width="stretch")
    st.subheader("How large the edits were", anchor=False)
    st.dataframe(edits(result), hide_index=True, width="stretch", column_config=_EDIT_COLUMNS)
    seconds = ", ".join(f"{stage} {value:.2f}" for stage, value in result.seconds)
    st.caption(
        f"Run `{result.request.id}` on {result.device}, control seed {result.request.seed}; "
        f"seconds: {seconds}."
    )


def verdict(result: AblationResult) -> str:
    """The outcome in words, with its n; one control draw is named as what it is."""
    clamped, control = result.clamped.share_reversed, result.control.share_reversed
    scored = sum(kl is not None for kl in result.tuned.kl_per_token)
    n = f"n = {scored} predictions on one prompt"
    if clamped is None or control is None:
        return f"**Base and tuned predict exactly the same here: nothing to undo** ({n})."
    what = " + ".join(f"{len(s.latents)} at layer {s.layer}" for s in result.selected)
    headline = (
        "Clamping these latents undoes nothing of the output change; it adds to it"
        if clamped < 0
        else f"Clamping these latents undoes {percent(clamped)} of the output change"
    )
    return (
        f"**{headline}**: KL to base goes from {result.tuned.kl:.3g} to {result.clamped.kl:.3g} "
        f"nats per token ({n}; latents: {what}). {_against_ceiling(result)} The one control draw, "
        f"random latents with the same edit size, undoes {percent(control)}. One prompt and one "
        "control draw show an effect; they are not a test, so there is no interval."
    )


def seen(result: AblationResult) -> str:
    """How much of the change these dictionaries see at all: a clamp cannot undo the rest."""
    layers = [chosen.layer for chosen in result.selected]
    rows = cache.dictionaries(result.request.experiment_id).filter(
        pl.col("kind") == "crosscoder",
        pl.col("layer").is_in(layers),
        pl.col("fve_difference").is_not_null(),
    )
    told = [f"{row['fve_difference']:.0%} at layer {row['layer']}" for row in rows.to_dicts()]
    if not told:
        return "How much of the difference these crosscoders explain was not measured."
    return (
        f"Of the variance of tuned - base these crosscoders explain {', '.join(told)} (held-out "
        "text). A clamp cannot undo what they do not see."
    )


def _against_ceiling(result: AblationResult) -> str:
    ceiling = result.ceiling.share_reversed
    assert ceiling is not None
    if ceiling < 0:
        return (
            "Patching the base model's activations in at the same places moves the predictions "
            f"further away ({percent(ceiling)}), so there is no full patch to compare with."
        )
    told = f"Patching the base model's activations in at the same places undoes {percent(ceiling)}"
    if result.over_ceiling is None:
        return f"{told}: there is next to nothing to undo at these places."
    if result.over_ceiling < 0:
        return f"{told}."
    if result.over_ceiling > 1:
        return f"{told}, less than the clamp: at effects this small the full patch is no limit."
    return f"{told}; the clamp reaches {percent(result.over_ceiling)} of that."


def _strip(result: AblationResult) -> None:
    """Each token coloured by the KL of the prediction OF it, before and after the clamp."""
    pairs = list(zip(result.tuned.kl_per_token, result.clamped.kl_per_token, strict=True))
    full = max([kl for pair in pairs for kl in pair if kl is not None], default=0.0) or 1.0
    marks: list[tokens.Mark | None] = [
        None
        if before is None or after is None
        else tokens.Mark(
            before / full,
            after / full,
            f"KL to base: tuned {before:.3g}, clamped {after:.3g} nats",
        )
        for before, after in pairs
    ]
    st.html(
        tokens.legend(("KL to base, tuned", f"clamped (full colour: {full:.2g} nats)"), STRIP)
        + tokens.strip(predicted(result), marks, STRIP)
    )


def next_tokens(result: AblationResult) -> pl.DataFrame:
    """Ten most probable tokens after the prompt, one column per condition."""
    shown = [result.base, result.tuned, result.clamped, result.control]
    names = ["base", *(LOOKS[c.name].label for c in shown[1:])]
    columns = {
        name: [_token(t) for t in condition.next_tokens]
        for name, condition in zip(names, shown, strict=True)
    }
    ranks = list(range(1, len(result.base.next_tokens) + 1))
    return pl.DataFrame({"rank": ranks, **columns})


def _token(token: NextToken) -> str:
    return f"{tokens.plain(token.token)}   {token.probability:.1%}"


def edits(result: AblationResult) -> pl.DataFrame:
    """One row per clamp and depth: sizes of the edits, and what they remove, in percent."""
    return pl.DataFrame(
        [
            {
                "condition": LOOKS[condition.name].label,
                "layer": edit.layer,
                "latents": _count(result, condition, edit.layer),
                "edit": edit.norm,
                "relative": _in_percent(edit.relative),
                "removed": _in_percent(edit.removed),
                "fires": _in_percent(edit.fires),
            }
            for condition in (result.clamped, result.control)
            for edit in condition.edits
        ],
        schema_overrides={"relative": pl.Float64, "removed": pl.Float64, "fires": pl.Float64},
    )


def _in_percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _count(result: AblationResult, condition: Condition, layer: int) -> int:
    sets = {"clamped": result.selected, "control": result.drawn}[condition.name]
    return next(len(s.latents) for s in sets if s.layer == layer)


_EDIT_COLUMNS = {
    "edit": st.column_config.NumberColumn(
        "edit norm", format="%.3g", help="Mean over tokens, in units of the activation"
    ),
    "relative": st.column_config.NumberColumn(
        "of the difference", format="%.0f %%", help="Edit norm over the norm of tuned - base"
    ),
    "removed": st.column_config.NumberColumn(
        "difference removed",
        format="%.0f %%",
        help="Share of the squared difference to base that is gone after the edit",
    ),
    "fires": st.column_config.NumberColumn(
        "tokens reached", format="%.0f %%", help="Tokens on which at least one latent fires"
    ),
}
