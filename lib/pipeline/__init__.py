"""Every stage of every experiment, in order; resumable; publishes the store at the end."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import config, paths
from lib.pipeline.bundles import bundle_is_current, write_live_bundle
from lib.pipeline.causal import causal_stage, on_training_text
from lib.pipeline.dictionaries import sparse_stage
from lib.pipeline.geometry import geometry_stage
from lib.pipeline.lens import lens_stage
from lib.pipeline.measure import metrics_stage
from lib.pipeline.nulls import nulls_stage
from lib.pipeline.preflight import refuse_early, writable
from lib.pipeline.prepare import Prepared, prepare
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.pipeline.sweep import sweep_stage
from lib.pipeline.weights import Met, meet, weights_stage
from lib.store.write import publish, published_parts


class PipelineBusy(RuntimeError):
    """Another run is using the same work folder."""


def run(
    config_file: Path,
    out: Path | None = None,
    *,
    jobs: int | None = None,
    quiet: bool = False,
    met: list[Met] | None = None,
) -> Path:
    """Run every stage of every experiment of the file and publish OUT/store.duckdb.

    Finished stages whose inputs are unchanged are skipped; a killed run continues where it was.
    The store is published after each experiment, so a long file shows results as they come.

    Args:
        met: adapters of the files before this one, which those of this file are compared with and
            then added to.

    Raises:
        ValueError: something in the file, OUT or ``jobs`` cannot be used; as far as it can be known
            without computing, before the first stage.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    experiments = config.load(config_file)
    out = writable(out or paths.precomputed())
    refuse_early(experiments)
    met = [] if met is None else met
    with _only_run():
        for experiment in experiments:
            progress = Progress(experiment.id, quiet)
            prepared = prepare(experiment, progress)
            weights = weights_stage(prepared, met, progress)
            met.append(meet(prepared))
            sparse = sparse_stage(prepared, progress, jobs)
            nulls = nulls_stage(prepared, sparse, progress, jobs)
            metrics = metrics_stage(prepared, sparse, nulls, progress)
            causal = causal_stage(prepared, sparse, progress)
            lens = lens_stage(prepared, progress)
            sweep = sweep_stage(prepared, progress)
            geometry = geometry_stage(prepared, progress)
            made = (metrics, causal, lens, sweep, geometry, weights)
            parts = [stage for stage in made if stage]
            _publish(prepared, sparse, parts, out, progress)
    return paths.store_file(out)


def _publish(
    prepared: Prepared, sparse: Stage, parts: list[Stage], out: Path, progress: Progress
) -> None:
    """The experiment's tables and live bundle, unless they are there."""
    name, live = prepared.experiment.id, prepared.experiment.keep == "full"
    same_store = published_parts(out).get(name) == [part.key for part in parts]
    if same_store and (not live or bundle_is_current(prepared, sparse, out)):
        progress.say("unchanged, already published")
        return
    if live:
        write_live_bundle(prepared, sparse, on_training_text(prepared, sparse), out)
    else:
        shutil.rmtree(paths.live_bundle(name, out), ignore_errors=True)
    store = publish({name: [part.directory for part in parts]}, out)
    progress.say(f"published in {store}")


@contextmanager
def _only_run() -> Iterator[None]:
    """Two runs in one work folder would write the same stages: the second one is refused.

    The operating system drops the lock with the process, so a killed run leaves nothing behind.
    """
    paths.work().mkdir(parents=True, exist_ok=True)
    with (paths.work() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineBusy(
                f"another `python -m lib run` is using {paths.work()}; wait for it, or give this one "
                "its own folder with INSIDEOUT_WORK=DIR"
            ) from None
        yield
