"""Every benchmark, or those named: prints their tables and writes them to RESULTS.md.

    make bench, or python -m tests.benchmarks.run [SECTION ...] [--quick]
    sections: engine, loader, growth, planted, objectives, divergence, ablation, lens

``--harvest DIR --layer N`` (both repeatable) adds real paired activations to ``objectives``: DIR is
a finished harvest of the pipeline, ``.work/activations/KEY``.
"""

import argparse
import importlib
import sys
from pathlib import Path

import torch

from tests.benchmarks.report import RESULTS, Options, merge, render

SECTIONS = ("engine", "loader", "growth", "planted", "objectives", "divergence", "ablation", "lens")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="smallest form; nothing is written")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of planted and objectives")
    parser.add_argument("--harvest", type=Path, action="append", default=[])
    parser.add_argument("--layer", type=int, action="append", default=[])
    parser.add_argument("--only", action="append", default=[], help="objectives on a harvest")
    parser.add_argument("--steps", type=int, default=400, help="training steps on a harvest")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file to write to")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if bool(chosen.harvest) != bool(chosen.layer):
        parser.error("--harvest and --layer go together")
    torch.set_num_threads(chosen.threads)
    options = Options(
        quick=chosen.quick,
        threads=chosen.threads,
        seeds=chosen.seeds,
        harvests=tuple(chosen.harvest),
        layers=tuple(chosen.layer),
        steps=chosen.steps,
        only=tuple(chosen.only),
    )
    for name in chosen.sections or SECTIONS:
        section = importlib.import_module(f"tests.benchmarks.{name}").measure(options)
        text = render(section)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if not chosen.quick:
            merge(chosen.out, name, text, SECTIONS)


if __name__ == "__main__":
    main()
