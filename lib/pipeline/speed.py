"""How fast this machine multiplies matrices."""

import time
from collections.abc import Callable

import torch

CPU_SIZE, GPU_SIZE = 512, 4096
"""Rows of the matrices. On a busy CPU a product must be over before it is interrupted."""
SECONDS = 0.5


def flops(dtype: torch.dtype, seconds: float = SECONDS) -> float:
    """Matrix-product speed of this machine at rest, in FLOP/s: the best of many short products.

    On a CPU that of one thread times the threads: on a busy machine several threads wait for each
    other, and were measured at a tenth of their speed.

    Args:
        seconds: for so long, so that a busy machine leaves a moment for one of them.
    """
    device, size = ("cuda", GPU_SIZE) if torch.cuda.is_available() else ("cpu", CPU_SIZE)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    threads = 1 if device == "cuda" else torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ends = time.perf_counter() + seconds
        best = _timed(lambda: a @ b)
        while time.perf_counter() < ends:
            best = min(best, _timed(lambda: a @ b))
    finally:
        torch.set_num_threads(threads)
    return threads * 2 * size**3 / best


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
