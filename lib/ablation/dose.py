"""The treatment, and the same at other strengths and with other numbers of latents."""

from dataclasses import replace

import torch
from torch import Tensor

from lib.ablation import limits
from lib.ablation.documents import Reading
from lib.ablation.interventions import Change, treatment
from lib.ablation.request import Condition, DosePoint, LayerSet
from lib.ablation.runs import Batch, Changes, Edits, Plan, measure
from lib.ablation.selection import at_top

Sets = tuple[LayerSet, ...]


def treat(plan: Plan) -> tuple[Condition, list[Edits]]:
    """The asked intervention, and what it added to each text: documents, then neutral ones."""
    kept: list[Edits] = []
    batch = _batch(plan, "treated", [(plan.request.strength, plan.selected)])
    return measure(plan, batch, "treated", kept=kept)[0], kept


def ceiling(plan: Plan) -> Condition:
    """Base activations at the same depths (I5): what a perfect dictionary could reverse there."""
    batch = Batch(names=("ceiling",), changes=_patched(plan, torch.ones(1, 1, 1)))
    return measure(plan, batch, "ceiling")[0]


def dose(plan: Plan, tuned: Condition) -> list[DosePoint]:
    """One point for each asked strength, then one for each asked number of latents.

    Points without an edit are the tuned model itself, exactly.
    """
    request = plan.request
    asked = [(strength, request.top, plan.selected) for strength in request.dose_strengths]
    for top in request.dose_tops:
        asked.append(
            (request.strength, top, at_top(request, plan.session.offered, plan.layers, top))
        )
    found = dict.fromkeys(range(len(asked)), replace(tuned, name="dose"))
    rest = [i for i, (strength, _, sets) in enumerate(asked) if not _idle(plan, strength, sets)]
    rows = 1 if request.intervention == limits.SCALE_LORA else plan.rows
    parts = [rest[at : at + rows] for at in range(0, len(rest), rows)]
    texts = len(plan.readings)
    for number, part in enumerate(parts):
        batch = _batch(plan, "dose", [(asked[i][0], asked[i][2]) for i in part])
        made = measure(plan, batch, "dose", (number * texts, len(parts) * texts))
        found.update(zip(part, made, strict=True))
    return [DosePoint(asked[i][0], asked[i][1], condition) for i, condition in found.items()]


def _idle(plan: Plan, strength: float, sets: Sets) -> bool:
    if plan.request.intervention == limits.SCALE_LORA:
        return strength == 1
    empty = plan.request.has_latents and not any(part.latents for part in sets)
    return strength == 0 or empty


def _batch(plan: Plan, name: str, runs: list[tuple[float, Sets]]) -> Batch:
    """Treated runs, each with a strength and a set of its own."""
    names = (name,) * len(runs)
    if plan.request.intervention == limits.SCALE_LORA:
        return Batch(names=names, scale=runs[0][0])
    strengths = torch.tensor([strength for strength, _ in runs])[:, None, None]
    if not plan.request.has_latents:
        return Batch(names=names, changes=_patched(plan, strengths))
    slices = plan.slices([sets for _, sets in runs])
    rules = {
        layer: treatment(plan.request.intervention, chosen, strengths)
        for layer, chosen in slices.items()
    }
    return Batch(names=names, changes=lambda number, reading: rules, latents=slices)


def _patched(plan: Plan, strengths: Tensor) -> Changes:
    rule = treatment(limits.FULL_PATCH, None, strengths)

    def changes(number: int, reading: Reading) -> dict[int, Change]:
        return dict.fromkeys(plan.layers, rule)

    return changes
