"""python -m lib run CONFIG... [--out DIR] | plan CONFIG | convert SOURCE TARGET --to FORMAT
| agent EXPERIMENT... | label EXPERIMENT... | judge EXPERIMENT..."""

import argparse
import os
import sys
from pathlib import Path

from lib.llm import arguments as arguments_of_llm


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib", description="The Inside/Out pipeline.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="every stage of every experiment in files; resumable")
    run.add_argument("config", type=Path, nargs="+")
    run.add_argument("--out", type=_folder, help="folder of the store (default: precomputed/)")
    run.add_argument(
        "--jobs", type=_count, help="dictionaries trained at once (default: the cores)"
    )
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    plan = commands.add_parser("plan", help="what a run would cost, before anything starts")
    plan.add_argument("config", type=Path, nargs="?")
    plan.add_argument("--latents", type=_count, help="without CONFIG: one dictionary of this size")
    plan.add_argument("--d", type=_count, help="with --latents: width of the activations")
    plan.add_argument("--sides", type=int, choices=(1, 2), help="1 or 2 models (default: 2)")
    plan.add_argument("--batch", type=_count, help="tokens per step (default: 2048)")
    plan.add_argument("--k", type=_count, help="active latents per token (default: 32)")
    _add_convert(commands)
    arguments_of_llm.add(commands)
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    known = {"run": _run, "plan": _plan, "convert": _convert}
    return known.get(chosen.command, _llm)(chosen)


def _run(chosen: argparse.Namespace) -> int:
    from concurrent.futures.process import BrokenProcessPool

    import duckdb
    from safetensors import SafetensorError

    from lib import config, pipeline
    from lib.pipeline import preflight

    _hush()
    try:
        for file in chosen.config:  # a mistake in the last one shows before hours on the first
            preflight.refuse_early(config.load(file))
        met: list[pipeline.Met] = []
        for file in chosen.config:
            store = pipeline.run(file, chosen.out, jobs=chosen.jobs, quiet=chosen.quiet, met=met)
    except (ValueError, pipeline.PipelineBusy) as error:
        return _fail(error)
    except (OSError, SafetensorError) as error:
        return _fail(f"a file could not be read or written: {error}; run again once that is mended")
    except duckdb.Error as error:
        return _fail(f"the store in the output folder cannot be used: {error}; move it away")
    except BrokenProcessPool:
        return _fail(
            "a training process died, perhaps for want of memory; run again with --jobs 1, finished "
            "dictionaries are kept"
        )
    except KeyboardInterrupt:
        return _fail("stopped; run the same command again to continue where it was")
    sys.stdout.write(f"{store}\n")
    return 0


def _plan(chosen: argparse.Namespace) -> int:
    from lib.pipeline import plan
    from lib.pipeline.memory import memory_table

    _hush()
    given = {name: getattr(chosen, name) for name in ("latents", "d", "sides", "batch", "k")}
    named = [f"--{name}" for name, value in given.items() if value is not None]
    one = chosen.latents is not None and chosen.d is not None
    if one == (chosen.config is not None) or (chosen.config and named):
        found = f"; {', '.join(named)} is of one dictionary" if chosen.config and named else ""
        return _fail(f"plan needs either a CONFIG, or --latents and --d of one dictionary{found}")
    try:
        if one:
            sizes = {"sides": 2, "batch": 2048, "k": 32}
            sizes |= {name: given[name] for name in sizes if given[name] is not None}
            sys.stdout.write(memory_table(chosen.latents, chosen.d, **sizes))
        else:
            sys.stdout.write(plan.forecast(chosen.config))
    except (ValueError, OSError) as error:
        return _fail(error)
    return 0


def _add_convert(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    convert = commands.add_parser("convert", help="dictionaries of other programs, either way")
    convert.add_argument("source", type=Path, help="folder of a dictionary, or a params.npz")
    convert.add_argument("target", type=Path, help="a new or empty folder")
    convert.add_argument("--to", required=True, choices=("ours", "dictionary-learning", "saelens"))
    convert.add_argument("--k", type=int, help="active latents per token, if the files lack it")
    convert.add_argument("--input-scale", type=float, help="SAELens: the factor on activations")


def _convert(chosen: argparse.Namespace) -> int:
    from safetensors import SafetensorError

    from lib.sparse import formats

    try:
        done = formats.convert(
            chosen.source, chosen.target, chosen.to, k=chosen.k, input_scale=chosen.input_scale
        )
    except (ValueError, OSError) as error:
        return _fail(error)
    except SafetensorError as error:
        return _fail(f"{chosen.target} could not be written: {error}; free some disk space")
    made = done.dictionary
    sys.stdout.write(
        f"read {done.source}: {made.sides} side(s), d {made.d}, {made.latents} latents, k {made.k}, "
        f"{made.selection}\nwrote {done.note}: {chosen.target}\n"
    )
    return 0


def _llm(chosen: argparse.Namespace) -> int:
    from lib.llm import commands

    known = {"agent": commands.agent, "label": commands.label, "judge": commands.judge}
    return known[chosen.command](chosen)


def _hush() -> None:
    """Transformers reports on itself in the midst of what is asked for."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"give a whole number of at least 1, got {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("the name of the folder is empty")
    return Path(text)


def _fail(error: object) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
