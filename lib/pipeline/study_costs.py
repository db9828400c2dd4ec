"""What the studies of an adapter cost besides the metrics: weights, ablation, lens, sweep, geometry."""

from collections.abc import Iterator

from lib.ablation.limits import CONTROLS
from lib.pipeline.costs import PER_LAYER, Cost, Estimate

STEERED = 9
"""Rounds of steered writing in the lens stage, each written and then judged by the base."""
PAIR = 0.005
"""Seconds for one matrix of two adapters: decompositions of r columns, hardly a matrix product."""


def studies(estimate: Estimate, others: int = 0) -> Iterator[Cost]:
    """One entry for each that the recipe asks for, in order.

    Args:
        others: adapters of this model that come before it, whose weights are compared with its own.
    """
    recipe, corpus = estimate.experiment.recipe, estimate.experiment.corpus_name
    yield weights(estimate, others)
    if recipe.causal.documents:
        yield causal(estimate)
    if recipe.lens.texts:
        yield lens(estimate)
    if recipe.sweep.asked(corpus):
        yield sweep(estimate)
    if recipe.geometry.asked(corpus):
        yield geometry(estimate)


def weights(estimate: Estimate, others: int) -> Cost:
    """The files of the adapters alone; of a given adapter the modules are not known before."""
    targets = estimate.experiment.recipe.finetune.targets
    matrices = len(targets) * estimate.loaded.n_layers
    what = f"none; {matrices} matrices, {others} other adapters"
    return Cost("weights", what, PAIR * matrices * (0.5 + others), 1e5 + 2e4 * others, 1e9)


def causal(estimate: Estimate) -> Cost:
    """Base, tuned, treated, ceiling and the control draws at every depth and at all of them; an
    edited run starts at its first depth, but all are scored over the whole vocabulary."""
    recipe, depths = estimate.experiment.recipe.causal, estimate.layers
    runs = len(CONTROLS) * recipe.draws + 4
    tokens = recipe.documents * (recipe.tokens + 1)
    behind = sum(1 - layer / estimate.loaded.n_layers for layer in [*depths, depths[0]])
    sets = len(depths) + 1
    seconds = estimate.time(
        2.0 * runs * tokens * (estimate.blocks * behind + estimate.head * sets), "ablation"
    )
    what = f"{sets} x {runs} runs over {tokens:,} tokens"
    return Cost("causal", what, seconds, len(depths) * 2e6 + 8e6, estimate.n * 8.0 + 2e9)


def lens(estimate: Estimate) -> Cost:
    """Both models on the probe text; swapped runs from the middle on; steered text."""
    recipe = estimate.experiment.recipe.lens
    read = 2 * recipe.texts * (32 + recipe.positions)
    swap = (recipe.positions + 2 * recipe.draws) * 2 * recipe.documents * recipe.tokens
    steered = 20 * recipe.samples * recipe.length * 2 * STEERED
    flop = read * estimate.blocks + swap * (estimate.blocks * (1 - recipe.depth) + estimate.head)
    seconds = estimate.time(2.0 * (flop + steered * estimate.n), "lens")
    what = f"{read:,} read, {swap:,} swapped, {steered:,} steered tokens"
    return Cost("lens", what, seconds, 2e5, estimate.n * 4.0 + 1e9)


def sweep(estimate: Estimate) -> Cost:
    """Trainings of other ranks, lengths and mixtures, and every point on a little text."""
    recipe, own = estimate.experiment.recipe.sweep, estimate.experiment.recipe.finetune
    step = own.batch * own.seq
    trained = [own.steps * step for rank in recipe.ranks if rank != own.rank]
    trained += [max(recipe.checkpoints) * step] if recipe.checkpoints else []
    trained += [own.steps * step * (1 + share) for share in recipe.mixing if share]
    paths = (recipe.ranks, recipe.checkpoints, recipe.scales, recipe.mixing)
    points = sum(len(path) for path in paths)
    read = 2 * recipe.documents * recipe.tokens
    one = estimate.time(2.0 * read * (estimate.blocks + 2 * estimate.head), "forward")
    one += PER_LAYER["point"] * estimate.loaded.n_layers
    seconds = sum(estimate.training(tokens) for tokens in trained) + points * one
    what = f"{len(trained)} adapters trained, {points} points scored"
    return Cost("sweep", what, seconds, len(trained) * 8e6, estimate.n * 8.0 + 1e9)


def geometry(estimate: Estimate) -> Cost:
    """At every rank an adapter, the deltas that it makes, and two SAEs of them at every place; two
    of the base's activations at every place, made once; its passes are made once too."""
    recipe, own = estimate.experiment.recipe.geometry, estimate.experiment.recipe.finetune
    trained = sum(rank != own.rank for rank in recipe.ranks)
    seconds = trained * estimate.training(own.steps * own.batch * own.seq)
    train, held = estimate.tokens
    train -= estimate.experiment.recipe.text.sampled_tokens  # deltas are those of real text
    read = (train + held) * (len(recipe.ranks) + 1) + 2 * held * len(recipe.ranks)
    seconds += estimate.time(2.0 * estimate.blocks * read, "forward")
    places = 1 if recipe.pretrained else len(recipe.hooks) * len(estimate.layers)
    sides = 2 * (len(recipe.ranks) + (not recipe.pretrained)) * places / len(estimate.layers)
    seconds += estimate.dictionaries(sides, recipe.max_steps, estimate.afforded(train))
    seconds += PER_LAYER["geometry"] * places * len(recipe.ranks)
    what = f"{len(recipe.ranks)} adapters, {sides * len(estimate.layers):.0f} dictionaries"
    return Cost("geometry", what, seconds, sides * 1e7, estimate.n * 8.0 + 2e9)
