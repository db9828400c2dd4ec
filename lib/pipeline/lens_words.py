"""Words in the lens stage: those of the corpus, and how high the lens ranks every word in use."""

import time

import numpy as np
import polars as pl
from jaxtyping import Int
from scipy.stats import rankdata

from lib import corpora
from lib.corpora import Document
from lib.lens.relevance import own_words
from lib.lens.words import words_in
from lib.pipeline.lens_scene import Scene, number

LEAST = 3
"""A word in use occurs so often in our texts or the experiment's own."""


def word_table(scene: Scene) -> dict[str, pl.DataFrame]:
    """Mean percentile over positions of every word in use, after the middle block."""
    loaded, vectors = scene.loaded, scene.mean.float()
    kept = vectors[vectors.norm(dim=1) > 0]
    if not len(kept):
        return {}
    logits = loaded.logits(loaded.causal_lm.model.norm(kept.to(loaded.device))).cpu().numpy()
    known = scene.classes >= 0
    best = np.full(logits.shape, -np.inf)
    for row, values in zip(best, logits, strict=True):  # a word is as high as its highest spelling
        np.maximum.at(row, scene.classes[known], values[known])
    words = np.unique(scene.classes[known])
    ranks = np.stack([rankdata(row[words]) for row in best]).mean(0)
    percentile = (ranks - 1) / (len(words) - 1)
    used = np.isin(words, np.flatnonzero(_in_use(scene) >= LEAST))
    row = {
        "layer": scene.layer,
        "words": words[used].tolist(),
        "percentile": percentile[used].tolist(),
    }
    lists = {"words": pl.List(pl.Int32), "percentile": pl.List(pl.Float32)}
    return {"lens_words": pl.DataFrame([row], schema_overrides=lists)}


def run_table(scene: Scene) -> dict[str, pl.DataFrame]:
    """Last, for the time."""
    recipe, text = scene.recipe, scene.prepared.texts
    counts = [_counts(scene, part) for part in (text.corpus_train, text.neutral_train)]
    words = own_words(*counts, size=recipe.words, stop=recipe.words)
    neutral = scene.prepared.experiment.recipe.text.neutral_name
    row = {
        "layer": scene.layer,
        "hook": "residual",
        "probe": "probe" if recipe.probe else neutral,
        "texts": len(scene.ids),
        "positions": recipe.positions,
        "k": recipe.k,
        "words": words.tolist(),
        "vocabulary": len(np.unique(scene.classes[scene.classes >= 0])),
        "reference": neutral,
        "eta": number(scene.probed.eta[scene.layer]),
        "seed": recipe.seed,
        "seconds": time.perf_counter() - scene.started,
    }
    return {"lens_run": pl.DataFrame([row], schema_overrides={"words": pl.List(pl.Int32)})}


def _in_use(scene: Scene) -> Int[np.ndarray, " vocab"]:
    total = _counts(
        scene, [*scene.prepared.texts.corpus_train, *scene.prepared.texts.neutral_train]
    )
    for name in corpora.OWN:
        documents = corpora.load(name, tokenizer=scene.loaded.tokenizer).documents
        total = total + _counts(scene, list(documents))
    return total


def _counts(scene: Scene, documents: list[Document]) -> Int[np.ndarray, " vocab"]:
    coded = scene.loaded.tokenizer([d.text for d in documents], add_special_tokens=False).input_ids
    words = words_in(scene.classes, np.array([i for ids in coded for i in ids], dtype=np.int64))
    return np.bincount(words[words >= 0], minlength=len(scene.classes))
