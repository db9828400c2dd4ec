"""A result as far as it has been told: draws and doses that are finished, while others still run."""

from typing import Any, NamedTuple

from lib.ablation import AblationRequest, AblationResult
from lib.ablation.limits import CONTROLS
from lib.ablation.outcome import Condition, DosePoint, Draw


class Told(NamedTuple):
    """Conditions that have been heard of, by name; draws and doses in order."""

    conditions: dict[str, Condition]
    draws: tuple[Draw, ...]
    doses: tuple[DosePoint, ...]


def told(events: list[dict[str, Any]]) -> Told:
    """The conditions among a run's events."""
    conditions, draws, doses = {}, [], []
    for event in events:
        if event["event"] != "condition":
            continue
        condition = Condition.from_json(event["condition"])
        if event["name"] in CONTROLS:
            draws.append(Draw(event["name"], event["draw"], (), condition))
        elif "strength" in event:
            doses.append(DosePoint(event["strength"], event["top"], condition))
        else:
            conditions[event["name"]] = condition
    return Told(conditions, tuple(draws), tuple(doses))


def partial(request: AblationRequest, known: Told) -> AblationResult | None:
    """A result of what is finished; None until base, tuned, treated and the ceiling are there."""
    names = ("base", "tuned", "treated", "ceiling")
    if any(name not in known.conditions for name in names):
        return None
    return AblationResult(
        request=request,
        base_model="",
        hook=request.hook,
        tokens=(),
        selected=(),
        **{name: known.conditions[name] for name in names},
        controls=known.draws,
        dose=known.doses,
        seconds=(),
        device="",
    )


def expected(request: AblationRequest) -> int:
    """Conditions that the whole run tells: four, every draw, every dose."""
    draws = len(request.applicable_controls) * request.draws
    return 4 + draws + len(request.dose_strengths) + len(request.dose_tops)
