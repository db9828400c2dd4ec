"""What should a crosscoder train for? Objectives at equal budget and sparsity.

By default on planted worlds and their nulls; with harvests also on real activations and nulls made
of them. One process and one thread per dictionary, two at a time.
"""

from dataclasses import dataclass, replace
from itertools import product
from statistics import mean
from typing import Any

from lib.config import Sparse
from lib.pipeline.dictionaries import affordable
from lib.sparse import train
from lib.sparse.quality import quality
from tests.benchmarks.engine import PLAIN
from tests.benchmarks.exclusive import RULES, Score, rates, scores, shown
from tests.benchmarks.planted import LATENTS, NULLS, recipe, world
from tests.benchmarks.pool import each
from tests.benchmarks.real import Real, draw_real
from tests.benchmarks.report import Options, Section, table
from tests.benchmarks.world import Planted, World, draw

STATED = PLAIN | {"basis": "change", "difference_weight": 4.0, "lr": 4e-3}
"""What every objective starts from; stated here, so that the table outlives a change of defaults."""
KINDS = tuple(Planted(f, s) for f in (0.005, 0.02, 0.1) for s in (0.5, 1.0, 2.0))


def objectives(k: int, quick: bool) -> dict[str, dict[str, Any]]:
    """Fields of ``Sparse`` by name; budgets are shares of k so that small worlds can use them."""
    annealed = {"anneal_from": 2 * k}
    found: dict[str, dict[str, Any]] = {
        "public recipe, lr 1e-3": PLAIN,
        "the same on sum and difference": PLAIN | {"basis": "change"},
        "the same, lr 4e-3": PLAIN | {"basis": "change", "lr": 4e-3},
    }
    for ranking, weight in product(("norms", "loss"), (1.0, 1.5, 2.5, 4.0)):
        name = f"annealed, weight {weight:g}, ranked by {ranking}"
        found[name] = annealed | {"difference_weight": weight, "ranking": ranking}
    found["annealed, weight 8"] = annealed | {"difference_weight": 8.0}
    found["weight 4, not annealed"] = {"anneal_from": 0}
    found["weight 4, annealed from 4k"] = {"anneal_from": 4 * k}
    found["annealed, weight 4, unit decoder"] = annealed | {"unit_decoder": True}
    for weight in (1.0, 2.5, 4.0):
        tied = annealed | {"difference_weight": weight, "tied": 0.5}
        found[f"annealed, weight {weight:g}, half tied, untied k/4"] = tied | {"untied_k": k // 4}
    found["annealed, weight 4, half tied"] = tied
    kept = list(found)[:1] + list(found)[-1:] if quick else list(found)
    return {name: STATED | found[name] for name in kept}


@dataclass(frozen=True)
class Job:
    """One dictionary to train and judge."""

    config: Sparse
    latents: int
    source: World | Real


@dataclass(frozen=True)
class Outcome:
    fve: tuple[float, float, float]
    """Base, tuned, difference."""
    l0: float
    silent: float
    """Share of latents that never fire on the test tokens."""
    scores: list[Score]
    """One per rule; for nulls everything called is wrong."""
    tokens_per_second: float


def trained(job: Job) -> Outcome:
    draw_source = draw if isinstance(job.source, World) else draw_real
    tokens = draw_source(job.source, job.config.batch)
    made, log = train(tokens.batches, job.config, latents=job.latents, heldout=tokens.heldout)
    seen = quality(made, tokens.test)
    return Outcome(
        (*seen.fve, seen.fve_difference),
        seen.l0,
        float((seen.firing == 0).float().mean()),
        scores(made, tokens.test, tokens.exclusive),
        log.tokens / log.seconds,
    )


def planted_jobs(fields: dict[str, Any], options: Options) -> list[list[Job]]:
    """On worlds with exclusive features, and on either kind of null."""
    quick = options.quick

    def jobs(planted: tuple[Planted, ...], free: float) -> list[Job]:
        return [
            Job(recipe(seed, quick, **fields), LATENTS, world(planted, seed, quick, free))
            for seed in range(1 if quick else options.seeds)
        ]

    return [jobs(KINDS[-1:] if quick else KINDS, 0.5), *[jobs((), free) for free in NULLS.values()]]


def real_jobs(fields: dict[str, Any], real: Real, steps: int) -> list[list[Job]]:
    """On one layer of a harvest, and on its null; no early stop, so that budgets are equal."""
    config = Sparse(max_steps=steps, evaluate_every=10**6, **fields)
    d, tokens = real.size
    latents = affordable(int(config.expansion * d), tokens, config.min_tokens_per_latent)
    job = Job(config, latents, real)
    return [[job], [replace(job, source=replace(real, null=True))]]


def compared(plans: dict[str, list[list[Job]]], planted: bool, workers: int) -> list[list[str]]:
    """A row per objective; the first group of its jobs is what it is for, the others are nulls."""
    todo = [job for groups in plans.values() for group in groups for job in group]
    done = iter(each(trained, todo, workers))
    rows = []
    for name, groups in plans.items():
        on, *nulls = [[next(done) for _ in group] for group in groups]
        fve = [f"{mean(o.fve[i] for o in on):.3f}" for i in range(3)]
        cells = [f"{mean(o.l0 for o in on):.1f}", f"{mean(o.silent for o in on):.1%}"]
        if planted:
            for rule in range(len(RULES)):
                pair = rates([o.scores[rule] for o in on])
                cells.append(" / ".join(shown(rate) for rate in pair))
        else:
            cells.append(_called(on))
        cells += [_called(null) for null in nulls]
        rows.append([name, *fve, *cells, f"{mean(o.tokens_per_second for o in on):,.0f}"])
    return rows


def _called(outcomes: list[Outcome]) -> str:
    """Latents called exclusive by each rule, per dictionary."""
    return " / ".join(
        f"{mean(o.scores[r].called for o in outcomes):.3g}" for r in range(len(RULES))
    )


def measure(options: Options) -> Section:
    workers = 1 if options.quick else options.threads
    head = ["FVE base", "tuned", "difference", "L0", "never firing"]
    columns = [f"recall / precision by {rule}" for rule in RULES]
    columns += [f"null: {kind}" for kind in NULLS]
    small, large = objectives(16, options.quick), objectives(32, options.quick)
    plans = {name: planted_jobs(fields, options) for name, fields in small.items()}
    found = compared(plans, True, workers)
    tables = [table(["planted worlds", *head, *columns, "tokens/s"], found)]
    for directory, layer in product(options.harvests, options.layers):
        real = Real(directory, layer, null=False)
        kept = {n: f for n, f in large.items() if not options.only or n in options.only}
        plans = {name: real_jobs(f, real, options.steps) for name, f in kept.items()}
        found = compared(plans, False, workers)
        name = f"{directory.name}, layer {layer}"
        tables.append(table([name, *head, "called", "called in null", "tokens/s"], found))
    return Section("Objectives", _claim(options), tables)


def _claim(options: Options) -> str:
    text = (
        f"Equal tokens, latents and k; thresholds set on held-out tokens, figures on others. Planted: "
        f"{2 * len(KINDS)} exclusive features per world (0.5 to 10 % of tokens, half to twice the "
        f"typical norm), {options.seeds} seeds; null = latents called exclusive, by norms / by "
        "norms and scaling / by scaling, per world without any but with a dense change (see above)."
    )
    if options.harvests:
        text += (
            f" Real: paired activations of a finished harvest, {options.steps} steps of 2,048 tokens; "
            "called = latents called exclusive by the same three rules, there and in a null whose "
            "tuned side is the base plus a random linear map of it of rank 16, as large as the real "
            "difference."
        )
    return text
