"""Are exclusive features found? Recall and precision over frequency, relative size and seeds.

Each cell trains dictionaries on worlds that hold exclusive features of one kind among shared and
turned ones and a dense change; null worlds hold everything but them.
"""

from functools import partial
from itertools import product
from statistics import mean
from typing import Any

from lib.config import Sparse
from lib.sparse import train
from tests.benchmarks.exclusive import ALIKE, RULES, Score, rates, scores, shown
from tests.benchmarks.pool import each
from tests.benchmarks.report import Options, Section, table
from tests.benchmarks.world import Planted, World, draw

FREQUENCIES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
SIZES = (0.25, 0.5, 1.0, 2.0)
COPIES = 3
"""Features of the kind on either side of a world."""
NULLS = {"a linear map of the base": 0.0, "independent of the base": 1.0}
"""What the dense change of a null world is, and the share of it that does not depend on the base."""
LATENTS = 320


def recipe(seed: int, quick: bool, **objective: Any) -> Sparse:
    """The defaults unless told otherwise, with k and batches for small worlds and no early stop."""
    steps = 30 if quick else 1_000
    base = {"k": 16, "anneal_from": 32, "batch": 1_024, "max_steps": steps}
    base |= {"evaluate_every": 10**6}
    return Sparse(seed=seed, **(base | objective))


def world(planted: tuple[Planted, ...], seed: int, quick: bool, free: float = 0.5) -> World:
    small = {"train": 2_048, "test": 1_024, "shared": 40, "turned": 5, "d": 32} if quick else {}
    return World(planted, seed, free=free, **small)


def judged(quick: bool, made_of: World) -> list[Score]:
    """Train on a world; one score per rule."""
    config = recipe(made_of.seed, quick)
    tokens = draw(made_of, config.batch)
    made, _ = train(tokens.batches, config, latents=LATENTS, heldout=tokens.heldout)
    return scores(made, tokens.test, tokens.exclusive)


def measure(options: Options) -> Section:
    quick = options.quick
    frequencies, sizes, seeds = (
        ((0.05,), (1.0,), 1) if quick else (FREQUENCIES, SIZES, options.seeds)
    )
    kinds = [Planted(f, s) for f, s in product(frequencies, sizes)]
    worlds = [world((kind,) * COPIES, seed, quick) for kind in kinds for seed in range(seeds)]
    nulls = [world((), seed, quick, free) for free in NULLS.values() for seed in range(seeds)]
    found = each(partial(judged, quick), [*worlds, *nulls], 1 if quick else options.threads)
    tables = []
    for rule, name in enumerate(RULES):
        one = [scored[rule] for scored in found]
        cells = [one[i : i + seeds] for i in range(0, len(worlds), seeds)]
        texts = [" / ".join(shown(rate) for rate in rates(cell)) for cell in cells]
        rows = [
            [f"{frequency:.1%} of tokens", *texts[i * len(sizes) : (i + 1) * len(sizes)]]
            for i, frequency in enumerate(frequencies)
        ]
        tables.append(table([f"by {name}", *[f"size {size:g}" for size in sizes]], rows))
    tables.append(_summary(found, len(worlds), seeds))
    return Section("Planted exclusive features", _claim(seeds), tables)


def _summary(found: list[list[Score]], worlds: int, seeds: int) -> list[str]:
    """Over all cells, and what is called exclusive where nothing is."""
    rows = []
    for rule, name in enumerate(RULES):
        one = [scored[rule] for scored in found]
        called = [
            f"{mean(s.called for s in one[at : at + seeds]):.1f}"
            for at in range(worlds, len(found), seeds)
        ]
        rows.append([f"by {name}", *map(shown, rates(one[:worlds])), *called])
    return table(["all cells", "recall", "precision", *[f"null: {kind}" for kind in NULLS]], rows)


def _claim(seeds: int) -> str:
    return (
        f"Recall / precision of exclusive features that fire on a share of tokens (rows) with a norm "
        f"relative to a typical feature's (columns); {2 * COPIES} per world, {seeds} seeds each, "
        f"{LATENTS} latents, the default recipe. Found = a latent that is called exclusive for the "
        f"right side has cosine {ALIKE} or more with it. By norms: delta_norm below 0.1 or above 0.9; "
        "and scaling: of those, nu error < 0.2 and nu reconstruction < 0.5; by scaling: the same of "
        "all latents with delta_norm below 0.4 or above 0.6. Every world holds shared and turned "
        "features and a dense change of rank 16, half a linear map of the base and half independent of "
        "it; nulls hold nothing else, and the last table counts the latents called exclusive per null. "
        "An independent change is in the tuned model only, so latents that hold it are exclusive, but "
        "they are no features."
    )
