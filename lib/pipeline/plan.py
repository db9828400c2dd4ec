"""What a run would cost, before anything starts: passes, time, disk and memory per stage.

Time comes from a short measurement of this machine's matrix products and from the shares of it that
a run of this code was seen to reach; on a machine that others use it is good to a factor of two.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from lib import config, corpora
from lib.ablation.limits import CONTROLS
from lib.config import Experiment, layers_of
from lib.models import LoadedModel, load
from lib.pipeline.dictionaries import affordable
from lib.pipeline.jobs import KINDS
from lib.pipeline.memory import PROCESS, training_memory
from lib.pipeline.speed import flops

WORDS_TO_TOKENS = 1.45
"""Tokens per word of English prose under the tokenizers of the embedded models, generous."""
EFFICIENCY = {"forward": 0.55, "train": 0.45, "sample": 0.12, "dictionary": 0.26, "ablation": 0.5}
"""Share of the measured matrix-product speed that each kind of work reaches."""
BYTES = {"float32": 4, "bfloat16": 2}
MOST_AT_ONCE = 8
"""Dictionaries that the sparse stage trains in parallel on CPU, if there are as many cores."""


@dataclass(frozen=True)
class Cost:
    """Forecast of one stage of one experiment."""

    stage: str
    passes: str
    seconds: float
    disk: float
    """Bytes left in the work folder."""
    memory: float
    """Peak bytes of RAM, or of VRAM where a GPU does the work."""


def forecast(config_file: Path) -> str:
    """A table of the forecast for a file of experiments."""
    experiments = config.load(config_file)
    speed = {name: flops(getattr(torch, name)) for name in BYTES}
    device = "GPU" if torch.cuda.is_available() else "CPU"
    models = {e.model: load(e.model) for e in experiments}
    lines = [
        f"experiments: {len(experiments)}; matrix products on this {device}: "
        + ", ".join(f"{v / 1e9:,.0f} GFLOP/s in {k}" for k, v in speed.items()),
        "",
        f"{'stage':<14}{'forward passes':<46}{'time':>9}{'disk':>10}{'memory':>10}",
    ]
    total = Cost("total", "", 0.0, 0.0, 0.0)
    sampled: set[str] = set()
    for experiment in experiments:
        lines.append(experiment.id)
        for cost in costs(experiment, models[experiment.model], speed):
            if cost.stage == "sampled":
                if experiment.model in sampled:
                    continue
                sampled.add(experiment.model)
            lines.append("  " + _line(cost))
            total = Cost(
                "total",
                "",
                total.seconds + cost.seconds,
                total.disk + cost.disk,
                max(total.memory, cost.memory),
            )
    return "\n".join([*lines, _line(total)]) + "\n"


def costs(experiment: Experiment, loaded: LoadedModel, speed: dict[str, float]) -> list[Cost]:
    """One entry per stage; the sampled text is shared by all experiments on one model."""
    recipe, n = experiment.recipe, loaded.n_parameters
    own = WORDS_TO_TOKENS * sum(
        len(document.text.split())
        for name, most in ((experiment.corpus, recipe.text.most_words), (recipe.text.neutral, 0))
        for document in corpora.limited(
            corpora.load(name, minimum=1, tokenizer=loaded.tokenizer), most
        ).documents
    )
    kept_out = own * recipe.text.heldout
    train = own - kept_out + recipe.text.sampled_tokens
    dtype, layers = recipe.harvest.train_dtype, len(layers_of(recipe.harvest, loaded.n_layers))
    tuned = recipe.finetune.steps * recipe.finetune.batch * recipe.finetune.seq
    weights = n * 4.0
    forward = 2.0 * n * 2 * (kept_out / speed["float32"] + train / speed[dtype])
    found = [
        Cost(
            "sampled",
            f"{recipe.text.sampled_tokens:,} tokens sampled from the base",
            2.0 * n * recipe.text.sampled_tokens / (speed[dtype] * EFFICIENCY["sample"]),
            recipe.text.sampled_tokens * 5.0,
            weights * 1.5,
        ),
        Cost(
            "activations",
            f"2 x ({train:,.0f} + {kept_out:,.0f}) tokens",
            forward / EFFICIENCY["forward"],
            2.0 * loaded.d * (train * layers * BYTES[dtype] + kept_out * 4 * (loaded.n_layers + 1)),
            weights + 2e9,
        ),
        _sparse(experiment, loaded, (train, kept_out), layers, speed),
        Cost("metrics", "none (reads the harvest)", 4.0 * loaded.n_layers, 5e7, weights + 2e9),
    ]
    if not experiment.adapter:
        seconds = 6.0 * n * tuned / (speed[recipe.finetune.dtype] * EFFICIENCY["train"])
        cost = Cost(
            "finetune", f"{tuned:,} tokens, forward and backward", seconds, 8e6, weights * 2
        )
        found.insert(1, cost)
    return [*found, *_nulls(experiment, found), *_causal(experiment, loaded, layers, speed)]


def _nulls(experiment: Experiment, measured: list[Cost]) -> list[Cost]:
    """Each draw takes a random adapter through everything but training; its activations go again."""
    if not experiment.nulls:
        return []
    again = [c for c in measured if c.stage in ("activations", "sparse", "metrics")]
    share = 1 / (1 + experiment.recipe.sparse.replicas)  # controls have no replicas
    seconds = sum(c.seconds * (share if c.stage == "sparse" else 1) for c in again)
    disk = sum(c.disk * (share if c.stage == "sparse" else 0) for c in again)
    return [
        Cost(
            "nulls",
            f"{experiment.nulls} x activations, sparse and metrics of a control",
            experiment.nulls * seconds,
            experiment.nulls * disk,
            max(c.memory for c in again),
        )
    ]


def _causal(
    experiment: Experiment, loaded: LoadedModel, layers: int, speed: dict[str, float]
) -> list[Cost]:
    """Base, tuned, treated, ceiling and the control draws at every depth and at all of them; an
    edited run starts at its first depth, but all are scored over the whole vocabulary."""
    recipe = experiment.recipe.causal
    if not recipe.documents:
        return []
    depths = layers_of(experiment.recipe.harvest, loaded.n_layers)
    runs = len(CONTROLS) * recipe.draws + 4
    tokens = recipe.documents * (recipe.tokens + 1)
    head = loaded.unembedding.numel()
    blocks = loaded.n_parameters - head
    behind = sum(1 - layer / loaded.n_layers for layer in [*depths, depths[0]])
    flop = 2.0 * runs * tokens * (blocks * behind + head * (layers + 1))
    return [
        Cost(
            "causal",
            f"{layers + 1} x {runs} runs over {tokens:,} tokens",
            flop / (speed["float32"] * EFFICIENCY["ablation"]),
            layers * 2e6 + 8e6,
            loaded.n_parameters * 8.0 + 2e9,
        )
    ]


def _sparse(
    experiment: Experiment,
    loaded: LoadedModel,
    tokens: tuple[float, float],
    layers: int,
    speed: dict[str, float],
) -> Cost:
    """Per depth every kind of dictionary once, and ``replicas`` further crosscoders."""
    recipe, (train, kept_out) = experiment.recipe.sparse, tokens
    latents = affordable(int(recipe.expansion * loaded.d), int(train), recipe.min_tokens_per_latent)
    sides = [2 if side is None else 1 for side in KINDS.values()] + [2] * recipe.replicas
    table = latents * loaded.d * sum(sides)
    steps = recipe.max_steps * 0.8
    work = layers * steps * recipe.batch * table * 2.0 * 1.5
    count = layers * len(sides)
    at_once = 1 if torch.cuda.is_available() else min(count, MOST_AT_ONCE, cores())
    peak = training_memory(latents, loaded.d, 2, recipe.batch, min(recipe.k, latents)).worst
    each = PROCESS + peak + kept_out * loaded.d * 2 * 4.0
    return Cost(
        "sparse",
        f"none; {count} dictionaries of {latents:,} latents",
        work / (speed["bfloat16"] * EFFICIENCY["dictionary"]),
        layers * table * 2 * 4.0,
        at_once * each + train * loaded.d * 2 * 2.0,
    )


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _line(cost: Cost) -> str:
    minutes = f"{cost.seconds / 60:,.1f} min"
    return (
        f"{cost.stage:<12}{cost.passes:<46}{minutes:>9}{cost.disk / 1e6:>7,.0f} MB"
        f"{cost.memory / 1e9:>7.1f} GB"
    )
