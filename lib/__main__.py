"""python -m lib run CONFIG [--out DIR] [--jobs N] | plan CONFIG"""

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib", description="The Inside/Out pipeline.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="every stage of every experiment in a file; resumable")
    run.add_argument("config", type=Path)
    run.add_argument("--out", type=Path, help="folder of the store (default: precomputed/)")
    run.add_argument("--jobs", type=int, help="dictionaries trained at once (default: the cores)")
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    plan = commands.add_parser("plan", help="what a run would cost, before anything starts")
    plan.add_argument("config", type=Path)
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return _run(chosen) if chosen.command == "run" else _plan(chosen)


def _run(chosen: argparse.Namespace) -> int:
    from concurrent.futures.process import BrokenProcessPool

    import duckdb
    from safetensors import SafetensorError
    from transformers.utils import logging

    from lib import pipeline

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        store = pipeline.run(chosen.config, chosen.out, jobs=chosen.jobs, quiet=chosen.quiet)
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

    try:
        sys.stdout.write(plan.forecast(chosen.config))
    except (ValueError, OSError) as error:
        return _fail(error)
    return 0


def _fail(error: object) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
