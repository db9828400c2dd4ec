"""The causal stage: the standard ablation of every depth, and of all depths together.

Latents are chosen on training text alone and everything is scored on held-out documents. The engine
is that of live runs (lib.ablation); its bundle is made here for experiments that publish none.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from lib import ablation
from lib.ablation.limits import AblationError
from lib.ablation.request import AblationRequest, AblationResult
from lib.ablation.session import Session, open_session
from lib.pipeline.bundles import write_live_bundle
from lib.pipeline.causal_rows import Asked, tables
from lib.pipeline.codes import active_codes
from lib.pipeline.counts import classified
from lib.pipeline.dictionaries import trained
from lib.pipeline.excerpts import excerpts
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress, Task
from lib.pipeline.stages import Stage, write_json


def causal_stage(prepared: Prepared, sparse: Stage, progress: Progress) -> Stage | None:
    """Tables ``causal_run``, ``causal`` and ``causal_draw``; None where the recipe asks for none.

    A killed run keeps the sets of depths that it had finished.
    """
    experiment, recipe = prepared.experiment, prepared.experiment.recipe
    if not recipe.causal.documents:
        return None
    stage = Stage(
        "causal",
        {
            "experiment": experiment.id,
            "adapter": prepared.adapter_hash,
            "activations": prepared.activations.key,
            "sparse": sparse.key,
            "recipe": asdict(recipe.causal),
            "live": [recipe.live_latents, recipe.live_controls],
        },
    )

    def work(directory: Path) -> dict[str, Any]:
        write_live_bundle(prepared, sparse, on_training_text(prepared, sparse), directory)
        session = open_session(experiment.id, directory=directory)
        asked = requests(prepared, session)
        results = []
        with progress.task("standard ablation", len(asked)) as task:
            for done, one in enumerate(asked):
                results.append((one, _result(directory, one, session, partial(_note, task, done))))
        for name, frame in tables(experiment.id, stage.key, results).items():
            frame.write_parquet(directory / f"{name}.parquet")
        return {"requests": [one.request.id for one in asked]}

    stage.run(work)
    return stage


def requests(prepared: Prepared, session: Session) -> list[Asked]:
    """One request for each depth alone, in order, then one for all of them together.

    Raises:
        AblationError: no held-out document is long enough, or a depth has no latent to clamp.
    """
    recipe, drop = prepared.experiment.recipe.causal, prepared.experiment.recipe.text.drop_first
    layers = session.info.layers
    how = {"tokens": recipe.tokens, "drop": drop, "seed": recipe.seed}
    read, tokenizer = prepared.texts, session.loaded.tokenizer
    documents = excerpts(read.corpus_heldout, tokenizer, count=recipe.documents, **how)
    neutral = excerpts(read.neutral_heldout, tokenizer, count=recipe.neutral, **how)
    if not documents:
        raise AblationError(
            f"no held-out document of {prepared.experiment.corpus} has more than {drop} tokens: set "
            "`causal.documents` to 0, or give longer documents"
        )
    sizes = {layer: (len(x.top), len(x.pool)) for layer, x in session.offered.items()}
    top = min(recipe.top, *(size for pair in sizes.values() for size in pair))
    if not top:
        raise AblationError(_nothing_left(sizes, prepared.experiment.recipe.live_latents))
    return [
        Asked(
            AblationRequest(
                experiment_id=prepared.experiment.id,
                documents=tuple(d.text for d in documents),
                neutral=tuple(d.text for d in neutral),
                layers=chosen,
                top=top,
                draws=recipe.draws,
                seed=recipe.seed,
                skip_first=drop,
                prompt_limit=recipe.tokens,
            ),
            tuple(documents),
            tuple(neutral),
        )
        for chosen in [*((layer,) for layer in layers), layers]
    ]


def _nothing_left(sizes: dict[int, tuple[int, int]], live: int) -> str:
    silent = [layer for layer, (clamped, _) in sizes.items() if not clamped]
    if silent:
        return (
            f"no latent fires at depth {', '.join(map(str, silent))}, so there is nothing to clamp: "
            "set `causal.documents` to 0, or give more text"
        )
    taken = {layer: clamped for layer, (clamped, pool) in sizes.items() if not pool}
    said = ", ".join(f"{layer} (all {clamped} that fire)" for layer, clamped in taken.items())
    return (
        f"`live_latents` is {live} and takes every latent at depth {said}, which leaves none to draw "
        "controls from: lower `live_latents`, train more latents, or set `causal.documents` to 0"
    )


def _result(
    directory: Path, asked: Asked, session: Session, note: Callable[..., None]
) -> AblationResult:
    """From the folder, if a killed run had finished this very request."""
    file = directory / f"{asked.request.id}.json"
    if file.exists():
        return AblationResult.from_json(json.loads(file.read_text(encoding="utf-8")))
    result = ablation.run(asked.request, session, progress=partial(note, asked.layers))
    write_json(file, result.to_json())
    return result


def _note(task: Task, done: int, layers: str, stage: str, at: int = 0, of: int = 0) -> None:
    task.update(done, f"depth {layers}: {stage} {at}/{of}" if of else f"depth {layers}: {stage}")


def on_training_text(prepared: Prepared, sparse: Stage) -> pl.DataFrame:
    """What bundles are chosen by, of every latent, from training text alone."""
    frames = []
    for layer in prepared.train.manifest.layers:
        crosscoder, _ = trained(sparse, layer, "crosscoder")
        codes = active_codes(prepared, layer, crosscoder, heldout=False)
        frame = classified(crosscoder, codes)
        frames.append(frame.with_columns(layer=pl.lit(layer, pl.Int32)))
    return pl.concat(frames)
