"""Every condition of one request: base, tuned, treated, ceiling, the control draws, the doses."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lib.ablation import selection
from lib.ablation.clock import Clock
from lib.ablation.controls import check_pool, run_control
from lib.ablation.documents import Reading, read, texts
from lib.ablation.dose import ceiling, dose, treat
from lib.ablation.request import AblationRequest, AblationResult, Condition, DosePoint, Draw
from lib.ablation.runs import Edits, Plan
from lib.ablation.scores import Judge
from lib.ablation.session import Session

Tell = Callable[..., None]
SCORING = "scoring base and tuned"
"""Reported after all texts are read, within the stage of base and tuned."""


def run_conditions(
    request: AblationRequest, session: Session, report: Callable[..., None], tell: Tell
) -> AblationResult:
    """Every condition on the same texts; codes are computed on each run's current activations.

    Args:
        report: called as (stage,) when a stage starts and (stage, done, total) within it.
        tell: called with event="condition", the condition's name and its JSON, as each is finished;
            with ``draw`` for a control's, ``strength`` and ``top`` for a dose's.
    """
    clock = Clock(report)
    with clock.stage("base and tuned"):
        plan, base, tuned = prepare(request, session, report)
        for condition in (base, tuned):
            _tell(tell, condition)
    with clock.stage("treated"):
        treated, edits = treat(plan)
        _tell(tell, treated)
    with clock.stage("ceiling"):
        most = ceiling(plan)
        _tell(tell, most)
    draws: list[Draw] = []
    for name in request.applicable_controls if request.draws else ():
        with clock.stage(name):
            draws += _control(plan, name, edits, tuned, tell)
    points: list[DosePoint] = []
    if request.dose_strengths or request.dose_tops:
        with clock.stage("dose"):
            points = dose(plan, tuned)
            for point in points:
                _tell(tell, point.condition, strength=point.strength, top=point.top)
    return AblationResult(
        request=request,
        base_model=session.info.base_model,
        hook=plan.hook,
        tokens=() if request.documents else session.pieces(request),
        selected=plan.selected,
        base=base,
        tuned=tuned,
        treated=treated,
        ceiling=most,
        controls=tuple(draws),
        dose=tuple(points),
        seconds=tuple(clock.seconds),
        device=session.device,
    )


def prepare(
    request: AblationRequest, session: Session, report: Callable[..., None]
) -> tuple[Plan, Condition, Condition]:
    """The request made concrete, and the two conditions that need no edit."""
    hook = request.hook or session.info.hook
    selected = selection.choose(request, session.info, session.offered, session.loaded.n_layers)
    given = texts(session, request)
    plan = Plan(
        request=request,
        session=session,
        hook=hook,
        selected=selected,
        readings=(),
        judge=Judge(session.loaded),
        kl_tuned=0.0,
        report=report,
    )
    check_pool(plan)
    readings = []
    for number, text in enumerate(given):
        heard = partial(report, "base and tuned", number, len(given))
        heard()
        readings.append(read(session, text, plan.layers, hook, request.skip_first, heard))
    tuned = _unedited(plan, "tuned", readings, None)
    total = sum(document.kl_sum for document in tuned.documents)
    base = _unedited(plan, "base", readings, total)
    return replace(plan, readings=tuple(readings), kl_tuned=total), base, tuned


def _unedited(plan: Plan, name: str, readings: list[Reading], kl_tuned: float | None) -> Condition:
    tally = plan.tally((name,))
    for number, reading in enumerate(readings):
        done = number + len(readings) * (name == "base")  # tuned comes first
        heard = partial(plan.report, SCORING, done, 2 * len(readings))
        heard()
        found = reading.base if name == "base" else reading.tuned
        hidden = reading.base_hidden if name == "base" else reading.tuned_hidden
        x = {layer: one[None] for layer, one in found.items()}
        tally.add(reading, hidden[None], x, x, {}, heard)
    return tally.conditions(kl_tuned)[0]


def _control(
    plan: Plan, name: str, treated: list[Edits], tuned: Condition, tell: Tell
) -> list[Draw]:
    """The draws of one control; where the treatment edits no document, nor do they: tuned itself."""
    documents = [e for e, r in zip(treated, plan.readings, strict=True) if not r.text.neutral]
    if not any(bool(edit.any()) for edits in documents for edit in edits.values()):
        same = replace(tuned, name=name, neutral_nll=None)
        parts = iter([[Draw(name, number, (), same) for number in range(plan.request.draws)]])
    else:
        parts = run_control(plan, name, treated)
    made: list[Draw] = []
    for part in parts:
        for draw in part:
            _tell(tell, draw.condition, draw=draw.draw)
        made += part
    return made


def _tell(tell: Tell, condition: Condition, **more: object) -> None:
    tell(event="condition", name=condition.name, condition=condition.to_json(), **more)
