"""The verdict of an ablation as sentences with n and interval. Pure: numbers in, markdown out.

A latent of a dictionary is called a feature here, as on every page.
"""

from lib.ablation import limits
from lib.evidence.causal import MIN_DOCUMENTS
from lib.evidence.verdict import CausalVerdict, ControlVerdict
from lib.metrics.intervals import Interval

TREATMENTS = {
    limits.PAIR_CLAMP: "Clamping these features to base",
    limits.CODE_CLAMP: "Giving these features the activation that they have in base",
    limits.ZERO: "Silencing these features",
    limits.SUBSPACE_SWAP: "Swapping in base's part along these features",
    limits.FULL_PATCH: "Patching base's activations in",
    limits.STEER: "Adding these features' directions",
    limits.SCALE_LORA: "Scaling the adapter",
}
CONTROLS = {
    limits.RANDOM_LATENTS: "random features",
    "gaussian": "Gaussian noise",
    "real_difference": "differences of real activations",
    "shuffled": "the same edits on other tokens",
    "sign_flipped": "the edits with signs at random",
}


def sentence(verdict: CausalVerdict) -> str:
    """Effect, comparison with the full patch, comparison with the controls, and what is missing."""
    n = sample(verdict)
    if verdict.share is None:
        return f"**Base and tuned predict exactly the same here: nothing to undo** ({n})."
    parts = [_headline(verdict, verdict.share, n), _ceiling(verdict), _controls(verdict)]
    return " ".join(part for part in [*parts, _conclusion(verdict)] if part)


def sample(verdict: CausalVerdict) -> str:
    """``n = 8 documents, 700 predicted tokens``."""
    return f"n = {_count(verdict.documents, 'document')}, {verdict.tokens:,} predicted tokens"


def _headline(verdict: CausalVerdict, share: Interval, n: str) -> str:
    what = TREATMENTS.get(verdict.intervention, "The edit")
    best = _strongest(verdict)
    more = 0 if best is None or share.low is None else extra_digits(share.low, best.percentile)
    span = _span(share, more)
    if _holds_zero(share):
        told = f"{what} undoes no share of the output change that can be told from 0"
        return f"**{told}** (estimate {percent(share.value)}{span}; {n})."
    if share.value < 0:
        told = (
            f"{what} undoes nothing of the output change: it moves the predictions further from "
            f"base by {percent(-share.value)} of it"
        )
        return f"**{told}** (share undone {percent(share.value)}{span}; {n})."
    return f"**{what} undoes {percent(share.value)} of the output change** ({n}{span})."


def _holds_zero(share: Interval) -> bool:
    return share.low is not None and share.high is not None and share.low <= 0 <= share.high


def _strongest(verdict: CausalVerdict) -> ControlVerdict | None:
    return max(verdict.controls, key=lambda c: c.percentile, default=None)


def _ceiling(verdict: CausalVerdict) -> str:
    if verdict.ceiling is None or verdict.intervention == limits.FULL_PATCH:
        return ""
    reach = percent(verdict.ceiling.value)
    told = f"Patching base's own activations in at the same places undoes {reach}"
    over = verdict.over_ceiling
    if over is None:
        return f"{told}: {_too_low(verdict)}."
    why = verdict.over_ceiling_missing
    lacks = f"; no interval, because {why}" if why else ""
    return f"{told}; the edit reaches {percent(over.value)} of that{_span(over)}{lacks}."


def _too_low(verdict: CausalVerdict) -> str:
    """Why the edit is not held against the full patch, and what to do."""
    little = "under 1 %, too little to hold the edit against"
    if verdict.ceiling is not None and verdict.ceiling.value < 0:
        little = "even they lead away from base, so the edit cannot be held against them"
    return (
        f"{little}. Edit at other depths or at all of them, or see with a full patch of the "
        "residual stream what those depths could undo"
    )


def _controls(verdict: CausalVerdict) -> str:
    """The strongest control, by name, and the largest p."""
    best = _strongest(verdict)
    if best is None:
        return ""
    low = None if verdict.share is None else verdict.share.low
    reach = percent(best.percentile, 0 if low is None else extra_digits(low, best.percentile))
    where = "" if best.draws == 1 or best.p is None else " at the 97.5th percentile of its draws"
    told = f"The strongest control, {_name(best.control)}, undoes {reach}{where}"
    if verdict.p is None:
        return f"{told}."
    draws = sorted({c.draws for c in verdict.controls if c.p is not None})
    each = f" of {_count(draws[0], 'draw')} each" if len(draws) == 1 else ""
    return f"{told} (largest p over the controls{each}: {verdict.p:.2g})."


def _conclusion(verdict: CausalVerdict) -> str:
    if verdict.claim:
        return (
            "Even the lower end of the interval lies above every control: **these places carry part "
            "of the output change, and matched edits do not undo it.**"
        )
    return f"**No causal claim**: {'; '.join(_reasons(verdict))}."


def _reasons(verdict: CausalVerdict) -> list[str]:
    """The objections in words; that no control is beaten says nothing where it could not be."""
    kinds = {objection.kind for objection in verdict.against}
    found = []
    unsure = verdict.share is not None and _holds_zero(verdict.share)
    if "no_effect" in kinds and not unsure:
        found.append("the edit undoes nothing")
    if "reaches_zero" in kinds or unsure:
        found.append("the interval of the share reaches 0")
    if verdict.documents == 1:
        found.append("the interval is not defined because one document says nothing about others")
    elif "documents" in kinds:
        many = _count(verdict.documents, "document")
        found.append(f"{many} are too few for an interval to rely on ({MIN_DOCUMENTS} needed)")
    if "no_controls" in kinds:
        found.append("no control was run")
    found += _unfair(verdict)
    stronger = [_name(o.control) for o in verdict.against if o.kind == "not_beaten"]
    if stronger and verdict.documents > 1 and "no_effect" not in kinds:
        found.append(f"the lower end of the interval is not above {_listed(stronger)}")
    return found


def _unfair(verdict: CausalVerdict) -> list[str]:
    """Each reason once, with the controls that it holds for."""
    names: dict[str, list[str]] = {}
    for control in verdict.controls:
        if control.unfair:
            names.setdefault(control.unfair, []).append(_name(control.control))
    every = len(verdict.controls)
    return [
        f"{'every control' if len(known) == every > 1 else _listed(known, 'and')}: {why}"
        for why, known in names.items()
    ]


def percent(share: float, more: int = 0) -> str:
    """``12 %``, with one decimal below 10 % and a true minus sign; never a negative zero.

    Args:
        more: decimals beyond these, as ``extra_digits`` gives.
    """
    shown = _rounded(share, more)
    return f"{'0' if float(shown) == 0 else shown} %".replace("-", "\u2212")


def _rounded(share: float, more: int) -> str:
    return f"{100 * share:.{more + (abs(share) < 0.1)}f}"


def extra_digits(one: float, other: float) -> int:
    """Decimals that two compared shares need beyond the usual to look different, 0..3; 0 where even
    three do not part them."""
    apart = (
        more for more in range(4) if float(_rounded(one, more)) != float(_rounded(other, more))
    )
    return next(apart, 0)


def _span(found: Interval, more: int = 0) -> str:
    if found.low is None or found.high is None:
        return ""
    return f", 95 % {percent(found.low, more)} to {percent(found.high, more)}"


def _name(control: str) -> str:
    return CONTROLS.get(control, control)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _listed(names: list[str], last: str = "or") -> str:
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
