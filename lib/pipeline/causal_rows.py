"""Results of the standard ablation as rows of the store: numbers and ids, no text."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lib import evidence
from lib.ablation.request import AblationRequest, AblationResult, Condition, Draw
from lib.evidence import CausalVerdict, ControlVerdict
from lib.metrics.intervals import Interval
from lib.pipeline.excerpts import Excerpt

Row = dict[str, Any]
EDIT = ("norm", "difference_norm", "removed", "fires")
SHORT, LONG = pl.List(pl.Float32), pl.List(pl.Float64)
COUNTS = pl.List(pl.UInt16)


class Asked(NamedTuple):
    """One request, and which documents its texts are."""

    request: AblationRequest
    documents: tuple[Excerpt, ...]
    neutral: tuple[Excerpt, ...]

    @property
    def layers(self) -> str:
        """As in column ``layers`` of the store."""
        return ",".join(map(str, self.request.layers))


def tables(
    experiment_id: str, part: str, results: Sequence[tuple[Asked, AblationResult]]
) -> dict[str, pl.DataFrame]:
    """Rows of ``causal_run``, ``causal`` and ``causal_draw``."""
    runs, conditions, draws = [], [], []
    for asked, result in results:
        verdict = evidence.judge(result)
        where = {"experiment_id": experiment_id, "layers": asked.layers}
        runs.append(where | {"part": part} | _run(asked, result, verdict))
        conditions += [where | row for row in _conditions(result, verdict)]
        draws += [where | _draw(draw) for draw in result.controls]
    nested = pl.List(pl.List(pl.Int32))
    return {
        "causal_run": _frame(
            runs,
            latents=nested,
            tokens=COUNTS,
            starts=pl.List(pl.Int32),
            **dict.fromkeys(("documents", "neutral", "against"), pl.List(pl.String)),
        ),
        "causal": _frame(
            conditions,
            **dict.fromkeys(("edit_norm", "difference_norm", "removed", "fires"), LONG),
            document_kl=LONG,
            document_agree=COUNTS,
        ),
        "causal_draw": _frame(
            draws,
            draw=pl.UInt16,
            **dict.fromkeys(("edit_norm", "difference_norm", "removed", "document_kl"), SHORT),
            document_agree=COUNTS,
        ),
    }


def _frame(rows: list[Row], **types: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None, schema_overrides=types)


def _run(asked: Asked, result: AblationResult, verdict: CausalVerdict) -> Row:
    request = asked.request
    return {
        "request_id": request.id,
        "intervention": request.intervention,
        "ranking": request.order,
        **{name: getattr(request, name) for name in ("top", "strength", "draws", "seed")},
        **{name: getattr(request, name) for name in ("skip_first", "prompt_limit")},
        "documents": [excerpt.document for excerpt in asked.documents],
        "starts": [excerpt.start for excerpt in asked.documents],
        "neutral": [excerpt.document for excerpt in asked.neutral],
        "tokens": [document.tokens for document in result.tuned.documents],
        "latents": [list(chosen.latents) for chosen in result.selected],
        **_interval("share", verdict.share),
        **_interval("ceiling", verdict.ceiling),
        **_interval("over_ceiling", verdict.over_ceiling),
        "p": verdict.p,
        "claim": verdict.claim,
        "against": [":".join(filter(None, objection)) for objection in verdict.against],
        "base_model": result.base_model,
        "hook": result.hook,
        "device": result.device,
        "seconds": sum(value for _, value in result.seconds),
    }


def _conditions(result: AblationResult, verdict: CausalVerdict) -> Iterable[Row]:
    intervals = {"treated": verdict.share, "ceiling": verdict.ceiling}
    for condition in (result.base, result.tuned, result.treated, result.ceiling):
        whole = condition.share_reversed
        found = intervals.get(condition.name) or (
            Interval(whole, None, None) if whole is not None else None
        )
        yield {
            "condition": condition.name,
            "draws": 1,
            "kl": condition.kl,
            **_interval("share", found),
            "agreement": condition.agreement,
            "neutral_nll": condition.neutral_nll,
            **_edits(condition),
            **_documents(condition),
        }
    compared = {control.control: control for control in verdict.controls}
    for name in dict.fromkeys(draw.control for draw in result.controls):
        yield _control([d for d in result.controls if d.control == name], compared.get(name))


def _control(draws: Sequence[Draw], verdict: ControlVerdict | None) -> Row:
    """Means over the draws of one control; ``verdict`` is None where tuned equals base."""
    runs = [draw.condition for draw in draws]
    edits = [_edits(run) for run in runs]
    row: Row = {
        "condition": draws[0].control,
        "draws": len(draws),
        "kl": float(np.mean([run.kl for run in runs])),
        **_interval("share", verdict.mean if verdict else None),
        **_interval("advantage", verdict.advantage if verdict else None),
        "agreement": float(np.mean([run.agreement for run in runs])),
        **{name: _means([edit[name] for edit in edits]) for name in edits[0]},
    }
    for name in ("percentile", "p", "beaten", "norm_ratio"):
        row[name] = getattr(verdict, name) if verdict else None
    return row


def _means(lists: Sequence[Sequence[float | None] | None]) -> list[float | None] | None:
    """Over draws, depth by depth; None where a draw has none."""
    known = [one for one in lists if one is not None]
    if len(known) < len(lists):
        return None
    columns = zip(*known, strict=True)
    return [
        None if None in column else float(np.mean([v for v in column if v is not None]))
        for column in columns
    ]


def _draw(draw: Draw) -> Row:
    edits = _edits(draw.condition)
    del edits["fires"]
    return {"control": draw.control, "draw": draw.draw, **edits, **_documents(draw.condition)}


def _edits(condition: Condition) -> Row:
    """One value for each depth; ``fires`` None where the condition has no latents."""
    found: Row = {
        name: [getattr(edit, name) for edit in condition.edits] for name in EDIT if name != "norm"
    }
    if None in found["fires"]:
        found["fires"] = None
    return {"edit_norm": [edit.norm for edit in condition.edits], **found}


def _documents(condition: Condition) -> Row:
    return {
        "document_kl": [document.kl_sum for document in condition.documents],
        "document_agree": [document.agree for document in condition.documents],
    }


def _interval(name: str, found: Interval | None) -> Row:
    value, low, high = found or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
