"""Progress bars with an ETA on standard error; quiet where nobody watches."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm


@dataclass
class Task:
    """One bar."""

    bar: tqdm

    def update(self, done: int, note: str = "") -> None:
        """Set the amount done (not the increment)."""
        if note:
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(done - self.bar.n)

    def advance(self, amount: int) -> None:
        self.bar.update(amount)

    def of(self, done: int, total: int) -> None:
        self.bar.total = total
        self.update(done)


@dataclass(frozen=True)
class Progress:
    """Names the experiment in front of every bar."""

    experiment: str
    quiet: bool = False

    def say(self, text: str) -> None:
        if not self.quiet:
            tqdm.write(f"{self.experiment}: {text}", file=sys.stderr)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        with tqdm(
            total=total,
            desc=f"{self.experiment}: {name}",
            disable=self.quiet,
            file=sys.stderr,
            mininterval=0.5,
            dynamic_ncols=True,
        ) as bar:
            yield Task(bar)
