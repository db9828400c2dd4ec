"""The weights stage: where an adapter's update lies, and which directions it shares with others.

From the files of the adapters alone: seconds, so every experiment has it.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lib.geometry.distance import Distance
from lib.geometry.factors import Factors, read
from lib.geometry.overlap import ModuleOverlap, overlap
from lib.geometry.weights import chance_rank, spectra
from lib.models import ModelError
from lib.pipeline.prepare import Prepared
from lib.pipeline.progress import Progress
from lib.pipeline.stages import Stage
from lib.pipeline.texts import base_model

Row = dict[str, Any]


class Met(NamedTuple):
    """The adapter of an experiment that the same command has come by."""

    experiment_id: str
    base: str
    """Hash of the base's weights."""
    folder: Path
    adapter: str
    """Hash of the adapter's files."""
    seed: int | None
    """Of its training; None for an adapter that was given, whose seed nobody knows."""


def meet(prepared: Prepared) -> Met:
    """The adapter of this experiment, for those after it."""
    experiment = prepared.experiment
    return Met(
        experiment.id,
        base_model(experiment.model).weights_hash,
        prepared.adapter,
        prepared.adapter_hash,
        None if experiment.adapter else experiment.seed,
    )


def weights_stage(prepared: Prepared, met: Sequence[Met], progress: Progress) -> Stage | None:
    """Tables ``weight_module`` and ``weight_overlap`` of one experiment.

    None, and a line that says why, where the adapter is not a plain LoRA. What cannot be compared is
    said too: nothing here stops a run.

    Args:
        met: adapters of the same command, in its order; those on the same base that come before this
            experiment are compared with it.
    """
    own = meet(prepared)
    before = takewhile(lambda one: one.experiment_id != own.experiment_id, met)
    others = [one for one in before if one.base == own.base]
    stage = Stage(
        "weights",
        {
            "experiment": own.experiment_id,
            "base": own.base,
            "adapter": [own.adapter, own.seed],
            "others": [[one.experiment_id, one.adapter, one.seed] for one in others],
        },
    )

    manifest = stage.run(lambda directory: _measure(own, others, stage.key, directory, progress))
    for line in manifest["said"]:
        progress.say(line)
    return stage if manifest["rows"] else None


def _measure(
    own: Met, others: Sequence[Met], part: str, directory: Path, progress: Progress
) -> dict[str, Any]:
    try:
        factors = read(own.folder)
    except ModelError as error:
        return {"rows": 0, "pairs": 0, "said": [f"no table of its weights: {error}"]}
    modules = [{"part": part, **row} for row in module_rows(factors)]
    _write(modules, own, directory / "weight_module.parquet")
    said: list[str] = []
    pairs: list[Row] = []
    with progress.task("weights", len(others)) as task:
        for done, other in enumerate(others, start=1):
            pairs += _pair(own, factors, other, said)
            task.update(done)
    if pairs:
        _write(pairs, own, directory / "weight_overlap.parquet")
    return {"rows": len(modules), "pairs": len(pairs), "said": said}


def module_rows(factors: Sequence[Factors]) -> Iterator[Row]:
    """The update of every adapted matrix, beside what random factors of its shape give.

    ``chance_share`` is the matrix's share of the adapted weights; chance ranks are None where the LoRA
    rank is larger than the matrix.
    """
    total = sum(len(f.b) * f.a.shape[1] for f in factors)
    for f, found in zip(factors, spectra(factors), strict=True):
        outputs, inputs = len(f.b), f.a.shape[1]
        row = found._asdict() | {"outputs": outputs, "inputs": inputs}
        row["lora_rank"] = row.pop("r")
        row["chance_share"] = outputs * inputs / total
        if found.r <= min(outputs, inputs):
            entropy, stable = _chance_rank(outputs, inputs, found.r)
            row |= {"chance_entropy_rank": entropy.mean, "chance_stable_rank": stable.mean}
        yield row


_chance_rank = cache(chance_rank)
"""Matrices of one shape share their chance."""


def overlap_rows(one: Sequence[Factors], other: Sequence[Factors]) -> list[Row]:
    """Three rows for every matrix that both adapters change, ``space`` = outputs, inputs, update;
    none where they have no matrix of one name and size in common."""
    sizes = {f.module: (len(f.b), f.a.shape[1]) for f in other}
    common = [f for f in one if sizes.get(f.module) == (len(f.b), f.a.shape[1])]
    if not common:
        return []
    return [row for found in overlap(common, other) for row in _spaces(found)]


def _spaces(found: ModuleOverlap) -> Iterable[Row]:
    where = {"module": found.module, "layer": found.layer, "kind": found.kind,
             "rank": found.ranks[0], "other_rank": found.ranks[1]}  # fmt: skip
    for space in ("outputs", "inputs"):
        spans = getattr(found, space)
        angle = {"angle": spans.angle.value, "angle_chance": spans.angle.chance,
                 "angle_distance": spans.angle.distance}  # fmt: skip
        yield {**where, "space": space, **_score(spans.cosine_squared), **angle}
    yield {**where, "space": "update", **_score(found.cosine)}


def _score(found: Distance) -> Row:
    return {name: getattr(found, name) for name in ("value", "chance", "chance_sd", "distance")}


def _pair(own: Met, factors: Sequence[Factors], other: Met, said: list[str]) -> list[Row]:
    """Rows of one pair; where there are none, ``said`` gets the reason."""
    try:
        rows = overlap_rows(factors, read(other.folder))
    except ModelError as error:
        said.append(f"its weights are not compared with {other.experiment_id}: {error}")
        return []
    if not rows:
        said.append(
            f"its weights are not compared with {other.experiment_id}: the two adapters change no "
            "matrix of one name and size"
        )
    named = {"other_id": other.experiment_id, "other_adapter": other.adapter, "seed": own.seed,
             "other_seed": other.seed}  # fmt: skip
    return [named | row for row in rows]


def _write(rows: list[Row], own: Met, file: Path) -> None:
    """NaN = not defined, which is NULL in the store."""
    frame = pl.DataFrame(rows, infer_schema_length=None)
    floats = [name for name, kind in frame.schema.items() if kind.is_float()]
    frame.with_columns(
        pl.col(floats).fill_nan(None), experiment_id=pl.lit(own.experiment_id)
    ).write_parquet(file)
