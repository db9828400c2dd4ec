"""How fast this machine multiplies matrices."""

import time
from collections.abc import Callable

import torch


def flops(dtype: torch.dtype) -> float:
    """Matrix-product speed of this machine in FLOP/s, best of a few short products."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(1024, 1024, device=device).to(dtype) for _ in range(2))
    return 2 * 1024**3 / min(_timed(lambda: a @ b) for _ in range(6))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
