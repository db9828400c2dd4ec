"""Live ablation: a clamp against a plain forward pass, batched draws against one by one."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from lib.ablation import AblationRequest, catalogue, limits, run, runs
from lib.ablation.arithmetic import rescaled
from lib.ablation.conditions import prepare
from lib.ablation.controls import run_control
from lib.ablation.dose import treat
from lib.ablation.interventions import edit_of, fallback_of
from lib.ablation.request import LayerSet
from lib.ablation.runs import Edits, Plan
from lib.ablation.selection import draw_random
from lib.ablation.session import Session, open_session
from lib.metrics.divergence import kl_per_token
from tests.benchmarks.report import Options, Section, table

PROMPT = (
    "You have power over your mind, not over outside events. Realise this, and you will find "
    "strength. What stands in the way becomes the way, and a person who keeps that near at hand "
    "needs little else. Begin each day by telling yourself: today I shall meet with interference, "
    "ingratitude, insolence and ill will, and none of them can harm me."
)
TOKENS, DRAWS = 64, 20


def measure(options: Options) -> Section:
    with tempfile.TemporaryDirectory() as folder:
        session = _session(options, Path(folder))
        return _section(session, options)


def _session(options: Options, folder: Path) -> Session:
    """The first committed bundle whose weights are here; in the quick form, the planted one."""
    if options.quick:
        from tests.ablation.bundles import write_all

        write_all(folder)
        return open_session("both", directory=folder)
    return open_session(catalogue.experiments()[0])


def _section(session: Session, options: Options) -> Section:
    repeats = 1 if options.quick else 5
    ids = session.encode(PROMPT)[: TOKENS - 1]
    request = AblationRequest(
        experiment_id=session.info.experiment_id,
        prompt=session.loaded.tokenizer.decode(ids),
        draws=2 if options.quick else DRAWS,
        top=4 if options.quick else 32,
    )
    plain, clamped, hooked = passes = _clamp(session, request, repeats)
    (whole,) = _timed(session, (lambda: run(replace(request, controls=()), session),), repeats)
    depths = [session.info.layers, session.info.layers[-1:], session.info.layers[-2:-1]]
    rows, ratios = [], []
    for layers in depths:
        found = _draws(session, replace(request, layers=layers), 1 if options.quick else 3)
        tokens = request.draws * (len(ids) + 1)
        ratios.append(found[0] / found[2])
        cells = [*(f"{s:.2f}" for s in found), f"{tokens / found[2]:,.0f}", f"{ratios[-1]:.1f}"]
        rows.append([", ".join(map(str, layers)), *cells])
    claim = (
        f"{session.info.base_model}, {len(ids) + 1} tokens, {options.threads} threads, "
        f"{session.loaded.device}: base, tuned, treated and ceiling together take **{whole:.2f} s** "
        f"(asked: treated under 2 s). A clamp at {len(session.info.layers)} depths adds "
        f"**{clamped / plain - 1:.0%}** to a plain forward pass of the same tokens (asked: at most "
        f"50 %), the same in raw PyTorch hooks {hooked / plain - 1:.0%}. {request.draws} control "
        f"draws in batches are **{min(ratios):.1f} to {max(ratios):.1f} times** as fast as one whole "
        "traced pass with logits for each (asked: 3)."
    )
    names = ("plain forward pass", "clamp, traced", "clamp, raw hooks")
    timings = [[name, f"{s:.3f}"] for name, s in zip(names, passes, strict=True)]
    head = ["edited depths", "whole passes, s", "engine, a draw a pass, s", "engine, batched, s"]
    head += ["tokens/s", "times"]
    return Section("Live ablation", claim, [table(["pass", "s"], timings), table(head, rows)])


def _clamp(session: Session, request: AblationRequest, repeats: int) -> tuple[float, ...]:
    """Seconds of a plain pass with logits, of a traced clamp, and of one in raw hooks."""
    loaded, skip = session.loaded, request.skip_first
    plan, _, _ = prepare(request, session, lambda *stage: None)
    ids, base = plan.readings[0].text.ids, plan.readings[0].base
    rules = {
        s.layer: edit_of(limits.PAIR_CLAMP, session.slices[s.layer].take(s.latents))
        for s in plan.selected
    }

    def change(layer: int, x: Tensor) -> Tensor:
        changed = x.clone()
        changed[:, skip:] += rules[layer](x[:, skip:], base[layer])
        return changed

    def plain() -> Tensor:
        with torch.no_grad():
            return loaded.model(ids).logits

    def traced() -> Tensor:
        edits = {layer: partial(change, layer) for layer in rules}
        return session.forward(ids, tuple(rules), edits).logits

    def hooked() -> Tensor:
        handles = [
            loaded.hooked(layer, plan.hook).register_forward_hook(
                lambda module, args, output, layer=layer: change(layer, output)
            )
            for layer in rules
        ]
        logits = plain()
        for handle in handles:
            handle.remove()
        return logits

    plain()
    gap = float((traced() - hooked()).abs().max())
    assert gap < 1e-3, f"traced and raw hooks differ by {gap}"
    return _timed(session, (plain, traced, hooked), repeats)


def _draws(session: Session, request: AblationRequest, rounds: int) -> tuple[float, ...]:
    """Seconds of all draws of random latents: whole passes, a draw a pass, batched."""
    plan, _, _ = prepare(request, session, lambda *stage: None)
    treated = treat(plan)[1]

    def batched() -> list[float]:
        parts = run_control(plan, limits.RANDOM_LATENTS, treated)
        return [draw.condition.kl for part in parts for draw in part]

    def single() -> list[float]:
        with patch.dict(runs.BATCH_TOKENS, dict.fromkeys(runs.BATCH_TOKENS, 1)):
            return batched()

    def whole() -> list[float]:
        return _whole_passes(plan, treated[0])

    for a, b, c in zip(whole(), single(), batched(), strict=True):
        assert max(a, b, c) - min(a, b, c) < 1e-4, (a, b, c)
    return _timed(session, (whole, single, batched), rounds)


def _whole_passes(plan: Plan, treated: Edits) -> list[float]:
    """As one would write it: a traced pass of the whole model with logits, then the divergence."""
    session, skip = plan.session, plan.request.skip_first
    reading = plan.readings[0]
    reference = session.forward(reading.text.ids, plan.layers, as_base=True).logits[0, skip:]
    found = []
    for draw in range(plan.request.draws):
        sets = draw_random(plan.selected, session.offered, plan.request.seed, draw)
        edits = {s.layer: _resized(plan, s, treated[s.layer]) for s in sets}
        logits = session.forward(reading.text.ids, plan.layers, edits).logits[0, skip:]
        found.append(float(kl_per_token(logits, reference).mean()))
    return found


def _resized(plan: Plan, drawn: LayerSet, treated: Tensor) -> Callable[[Tensor], Tensor]:
    chosen = plan.session.slices[drawn.layer].take(drawn.latents)
    rule, instead = edit_of(limits.PAIR_CLAMP, chosen), fallback_of(limits.PAIR_CLAMP, chosen)
    skip, x_base = plan.request.skip_first, plan.readings[0].base[drawn.layer]

    def change(x: Tensor) -> Tensor:
        changed = x.clone()
        edit = rule(x[:, skip:], x_base)
        changed[:, skip:] += rescaled(edit, treated.norm(dim=-1)[None], instead[None])
        return changed

    return change


def _timed(
    session: Session, works: tuple[Callable[[], object], ...], rounds: int
) -> tuple[float, ...]:
    """Least wall time of each, in turns, so that other work on the machine hits them alike.

    Everything has run once before, so warm.
    """
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            began = time.perf_counter()
            work()
            if session.loaded.device.type == "cuda":
                torch.cuda.synchronize()
            best[i] = min(best[i], time.perf_counter() - began)
    return tuple(best)
