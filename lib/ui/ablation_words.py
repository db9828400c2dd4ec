"""What is said beside the verdict: agreement, damage, and what the dictionaries see."""

import numpy as np
import polars as pl

from lib.ablation import AblationResult, limits
from lib.ablation.outcome import Condition
from lib.evidence.wording import CONTROLS
from lib.metrics.intervals import DRAWS, percentiles, resample_counts
from lib.ui import cache
from lib.ui.links import quoted

STAGES = {**CONTROLS, "ceiling": "full patch"}
"""Parts of a run, as the worker names them, in the reader's words."""


def stages(words: str) -> str:
    """A line of progress or timing in the reader's words."""
    for name, said in STAGES.items():
        words = words.replace(name, said)
    return words


def counted(n: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def agreement(run: Condition) -> str:
    """Share of tokens with base's top token, and its interval over documents."""
    tokens = np.array([d.tokens for d in run.documents], float)
    agree = np.array([d.agree for d in run.documents], float)
    told = f"{100 * agree.sum() / tokens.sum():.1f} %"
    if len(tokens) < 2:
        return told
    counts = resample_counts(len(tokens), DRAWS, 0)
    low, high = percentiles((counts @ agree) / (counts @ tokens))
    return f"{told} (95 % {100 * low:.1f} to {100 * high:.1f})"


def harm(result: AblationResult) -> str:
    """Agreement with base, and what the edit does to neutral text, each with n and interval."""
    texts, scored = len(result.tuned.documents), sum(d.tokens for d in result.tuned.documents)
    lacks = "" if texts > 1 else "; no interval: one text says nothing about others"
    told = (
        f"Top token as base's on {agreement(result.tuned)} of tokens before, "
        f"{agreement(result.treated)} after the edit (n = {counted(scored, 'token')} of "
        f"{counted(texts, 'text')}{lacks}). "
    )
    tuned, treated = result.tuned.neutral_nll, result.treated.neutral_nll
    if tuned is None or treated is None:
        missing = (
            "No neutral text was read, so the damage is not measured: ask for some under Texts."
        )
        return told + missing
    asked = result.request
    return (
        f"{told}Damage on neutral text: {treated - tuned:+.3f} nats per token "
        f"({tuned:.3f} before, {treated:.3f} after the edit, {result.base.neutral_nll:.3f} in base; "
        f"{counted(len(asked.neutral), 'neutral text')}, up to {asked.prompt_limit} tokens of each; "
        "no interval: only means are kept)."
    ).replace("-", "\u2212")


def not_stored(run: str) -> str:
    """Of an unknown ``run`` in the address."""
    return f"The address asks for run {quoted(run, 40)}, which is not stored on this machine."


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
