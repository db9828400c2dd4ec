"""The five runs of one request: base, tuned, clamped, full-patch ceiling, matched control."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.ablation import catalogue
from lib.ablation.arithmetic import (
    DictionarySlice,
    clamp_edit,
    codes,
    rescaled,
    share_removed,
    share_reversed,
)
from lib.ablation.clock import Clock
from lib.ablation.request import (
    AblationRequest,
    AblationResult,
    Condition,
    Edit,
    LayerSet,
    NextToken,
)
from lib.ablation.session import Forward, Intervention, Session
from lib.metrics.divergence import kl_per_token

TOP_TOKENS = 10


class Plan(NamedTuple):
    """One request made concrete."""

    request: AblationRequest
    session: Session
    ids: Int[Tensor, "1 seq"]
    selected: tuple[LayerSet, ...]
    drawn: tuple[LayerSet, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(chosen.layer for chosen in self.selected)

    def slices(self, sets: tuple[LayerSet, ...]) -> dict[int, DictionarySlice]:
        return {s.layer: self.session.slices[s.layer].take(s.latents) for s in sets}


def run_conditions(
    request: AblationRequest, session: Session, report: Callable[[str], None]
) -> AblationResult:
    """Every condition on the same prompt; codes are computed on each run's current activations."""
    selected = catalogue.choose(request, session.info, session.offered)
    drawn = catalogue.draw_control(selected, session.offered, request.seed)
    plan = Plan(request, session, session.tokens(request), selected, drawn)
    clock = Clock(report)
    with clock.stage("base"):
        base = session.forward(plan.ids, plan.layers, as_base=True)
    with clock.stage("tuned"):
        tuned = session.forward(plan.ids, plan.layers)
        judge = _judge(plan, base, tuned)
        conditions = {"base": judge("base", base), "tuned": judge("tuned", tuned)}
    with clock.stage("clamped"):
        treated = session.forward(plan.ids, plan.layers, _treatment(plan, base.before))
        conditions["clamped"] = judge("clamped", treated, selected)
    with clock.stage("ceiling"):
        ceiling = session.forward(plan.ids, plan.layers, _full_patch(plan, base.before))
        conditions["ceiling"] = judge("ceiling", ceiling)
    with clock.stage("control"):
        edits = _matched_control(plan, base.before, treated)
        control = session.forward(plan.ids, plan.layers, edits)
        conditions["control"] = judge("control", control, drawn)
    return AblationResult(
        request=request,
        base_model=session.info.base_model,
        hook=session.info.hook,
        tokens=session.pieces(request),
        selected=selected,
        drawn=drawn,
        seconds=tuple(clock.seconds),
        device=str(plan.ids.device),
        **conditions,
    )


def _treatment(plan: Plan, base: Mapping[int, Float[Tensor, "1 seq d"]]) -> dict[int, Intervention]:
    def edit(
        chosen: DictionarySlice, x_base: Float[Tensor, "tokens d"], x: Float[Tensor, "tokens d"]
    ) -> Float[Tensor, "tokens d"]:
        return x + plan.request.strength * clamp_edit(x, x_base, chosen)

    return _per_depth(
        plan, base, {k: partial(edit, s) for k, s in plan.slices(plan.selected).items()}
    )


def _full_patch(
    plan: Plan, base: Mapping[int, Float[Tensor, "1 seq d"]]
) -> dict[int, Intervention]:
    def edit(
        x_base: Float[Tensor, "tokens d"], x: Float[Tensor, "tokens d"]
    ) -> Float[Tensor, "tokens d"]:
        return x_base

    return _per_depth(plan, base, dict.fromkeys(plan.layers, edit))


def _matched_control(
    plan: Plan, base: Mapping[int, Float[Tensor, "1 seq d"]], treated: Forward
) -> dict[int, Intervention]:
    """The same clamp with latents drawn at random, at the treated edit's norm token by token."""
    skip = plan.request.skip_first

    def edit(
        chosen: DictionarySlice,
        norms: Float[Tensor, " tokens"],
        x_base: Float[Tensor, "tokens d"],
        x: Float[Tensor, "tokens d"],
    ) -> Float[Tensor, "tokens d"]:
        return x + rescaled(clamp_edit(x, x_base, chosen), norms, fallback=-chosen.change.sum(0))

    norms = {k: (treated.after[k] - treated.before[k])[0, skip:].norm(dim=-1) for k in plan.layers}
    slices = plan.slices(plan.drawn)
    return _per_depth(plan, base, {k: partial(edit, slices[k], norms[k]) for k in plan.layers})


def _per_depth(
    plan: Plan,
    base: Mapping[int, Float[Tensor, "1 seq d"]],
    edits: Mapping[int, Callable[..., Tensor]],
) -> dict[int, Intervention]:
    """Replace x by an edit of (x_base, x) at each depth, but for the skipped first positions."""
    skip = plan.request.skip_first

    def intervene(layer: int, x: Float[Tensor, "1 seq d"]) -> Float[Tensor, "1 seq d"]:
        replaced = x.clone()
        replaced[0, skip:] = edits[layer](base[layer][0, skip:], x[0, skip:])
        return replaced

    return {layer: partial(intervene, layer) for layer in plan.layers}


def _judge(plan: Plan, base: Forward, tuned: Forward) -> Callable[..., Condition]:
    """How to read one run against the base run, over the positions that a clamp reaches."""
    skip = plan.request.skip_first
    reference = base.logits[0, skip:]
    kl_tuned = kl_per_token(tuned.logits[0, skip:], reference)

    def judge(name: str, run: Forward, sets: tuple[LayerSet, ...] = ()) -> Condition:
        kl = kl_per_token(run.logits[0, skip:], reference)
        slices = plan.slices(sets)
        per_token = (*[None] * skip, *(float(v) for v in kl))
        return Condition(
            name=name,
            kl=float(kl.double().mean()),
            kl_per_token=per_token,
            share_reversed=share_reversed(kl, kl_tuned),
            next_tokens=_next_tokens(plan.session, run.logits[0, -1]),
            edits=tuple(_edit(layer, run, base, skip, slices.get(layer)) for layer in plan.layers),
        )

    return judge


def _edit(
    layer: int, run: Forward, base: Forward, skip: int, latents: DictionarySlice | None
) -> Edit:
    before, after, x_base = (part[layer][0, skip:] for part in (run.before, run.after, base.before))
    fires = None
    if latents is not None:
        fires = float((codes(before, x_base, latents) > 0).any(dim=1).float().mean())
    return Edit(
        layer=layer,
        norm=float((after - before).norm(dim=-1).mean()),
        difference_norm=float((before - x_base).norm(dim=-1).mean()),
        removed=share_removed(before, after, x_base),
        fires=fires,
    )


def _next_tokens(session: Session, logits: Float[Tensor, " vocab"]) -> tuple[NextToken, ...]:
    best = torch.softmax(logits, dim=-1).topk(TOP_TOKENS)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(NextToken(_shown(session, i), p) for i, p in pairs)


def _shown(session: Session, token: int) -> str:
    return session.loaded.tokenizer.decode([token])
