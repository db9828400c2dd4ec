"""The parts of the lens stage: each step measures one thing and returns rows of its tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.lens.patchscope import patchscope
from lib.lens.probe import differences
from lib.lens.readout import Reading, logit_lens
from lib.lens.robustness import robustness
from lib.lens.swap import swap
from lib.lens.words import words_in
from lib.pipeline.lens_scene import Scene, number
from lib.pipeline.lens_steering import steering_tables
from lib.pipeline.lens_words import run_table, word_table

Tables = dict[str, pl.DataFrame]


def difference_tables(scene: Scene) -> Tables:
    """After every block, on the probe text and on held-out text of the corpus itself."""
    recipe = scene.recipe
    texts = scene.prepared.texts
    probes = {scene.prepared.experiment.recipe.text.neutral_name: scene.probed}
    if recipe.probe:
        probes = {"probe": scene.probed}
    own = scene.excerpt_ids(texts.corpus_heldout)
    probes["corpus"] = differences(
        scene.loaded, own, positions=min(recipe.positions, own.shape[1] - 1)
    )
    rows = []
    for probe, probed in probes.items():
        for layer, found in probed.differences.items():
            cosines = found.cosines[0]
            for j in range(len(found.n)):
                rows.append(
                    {
                        "probe": probe,
                        "layer": layer,
                        "position": j,
                        "n": int(found.n[j]),
                        "norm": float(found.norm[j]),
                        "error": number(found.error[j]),
                        "base_norm": float(found.base_norm[j]),
                        "tuned_norm": float(found.tuned_norm[j]),
                        "offset_share": float(found.offset_share[j]),
                        "first_cosine": number(cosines[j]),
                    }
                )
    return {"lens_difference": pl.DataFrame(rows, infer_schema_length=None)}


def reading_tables(scene: Scene) -> Tables:
    """Logit lens after every block, Patchscope and the robustness panel's vectors at the middle one."""
    rows: list[dict[str, Any]] = []
    for layer, found in scene.probed.differences.items():
        rows += _lens_rows(scene, layer, {"lens": found.mean}, negated=True)
    checked = robustness(scene.loaded, scene.probed, scene.ids, layer=scene.layer, k=scene.recipe.k,
                         seed=scene.recipe.seed)  # fmt: skip
    rows += _lens_rows(scene, scene.layer, checked.vectors, negated=False)
    rows += _base_head(scene)
    rows += _patchscope_rows(scene)
    checks = pl.DataFrame(
        [check._asdict() for check in checked.checks], infer_schema_length=None
    ).rename({"name": "check_name"})
    return {
        "lens_reading": pl.DataFrame(rows, schema_overrides=READING),
        "lens_robustness": checks,
    }


READING = {
    "scale": pl.Float64, "ids": pl.List(pl.Int32), "shares": pl.List(pl.Float32),
    "words": pl.List(pl.Int32),
}  # fmt: skip


def _lens_rows(
    scene: Scene, layer: int, vectors: dict[str, Float[Tensor, "_ d"]], *, negated: bool
) -> list[dict[str, Any]]:
    rows = []
    for name, rows_of in vectors.items():
        read = _read(scene, rows_of)
        rows += _rows(scene, layer, name, read.promoted, read.promoted_share)
        if negated:
            rows += _rows(scene, layer, f"{name}_negated", read.suppressed, read.suppressed_share)
    return rows


def _read(scene: Scene, vectors: Float[Tensor, "_ d"]) -> Reading:
    loaded = scene.loaded
    norm = loaded.causal_lm.model.norm
    given = vectors.to(loaded.device, loaded.dtype)
    return logit_lens(given, norm, loaded.unembedding, k=scene.recipe.k, softcap=loaded.softcap)


def _base_head(scene: Scene) -> list[dict[str, Any]]:
    """Through the base's norm and unembedding; nothing where the adapter leaves both alone."""
    tuned = _read(scene, scene.mean)
    with scene.loaded.as_base():
        base = _read(scene, scene.mean)
    if torch.equal(base.promoted, tuned.promoted) and torch.equal(
        base.suppressed, tuned.suppressed
    ):
        return []
    return [
        *_rows(scene, scene.layer, "base_head", base.promoted, base.promoted_share),
        *_rows(scene, scene.layer, "base_head_negated", base.suppressed, base.suppressed_share),
    ]


def _patchscope_rows(scene: Scene) -> list[dict[str, Any]]:
    found = patchscope(
        scene.loaded, scene.mean.float(), scene.probed.eta[scene.layer], scene.layer,
        k=scene.recipe.k, classes=scene.classes,
    )  # fmt: skip
    rows = _rows(scene, scene.layer, "patchscope", found.ids, found.shares)
    return [row | {"scale": number(found.scale[row["position"]])} for row in rows]


def _rows(
    scene: Scene, layer: int, reading: str, ids: Int[Tensor, "_ k"], shares: Float[Tensor, "_ k"]
) -> list[dict[str, Any]]:
    """One row for each position that has something to read; a single vector has position -1."""
    rows = []
    for j, (read, share) in enumerate(zip(ids.tolist(), shares.tolist(), strict=True)):
        tokens = [i for i in read if i >= 0]  # fewer than asked for where so many are not there
        if not tokens:
            continue
        rows.append(
            {
                "layer": layer,
                "position": -1 if reading == "bos" else j,
                "reading": reading,
                "scale": None,
                "ids": tokens,
                "tokens": [scene.loaded.tokenizer.decode([i]) for i in tokens],
                "shares": share[: len(tokens)],
                "words": words_in(scene.classes, np.array(tokens)).tolist(),
            }
        )
    return rows


def swap_tables(scene: Scene) -> Tables:
    texts = scene.prepared.texts
    found = swap(
        scene.loaded,
        scene.mean,
        {"corpus": scene.excerpt_ids(texts.corpus_heldout),
         "neutral": scene.excerpt_ids(texts.neutral_heldout)},
        layer=scene.layer,
        draws=scene.recipe.draws,
        seed=scene.recipe.seed,
    )  # fmt: skip
    lists = {"document_change": pl.List(pl.Float32), "document_tokens": pl.List(pl.UInt16)}
    rows = [row._asdict() for row in found.rows]
    return {"lens_swap": pl.DataFrame(rows, schema_overrides=lists)} if rows else {}


STEPS: dict[str, Callable[[Scene], Tables]] = {
    "differences": difference_tables,
    "readings": reading_tables,
    "words": word_table,
    "swap": swap_tables,
    "steering": steering_tables,
    "run": run_table,
}
"""In this order; each writes whole tables."""
