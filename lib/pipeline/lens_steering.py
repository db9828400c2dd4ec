"""Steering in the lens stage: what is written along the mean difference, and whose text it is like."""

import polars as pl

from lib import corpora
from lib.lens.similarity import Texts, similarity
from lib.lens.steering import Steering, steer
from lib.pipeline.lens_scene import Scene


def steering_tables(scene: Scene) -> dict[str, pl.DataFrame]:
    """Along the mean difference of the position where texts agree most on it; prompts go in as plain
    text for every model, as the fine-tuning text did."""
    recipe = scene.recipe
    found = scene.probed.differences[scene.layer]
    position = int(found.offset_share.nan_to_num(-1.0).argmax())
    if not recipe.samples:
        return {}
    told = steer(
        scene.loaded,
        found.mean[position].float(),
        scene.probed.eta[scene.layer],
        scene.layer,
        samples=recipe.samples,
        tokens=recipe.length,
        temperature=recipe.temperature,
        seed=recipe.seed,
        chat=False,
    )
    row = {
        "position": position,
        "coefficient": told.coefficient,
        "note": told.note,
        "loss_bound": told.loss_bound,
        "coherent": told.coherent,
        "coherent_plain": told.coherent_plain,
        "tried": list(told.tried),
        "tried_coherent": list(told.tried_coherent),
        "tokens": recipe.length,
        "temperature": recipe.temperature,
        "measure": "tfidf",
    }
    lists = dict.fromkeys(("tried", "tried_coherent"), pl.List(pl.Float64))
    return {
        "lens_steering": pl.DataFrame([row], schema_overrides=lists),
        "lens_generation": _generations(told, recipe.keep_text),
        "lens_similarity": _similarities(scene, told),
    }


def _generations(told: Steering, keep_text: bool) -> pl.DataFrame:
    frame = pl.DataFrame([g._asdict() for g in told.generations])
    return frame if keep_text else frame.with_columns(text=pl.lit(None, pl.String))


def _similarities(scene: Scene, told: Steering) -> pl.DataFrame:
    """To the fine-tuning text, and to our other corpora, which it has not seen."""
    experiment, text = scene.prepared.experiment, scene.prepared.texts
    compared = {experiment.corpus_name: [d.text for d in text.corpus_train]}
    for name in corpora.OWN:
        if name not in (experiment.corpus_name, "neutral"):
            tokenizer = scene.loaded.tokenizer
            compared[name] = [d.text for d in corpora.load(name, tokenizer=tokenizer).documents]
    kinds = {
        kind: Texts([g.prompt for g in part], [g.text for g in part])
        for kind in ("unsteered", "steered")
        if (part := [g for g in told.generations if g.kind == kind])
    }
    rows = []
    for kind, found in similarity(kinds, compared).items():
        for corpus in found.corpora:
            mean = found.interval(corpus)
            rows.append(
                {
                    "kind": kind,
                    "corpus": corpus,
                    "similarity": mean.value,
                    "low": mean.low,
                    "high": mean.high,
                    "prompts": found.prompts.tolist(),
                    "prompt_similarity": found.of(corpus).tolist(),
                }
            )
    lists = {"prompts": pl.List(pl.Int32), "prompt_similarity": pl.List(pl.Float32)}
    return pl.DataFrame(rows, schema_overrides=lists, infer_schema_length=None)
