"""What is said beside the verdict: agreement, damage, and what the dictionaries see."""

import polars as pl

from lib.ablation import AblationResult, limits
from lib.ui import cache


def harm(result: AblationResult) -> str:
    """Agreement with base, and what the edit does to neutral text."""
    before, after = result.tuned.agreement, result.treated.agreement
    told = f"Top token as base's on {before:.0%} of tokens before, {after:.0%} after the edit. "
    tuned, treated = result.tuned.neutral_nll, result.treated.neutral_nll
    if tuned is None or treated is None:
        missing = (
            "No neutral text was read, so the damage is not measured: ask for some under Texts."
        )
        return told + missing
    return (
        f"{told}Damage on neutral text: {treated - tuned:+.3f} nats per token "
        f"({tuned:.3f} before, {treated:.3f} after the edit, {result.base.neutral_nll:.3f} in base)."
    ).replace("-", "\u2212")


def no_edits(intervention: str) -> str:
    """Why a generation has no sizes of edits."""
    if intervention == limits.SCALE_LORA:
        return (
            "Scaling the adapter changes its weights and edits no activation: no edit has a norm."
        )
    return "This stored run is older than the measure of its edits: run it anew to see their norms."


def seen(result: AblationResult) -> str:
    """How much of the change these dictionaries see at all: a clamp cannot undo the rest."""
    layers = [chosen.layer for chosen in result.selected if chosen.latents]
    if not layers:
        return ""
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
