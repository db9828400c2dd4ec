"""Engine against the plain recipe: same data, same tokens, same model; prints one table.

    make bench, or python -m tests.benchmarks.engine [--latents 4096] [--steps 150] [--threads 2]

Data: planted sparse features with power-law frequencies at d 576, of which some differ between the
sides, plus dense noise. Ratios measured in one run are the claim, not absolutes.
"""

import argparse
import time

import torch

from lib.config import Sparse
from lib.sparse import train
from lib.sparse.quality import Quality, quality
from tests.benchmarks.reference import train_dense

FEATURES, ACTIVE, D = 3_000, 24, 576


def planted(tokens: int, seed: int) -> torch.Tensor:
    """Paired activations (tokens, 2, 576)."""
    fixed = torch.Generator().manual_seed(0)
    base = torch.nn.functional.normalize(torch.randn(FEATURES, D, generator=fixed), dim=1)
    turn = torch.nn.functional.normalize(torch.randn(FEATURES, D, generator=fixed), dim=1)
    changed = (torch.rand(FEATURES, 1, generator=fixed) < 0.1).float()
    tuned = torch.nn.functional.normalize(base + 0.6 * changed * turn, dim=1)
    generator = torch.Generator().manual_seed(seed)
    popularity = 1.0 / torch.arange(1, FEATURES + 1).float().sqrt()
    which = torch.multinomial(popularity.expand(tokens, -1), ACTIVE, generator=generator)
    size = 0.5 + torch.rand(tokens, ACTIVE, generator=generator)
    sides = [
        torch.nn.functional.embedding_bag(which, table, mode="sum", per_sample_weights=size)
        for table in (base, tuned)
    ]
    noise = 0.05 * torch.randn(tokens, 2, D, generator=generator)
    return torch.stack(sides, dim=1) + noise


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    batches = list(planted(40 * 2048, 1).split(2048))
    heldout = planted(4096, 2)
    rows = []
    config = Sparse(max_steps=chosen.steps, evaluate_every=10**6, lr=1e-3)
    began = time.perf_counter()
    made, log = train(batches, config, latents=chosen.latents)
    rows.append(("engine", log.tokens / (time.perf_counter() - began), quality(made, heldout)))
    dense = train_dense(
        batches,
        chosen.steps,
        latents=chosen.latents,
        k=config.k,
        lr=config.lr,
        difference_weight=config.difference_weight,
    )
    rows.append(("reference", dense.tokens_per_second, quality(dense.dictionary, heldout)))
    for line in table(rows):
        print(line)  # noqa: T201 - a benchmark's output


def table(rows: list[tuple[str, float, Quality]]) -> list[str]:
    lines = ["| recipe | tokens/s | FVE base | FVE tuned | FVE difference | L0 | never firing |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for name, speed, q in rows:
        silent = float((q.firing == 0).float().mean())
        lines.append(
            f"| {name} | {speed:,.0f} | {q.fve[0]:.3f} | {q.fve[1]:.3f} | {q.fve_difference:.3f} "
            f"| {q.l0:.1f} | {silent:.1%} |"
        )
    lines.append(f"\nengine / reference: {rows[0][1] / rows[1][1]:.1f}x tokens per second")
    return lines


if __name__ == "__main__":
    main()
