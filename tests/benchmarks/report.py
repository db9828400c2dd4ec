"""One Markdown file of benchmark sections; measuring one section again replaces that one only."""

import os
import platform
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch

RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Benchmarks

Written by `make bench` (`python -m tests.benchmarks.run SECTION ...` measures single sections).
Each table was measured in one run on the machine named under it; **ratios within a table are the
claim**, absolute speeds belong to that machine.
"""
_SECTION = re.compile(r"<!-- (\w+) -->\n.*?<!-- end \1 -->\n", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every section is given."""

    quick: bool = False
    """The smallest form that still runs every line; its numbers mean nothing."""
    threads: int = 2
    seeds: int = 3
    harvests: tuple[Path, ...] = ()
    """Finished harvests (folders with ``train`` and ``heldout``) for the comparison of objectives."""
    layers: tuple[int, ...] = ()
    steps: int = 400
    """Training steps on a harvest."""
    only: tuple[str, ...] = ()
    """Names of the objectives to compare on a harvest; empty = all."""


class Section(NamedTuple):
    """What a benchmark found."""

    title: str
    claim: str
    """What the table shows, with its numbers, in a sentence or two."""
    tables: list[list[str]]
    """Markdown tables, as lines."""


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table; the first column is words, the others numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def render(section: Section) -> str:
    tables = "\n\n".join("\n".join(lines) for lines in section.tables)
    return f"## {section.title}\n\n{section.claim}\n\n{tables}\n\n*{machine()}*\n"


def merge(file: Path, name: str, text: str, order: tuple[str, ...]) -> None:
    """Put a section into ``file`` in the place of its former self; others stay as they are."""
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    found = {match[1]: match[0] for match in _SECTION.finditer(old)}
    found[name] = f"<!-- {name} -->\n{text}<!-- end {name} -->\n"
    known = [found[key] for key in order if key in found]
    file.write_text("\n".join([HEAD, *known]), encoding="utf-8")


def machine() -> str:
    """Cores, processor, memory, torch and the date."""
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        f"{date.today().isoformat()}; {len(os.sched_getaffinity(0))} cores of {_processor()}{device}, "
        f"{memory / 2**30:.0f} GiB RAM, torch {torch.__version__}"
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    text = facts.read_text(encoding="utf-8") if facts.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()
