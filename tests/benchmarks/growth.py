"""Cost against latents, width and sides: tokens per second, and peak memory beside the planned one.

Every size trains for a few steps in a fresh process (``python -m tests.benchmarks.growth JSON``), so
that its peak is its own: once as usual, for the speed, and once with an allocator that gives freed
blocks back at once, for the memory that is in use. Sizes planned to need more than 70 % of the free
memory are left out.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from lib import paths
from lib.config import Sparse
from lib.pipeline.memory import free_memory, training_memory
from lib.sparse import train
from lib.sparse.basis import Normaliser
from tests.benchmarks.report import Options, Section, table

BATCH, K, FITS = 2_048, 32, 0.7
PROMPT = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""glibc: give every freed block above 128 KiB back, instead of keeping those up to 32 MiB."""


@dataclass(frozen=True)
class Size:
    """One dictionary to train for a few steps."""

    latents: int
    d: int
    sides: int = 2
    batch: int = BATCH
    steps: int = 6
    threads: int = 2

    @property
    def planned(self) -> int:
        return training_memory(self.latents, self.d, self.sides, self.batch, K).peak


@dataclass(frozen=True)
class Cost:
    tokens_per_second: float
    """Of the median step after two that warm up."""
    peak: int
    """Bytes above what the process held before training, its activations included."""


class Clock:
    """The same batch over and over, noting when it is asked for."""

    def __init__(self, batch: torch.Tensor) -> None:
        self.batch = batch
        self.times: list[float] = []

    def __iter__(self) -> Iterator[torch.Tensor]:
        while True:
            if self.batch.is_cuda:
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())
            yield self.batch


def trained(size: Size) -> Cost:
    """Train here and measure; meant for a process of its own."""
    torch.set_num_threads(size.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = activations(size).to(device)
    heldout = x[: min(len(x), BATCH)]
    normaliser = Normaliser.estimate([x])
    config = Sparse(
        k=K, batch=size.batch, max_steps=size.steps, evaluate_every=size.steps, dead_after=1.0
    )
    train(Clock(x[:, :, :8]), config, latents=K, normaliser=Normaliser.estimate([x[:, :, :8]]))
    clock = Clock(x)  # the small training before has loaded every library
    before = _restart_peak()
    train(clock, config, latents=size.latents, heldout=heldout, normaliser=normaliser)
    peak = _memory("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated()
    steps = [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]
    return Cost(size.batch / median(steps[min(2, len(steps) - 1) :]), peak - before)


def activations(size: Size) -> torch.Tensor:
    """A batch of sparse mixtures of 512 directions, in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(512, size.sides * size.d, generator=generator)
    which = torch.randint(512, (size.batch, 16), generator=generator)
    mixed = torch.nn.functional.embedding_bag(which, directions, mode="sum")
    mixed += 0.3 * torch.randn(mixed.shape, generator=generator)
    return mixed.view(size.batch, size.sides, size.d).bfloat16()


def _restart_peak() -> int:
    """Bytes in use now, from which peaks are counted."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


def apart(size: Size, **variables: str) -> Cost:
    """Train in a fresh process, with these environment variables besides."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.growth", json.dumps(asdict(size))],
        cwd=paths.ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"training {size} failed:\n{done.stderr[-2000:]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def sizes(options: Options) -> list[Size]:
    if options.quick:
        return [Size(128, 32, batch=256, threads=options.threads)]
    grown = [(m, 576, 2) for m in (1_024, 4_096, 16_384, 65_536)]
    grown += [(4_096, d, 2) for d in (1_536, 4_096, 8_192)]
    grown += [(4_096, 576, 1), (16_384, 576, 1)]
    return [Size(m, d, s, threads=options.threads) for m, d, s in grown]


def measure(options: Options) -> Section:
    rows, left_out, errors = [], [], []
    for size in sizes(options):
        name = f"{size.latents:,} latents, d {size.d:,}, {size.sides} sides"
        if size.planned > FITS * free_memory():
            left_out.append(f"{name} ({size.planned / 1e9:.1f} GB)")
            continue
        exact = apart(size, **PROMPT)
        usual = exact if options.quick else apart(size)
        errors.append(size.planned / exact.peak - 1)
        figures = [f"{v / 1e9:.2f}" for v in (size.planned, exact.peak)]
        figures += [f"{errors[-1]:+.0%}", f"{usual.peak / 1e9:.2f}"]
        rows.append([name, f"{usual.tokens_per_second:,.0f}", *figures])
    claim = (
        f"Batches of {BATCH:,} tokens, k {K}, {options.threads} threads; each size in a process of "
        "its own, speed of the median step. Planned memory is `lib.pipeline.memory` (what `python "
        "-m lib plan` prints), measured memory the process's peak above what it held before; the "
        f"largest error is {max(errors, key=abs):+.0%} (asked: 10 %). The last column is the peak "
        "with the usual allocator, which keeps blocks up to 32 MiB after they are freed."
    )
    if left_out:
        claim += f" Left out for want of memory: {', '.join(left_out)}."
    head = ["size", "tokens/s", "planned, GB", "measured, GB", "plan's error", "with kept blocks"]
    return Section("Cost growth", claim, [table(head, rows)])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(trained(Size(**json.loads(sys.argv[1]))))) + "\n")
