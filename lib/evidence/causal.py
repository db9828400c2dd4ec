"""Does an ablation support a causal claim? Treated against matched controls, over documents.

Source: the outcome is the share of KL reversed, 1 - sum KL(edited || base) / sum KL(tuned || base).
A claim needs the lower end of the treated share's interval above the 97.5th percentile of every
control, and controls that are a fair comparison. Everything that stands against it is listed.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from lib.ablation.outcome import Condition, Draw
from lib.ablation.request import AblationResult
from lib.evidence.levels import Shares, shares_of
from lib.evidence.verdict import CausalVerdict, ControlVerdict, Objection
from lib.metrics.intervals import DRAWS, Interval

PERCENTILE = 0.975
MIN_DRAWS = 20
"""With fewer, no rank-based p lies under 0.05: the smallest is 1 / (draws + 1)."""
MIN_DOCUMENTS = 6
"""A percentile interval never reaches below its lowest document, and all n documents lie above the
median once in 2^n; n = 6 is the first to bring that under 2.5 %."""
MIN_CEILING = 0.01
MATCHED = (0.9, 1.1)
"""Control edit norm over the treated one's. A smaller edit does less of anything, a larger one does
more damage: in both cases beating it says little."""
FIXED = ("sign_flipped",)
"""Controls with a single possible edit: nothing to draw, so one run of it is enough."""


def judge(result: AblationResult, *, resamples: int = DRAWS, seed: int = 0) -> CausalVerdict:
    """Intervals, controls and claim of one ablation, at 95 %.

    Documents are resampled together for all runs (every run read the same ones), control draws
    within each control. One document: there are no intervals and no claim.

    Raises:
        ValueError: no documents, runs that did not score the same tokens, or a KL that is not
            finite.
    """
    shares = shares_of(result, resamples, seed)
    tokens = sum(d.tokens for d in result.tuned.documents)
    known = (result.request.intervention, shares.documents, tokens)
    if shares.tuned == 0:
        same = "base and tuned predict exactly the same on this text, so there is nothing to undo"
        none = (Objection("no_effect"),)
        return CausalVerdict(*known, None, None, None, same, same, (), none)
    treated, ceiling = shares.of(result.treated), shares.of(result.ceiling)
    share = shares.interval(treated)
    names = dict.fromkeys(draw.control for draw in result.controls)
    controls = tuple(_against_control(name, result, shares, treated) for name in names)
    return CausalVerdict(
        *known,
        share,
        shares.interval(ceiling),
        *_over_ceiling(shares, treated, ceiling),
        "" if shares.documents > 1 else "one document says nothing about others",
        controls,
        _objections(shares.documents, share, controls),
    )


def _over_ceiling(
    shares: Shares, treated: Float[np.ndarray, " rows"], ceiling: Float[np.ndarray, " rows"]
) -> tuple[Interval | None, str]:
    if ceiling[0] < MIN_CEILING:
        return None, "the full patch at the same places undoes less than 1 %: nothing to compare to"
    with np.errstate(divide="ignore", invalid="ignore"):
        found = shares.interval(treated / ceiling)
    if found.low is None:
        return found, "one document says nothing about others"
    shaky = float((ceiling[1:] < MIN_CEILING).mean())
    if shaky > 1 - PERCENTILE:
        return Interval(found.value, None, None), (
            f"in {100 * shaky:.0f} % of the resamples of documents the full patch undoes less than 1 %"
        )
    return found, ""


def _against_control(
    name: str, result: AblationResult, shares: Shares, treated: Float[np.ndarray, " rows"]
) -> ControlVerdict:
    draws = [draw for draw in result.controls if draw.control == name]
    table = np.stack([shares.of(draw.condition) for draw in draws])
    observed = table[:, 0]
    mean = shares.mean_over_draws(table, stream=name)
    low = shares.interval(treated).low
    percentile = float(np.quantile(observed, PERCENTILE, method="inverted_cdf"))
    ratio = norm_ratio(result.treated, draws)
    alone = name in FIXED and bool(np.ptp(observed) < 1e-9)
    p = (1 + int((observed >= treated[0]).sum())) / (len(draws) + 1)
    return ControlVerdict(
        control=name,
        draws=len(draws),
        shares=tuple(float(s) for s in observed),
        mean=shares.interval(mean),
        percentile=percentile,
        p=None if alone else p,
        advantage=shares.interval(treated - mean),
        norm_ratio=ratio,
        beaten=low is not None and low > percentile,
        unfair=_unfair(len(draws), alone, ratio),
    )


def _unfair(draws: int, alone: bool, ratio: float | None) -> str:
    if draws < MIN_DRAWS and not alone:
        return f"{draws} {'draw' if draws == 1 else 'draws'}, fewer than {MIN_DRAWS}"
    if ratio is not None and ratio < MATCHED[0]:
        return f"edits only {100 * ratio:.0f} % as large as the treated ones"
    if ratio is not None and ratio > MATCHED[1]:
        return f"edits {ratio:.2g} times as large as the treated ones"
    return ""


def norm_ratio(treated: Condition, draws: Sequence[Draw]) -> float | None:
    """Mean edit norm of the draws over the treated one's, at the depth where they differ most.

    Dimensionless; None without a treated edit or without edit norms of the draws.
    """
    ratios = []
    for edit in treated.edits:
        norms = [e.norm for d in draws for e in d.condition.edits if e.layer == edit.layer]
        if norms and edit.norm > 0:
            ratios.append(float(np.mean(norms)) / edit.norm)
    tiny = np.finfo(float).tiny
    return max(ratios, key=lambda r: abs(np.log(max(r, tiny))), default=None)


def _objections(
    documents: int, share: Interval, controls: tuple[ControlVerdict, ...]
) -> tuple[Objection, ...]:
    found = []
    if share.value <= 0:
        found.append(Objection("no_effect"))
    elif share.low is not None and share.low <= 0:
        found.append(Objection("reaches_zero"))
    if documents < MIN_DOCUMENTS:
        found.append(Objection("documents"))
    if not controls:
        found.append(Objection("no_controls"))
    found += [Objection("unfair", c.control) for c in controls if c.unfair]
    found += [Objection("not_beaten", c.control) for c in controls if not c.beaten]
    return tuple(found)
