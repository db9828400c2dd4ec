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
from lib.ui import tokens
from lib.ui.ablation_choice import as_features

OUTCOMES = pl.Schema({
    "run": pl.String, "draws": pl.Int64, "share": pl.Float64, "share_low": pl.Float64,
    "share_high": pl.Float64, "percentile": pl.Float64, "p": pl.Float64, "beaten": pl.String,
    "agreement": pl.Float64, "nll": pl.Float64, "kl": pl.Float64,
})  # fmt: skip
EDITS = pl.Schema({
    "run": pl.String, "layer": pl.Int64, "norm": pl.Float64, "relative": pl.Float64,
    "removed": pl.Float64, "fires": pl.Float64,
})  # fmt: skip


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
            "run": as_features(CONTROLS[one.control]), "draws": one.draws, **_span(one.mean),
            "percentile": _percent(one.percentile), "p": one.p,
            "beaten": _beaten(one, verdict),
            "agreement": 100 * float(np.mean([run.agreement for run in runs])), "nll": None,
            "kl": float(np.mean([run.kl for run in runs])),
        })  # fmt: skip
    return pl.DataFrame(rows, schema=OUTCOMES)


def _beaten(one: ControlVerdict, verdict: CausalVerdict) -> str:
    if verdict.interval_missing:
        return "no interval"
    return "no" if not one.beaten else one.unfair or "yes"


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
    """Two decimals; never a negative zero."""
    return round(100 * share, 2) + 0.0


def edits(result: AblationResult) -> pl.DataFrame:
    """One row a run and depth, a control's draws averaged; shares in percent. Columns ``EDITS``."""
    runs = {"treated": [result.treated.edits], "full patch": [result.ceiling.edits]}
    for draw in result.controls:
        runs.setdefault(as_features(CONTROLS[draw.control]), []).append(draw.condition.edits)
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
    known = [value for value in values if value is not None]
    return _percent(float(np.mean(known))) if known else None


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
