"""Names each stage as it starts and keeps its wall time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Reports each stage as it starts and keeps its wall time."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.seconds: list[tuple[str, float]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.report(name)
        start = time.perf_counter()
        yield
        self.seconds.append((name, time.perf_counter() - start))
