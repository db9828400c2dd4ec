"""``streamed`` against the plain form at V = 262,144: time, and the memory that each one adds.

Every form runs in a process of its own. Memory is the peak of the resident set while it runs, less
what the process held before it began (model weights and hidden states, which all forms need).
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from lib.metrics.divergence import kl_per_token, streamed
from tests.benchmarks.report import Options, Section, table

WIDTH, VOCAB, TOKENS = 640, 262_144, 512
"""Gemma 3 270M's width and vocabulary; two windows of 256 tokens."""
FORMS = ("streamed", "all six", "kl alone", "reference")
NAMES = {
    "streamed": "`streamed`: six measures, chunks of 64 x 2,048",
    "all six": "plain, the same six measures from full float32 logits",
    "kl alone": "plain, KL only, float32",
    "reference": "plain, KL only, `kl_per_token` (float64 inside)",
}
Arguments = tuple[Tensor, Tensor, Tensor, Tensor]


def inputs(tokens: int, vocab: int, width: int) -> Arguments:
    """Hidden states of both models, the unembedding, targets; nothing else stays in memory."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.empty(vocab, width).normal_(std=3 * width**-0.5, generator=generator)
    q = torch.empty(tokens, width).normal_(generator=generator)
    p = q + 0.3 * torch.empty(tokens, width).normal_(generator=generator)
    return p, q, weight, torch.randint(vocab, (tokens,), generator=generator)


def all_six(p: Tensor, q: Tensor, weight: Tensor, targets: Tensor) -> list[Tensor]:
    """The textbook, on whole logits."""
    log_p, log_q = ((v @ weight.T).log_softmax(-1) for v in (p, q))
    as_p, as_q = log_p.exp(), log_q.exp()
    log_m = ((as_p + as_q) / 2).log()
    half = [(a * (b - log_m)).sum(-1) / 2 for a, b in ((as_p, log_p), (as_q, log_q))]
    return [
        (as_p * (log_p - log_q)).sum(-1),
        (as_q * (log_q - log_p)).sum(-1),
        half[0] + half[1],
        (log_p.argmax(-1) == log_q.argmax(-1)).double(),
        *(-v.gather(1, targets[:, None])[:, 0] for v in (log_p, log_q)),
    ]


def kl_alone(p: Tensor, q: Tensor, weight: Tensor, targets: Tensor) -> list[Tensor]:
    log_p, log_q = ((v @ weight.T).log_softmax(-1) for v in (p, q))
    return [(log_p.exp() * (log_p - log_q)).sum(-1)]


def form(name: str) -> Callable[..., list[Tensor]]:
    return {
        "streamed": lambda p, q, w, t: [v for v in streamed(p, q, w, w, t) if v is not None],
        "all six": all_six,
        "kl alone": kl_alone,
        "reference": lambda p, q, w, t: [kl_per_token(p @ w.T, q @ w.T)],
    }[name]


def resident(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(v.split()[1]) * 1024 for v in lines if v.startswith(f"{field}:"))


def child(name: str, tokens: int, vocab: int, width: int, threads: int) -> None:
    """Writes CPU seconds, wall seconds, bytes added at the peak and the mean KL."""
    torch.set_num_threads(threads)
    made = inputs(tokens, vocab, width)
    form(name)(*(v[:4] for v in made[:2]), made[2], made[3][:4])  # loads what is loaded once
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts from here
    before = resident("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    kl = float(form(name)(*made)[0].double().mean())
    seconds = time.process_time() - cpu, time.perf_counter() - wall
    sys.stdout.write(f"{seconds[0]} {seconds[1]} {resident('VmHWM') - before} {kl}\n")


def run(name: str, *sizes: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.divergence", name, *(str(s) for s in sizes)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # freed tensors leave the process
    )
    return [float(v) for v in done.stdout.split()]


def measure(options: Options) -> Section:
    tokens, vocab, width, repeats = (
        (16, 8_192, 32, 1) if options.quick else (TOKENS, VOCAB, WIDTH, 3)
    )
    sizes = (tokens, vocab, width, options.threads)
    runs = {name: [run(name, *sizes) for _ in range(repeats)] for name in FORMS}
    cpu, wall, memory, kl = (
        {name: median(r[i] for r in found) for name, found in runs.items()} for i in range(4)
    )
    apart = max(abs(value - kl["reference"]) for value in kl.values())
    assert apart < 1e-5, f"the forms disagree by {apart} nats"
    rows = [
        [
            NAMES[name],
            f"{cpu[name]:.1f}",
            f"{wall[name]:.1f}",
            f"{memory[name] / 2**20:,.0f}",
            f"{cpu['streamed'] / cpu[name]:.2f}",
            f"{memory[name] / memory['streamed']:.1f}",
        ]
        for name in FORMS
    ]
    slower = cpu["streamed"] / cpu["all six"]
    claim = (
        f"For {tokens:,} tokens of two models (width {width}, V = {vocab:,}) `streamed` takes "
        f"**{slower:.2f} times** the CPU time of the plain form of the same six measures (asked: at "
        f"most 1.3) and **1/{memory['all six'] / memory['streamed']:.0f}** of its memory (asked: at "
        f"most 1/8), the logits' products included in all; medians of {repeats} on "
        f"{options.threads} thread{'s' * (options.threads > 1)}. Its memory does not grow with the "
        f"number of tokens. The forms' mean KL agree within {apart:.0e} nats."
    )
    head = ["form", "CPU s", "wall s", "added memory, MiB", "`streamed` / its time"]
    head.append("its memory / `streamed`")
    return Section("Divergence without logits", claim, [table(head, rows)])


if __name__ == "__main__":
    child(sys.argv[1], *(int(v) for v in sys.argv[2:]))
