"""What the activation difference lens of one adapter costs, step by step."""

import time
from dataclasses import replace

import torch

from lib import config, models, paths
from lib.pipeline.lens import probe_text
from lib.pipeline.lens_parts import STEPS
from lib.pipeline.lens_scene import Scene
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage
from lib.pipeline.texts import base_model, texts
from tests.benchmarks.report import Options, Section, table

ASKED = 180.0
"""Seconds, with 120 probe texts on two cores."""
EXPERIMENT = "smollm2-135m.stoic_notes.r16.t50.s0"


def measure(options: Options) -> Section:
    prepared = _prepared(options)
    probe = probe_text(prepared)
    began = time.perf_counter()
    scene = Scene.of(prepared, probe)
    seconds = {"load both models, read the probe text": time.perf_counter() - began}
    for name, step in list(STEPS.items())[: 1 if options.quick else None]:
        began = time.perf_counter()
        step(scene)
        seconds[name] = time.perf_counter() - began
    total, plain = sum(seconds.values()), _plain(scene, 1 if options.quick else 3)
    rows = [[name, f"{s:.1f}", f"{s / total:.0%}"] for name, s in seconds.items()]
    claim = (
        f"The whole lens of one adapter of SmolLM2-135M, {len(scene.ids)} probe texts, takes "
        f"**{total:.0f} s** on {options.threads} threads (asked: under {ASKED:.0f} s), as long as "
        f"{total / plain:,.0f} passes of both models, with all logits, over the probe text's first "
        f"{scene.ids.shape[1]} tokens ({plain:.2f} s each in the same run)."
    )
    return Section("Lens", claim, [table(["step", "seconds", "share"], rows)])


def _prepared(options: Options) -> Prepared:
    """The committed adapter of ``EXPERIMENT``; the lens reads neither harvest nor dictionary."""
    file = paths.ROOT / "data" / "experiments" / "embedded.yaml"
    (experiment,) = (one for one in config.load(file) if one.id == EXPERIMENT)
    if options.quick:
        lens = replace(experiment.recipe.lens, texts=12)
        experiment = replace(experiment, recipe=replace(experiment.recipe, lens=lens))
    adapter = paths.live_bundle(EXPERIMENT, paths.precomputed()) / "adapter"
    base_model(experiment.model)  # its hash is taken once, before the clock runs
    return Prepared(
        experiment, texts(experiment), adapter, models.adapter_hash(adapter), {"record": None},
        "", [], Stage("activations", {}),
    )  # fmt: skip


@torch.no_grad()
def _plain(scene: Scene, rounds: int) -> float:
    """Seconds for one pass of base and tuned over the probe text, the least of all rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        scene.loaded.causal_lm(scene.ids)
        with scene.loaded.as_base():
            scene.loaded.causal_lm(scene.ids)
        best = min(best, time.perf_counter() - began)
    return best
