"""The tables under an ablation: outcome and edits of every run, next tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from lib.ablation import AblationResult
from lib.ablation.outcome import Condition, Edit, NextToken
from lib.evidence.verdict import CausalVerdict, ControlVerdict
from lib.evidence.wording import CONTROLS
from lib.metrics.intervals import Interval
from lib.ui import tables, tokens

Edited = dict[str, list[tuple[Edit, ...]]]
"""By the name of a run, the edits of each of its draws."""
OUTCOMES = pl.Schema({
    "run": pl.String, "draws": pl.Int64, "share": pl.Float64, "share_low": pl.Float64,
    "share_high": pl.Float64, "percentile": pl.Float64, "p": pl.Float64, "beaten": pl.String,
    "agreement": pl.Float64, "nll": pl.Float64, "kl": pl.Float64,
})  # fmt: skip
EDITS = pl.Schema({
    "run": pl.String, "layer": pl.Int64, "norm": pl.Float64, "relative": pl.Float64,
    "removed": pl.Float64, "fires": pl.Float64,
})  # fmt: skip


_PERCENT = "%.1f"
_OUTCOME_HEADS = {
    "run": ("run", None), "draws": ("draws", "%d"), "share": ("undone, %", _PERCENT),
    "share_low": ("95 % from", _PERCENT), "share_high": ("to", _PERCENT),
    "percentile": ("97.5th of draws, %", _PERCENT), "p": ("p", "%.2g"), "beaten": ("beaten", None),
    "agreement": ("agrees with base, %", _PERCENT), "nll": ("neutral NLL, nats", "%.3f"),
    "kl": ("KL to base, nats", "%.4f"),
}  # fmt: skip
_EDIT_HEADS = {
    "run": ("run", None), "layer": ("layer", "%d"), "norm": ("edit norm", "%.3g"),
    "relative": ("of the difference, %", "%.0f"), "removed": ("difference removed, %", _PERCENT),
    "fires": ("tokens reached, %", "%.0f"),
}  # fmt: skip
_HELPS = {
    "share": "1 - KL after / KL before; a control's is the mean of its draws",
    "p": "One-sided rank: (1 + draws at least as large as treated) / (draws + 1)",
    "beaten": "Lower end of the treated interval above the 97.5th percentile of the draws",
    "nll": "Mean negative log-likelihood of neutral text: higher = more damage; of a control the "
    "mean of its first draws",
    "norm": "Mean over tokens, in units of the activation; of controls the mean of the draws",
    "relative": "Edit norm over the norm of tuned - base",
    "removed": "Share of the squared difference to base that is gone after the edit",
    "fires": "Tokens on which at least one of the features fires",
}


def show_outcomes(result: AblationResult, verdict: CausalVerdict) -> None:
    """The table of all runs."""
    rows = outcomes(result, verdict)
    tables.show(rows, _OUTCOME_HEADS, name="ablation_outcomes", helps=_HELPS)


def show_edits(runs: Edited, name: str, *, fires: bool = True) -> None:
    """The table of edits; without the tokens that they reach where nobody counted these."""
    heads = {key: head for key, head in _EDIT_HEADS.items() if fires or key != "fires"}
    tables.show(edits(runs), heads, name=name, helps=_HELPS)


def outcomes(result: AblationResult, verdict: CausalVerdict) -> pl.DataFrame:
    """One row a run, a control's draws together; shares in percent. Columns ``OUTCOMES``."""
    rows = [
        _outcome("base", result.base, None),
        _outcome("tuned", result.tuned, None),
        _outcome("treated", result.treated, verdict.share),
        _outcome("full patch", result.ceiling, verdict.ceiling),
    ]
    for one in verdict.controls:
        runs = [d.condition for d in result.controls if d.control == one.control]
        rows.append({
            "run": CONTROLS[one.control], "draws": one.draws, **_span(one.mean),
            "percentile": _percent(one.percentile), "p": one.p,
            "beaten": _beaten(one, verdict),
            "agreement": 100 * float(np.mean([run.agreement for run in runs])),
            "nll": _mean([run.neutral_nll for run in runs]),
            "kl": float(np.mean([run.kl for run in runs])),
        })  # fmt: skip
    return pl.DataFrame(rows, schema=OUTCOMES)


def _beaten(one: ControlVerdict, verdict: CausalVerdict) -> str:
    if verdict.interval_missing:
        return "no interval"
    return "no" if not one.beaten else "yes, but see above" if one.unfair else "yes"


def _outcome(name: str, run: Condition, share: Interval | None) -> dict[str, Any]:
    known = Interval(run.share_reversed, None, None) if run.share_reversed is not None else None
    return {
        "run": name, "draws": None, **_span(share or known), "percentile": None, "p": None,
        "beaten": None, "agreement": 100 * run.agreement, "nll": run.neutral_nll, "kl": run.kl,
    }  # fmt: skip


def _span(found: Interval | None) -> dict[str, float | None]:
    if found is None:
        return {"share": None, "share_low": None, "share_high": None}
    ends = (None if end is None else _percent(end) for end in (found.low, found.high))
    return {
        "share": _percent(found.value),
        **dict(zip(("share_low", "share_high"), ends, strict=True)),
    }


def _percent(share: float) -> float:
    """Not rounded: the table shows one decimal, and rounding twice would give another than the
    sentence over it. What is shown as zero is zero: never a negative one."""
    return 0.0 if float(f"{100 * share:.1f}") == 0 else 100 * share


def edited(result: AblationResult) -> Edited:
    """Treated, full patch and every control."""
    runs = {"treated": [result.treated.edits], "full patch": [result.ceiling.edits]}
    for draw in result.controls:
        runs.setdefault(CONTROLS[draw.control], []).append(draw.condition.edits)
    return runs


def edits(runs: Edited) -> pl.DataFrame:
    """One row a run and depth, a control's draws averaged; shares in percent. Columns ``EDITS``."""
    rows = [_edit(name, same) for name, drawn in runs.items() for same in zip(*drawn, strict=True)]
    return pl.DataFrame(rows, schema=EDITS)


def _edit(name: str, draws: Sequence[Edit]) -> dict[str, Any]:
    """Draws at one depth."""
    return {
        "run": name,
        "layer": draws[0].layer,
        "norm": float(np.mean([edit.norm for edit in draws])),
        **{
            field: _mean_percent([getattr(edit, field) for edit in draws])
            for field in ("relative", "removed", "fires")
        },
    }


def _mean_percent(values: Sequence[float | None]) -> float | None:
    found = _mean(values)
    return None if found is None else _percent(found)


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def next_tokens(runs: dict[str, Sequence[NextToken]]) -> pl.DataFrame:
    """Ten most probable tokens after the prompt, a column for each run that has them."""
    known = {name: found for name, found in runs.items() if found}
    if not known:
        return pl.DataFrame()
    columns = {
        name: [f"{tokens.plain(t.token)}   {t.probability:.1%}" for t in found]
        for name, found in known.items()
    }
    return pl.DataFrame({"rank": list(range(1, len(next(iter(columns.values()))) + 1)), **columns})
