"""What every step of the lens stage needs: models, probe text, mean differences, words."""

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lib.config import Lens, layer_at
from lib.corpora import Document
from lib.lens.contexts import FAR
from lib.lens.probe import Probed, differences, first_tokens
from lib.lens.words import word_classes
from lib.models import LoadedModel
from lib.pipeline.excerpts import excerpts
from lib.pipeline.prepare import Prepared

PLAIN_TOKENS = 32
"""Tokens of a probe text beyond the first positions, for the mean norm."""

FEWEST = 8
"""Probe texts."""


@dataclass(frozen=True)
class Scene:
    """What every step needs."""

    prepared: Prepared
    loaded: LoadedModel
    layer: int
    ids: Int[Tensor, "texts seq"]
    """BOS and the first tokens of the probe text."""
    started: float

    @classmethod
    def of(cls, prepared: Prepared, probe: list[Document]) -> "Scene":
        loaded = prepared.loaded()
        recipe = prepared.experiment.recipe.lens
        layer = layer_at(recipe.depth, loaded.n_layers)
        ids = _long_enough(loaded, probe, recipe.positions)
        if len(ids) < FEWEST:
            raise ValueError(
                f"the lens: {len(ids)} of {len(probe)} probe texts have {ids.shape[1] - 1} tokens, and "
                f"a mean over fewer than {FEWEST} texts says nothing; give more or longer probe text "
                "(`lens: {probe: ...}`), or set `lens: {texts: 0}`"
            )
        return cls(prepared, loaded, layer, ids, time.perf_counter())

    @property
    def recipe(self) -> Lens:
        return self.prepared.experiment.recipe.lens

    @cached_property
    def probed(self) -> Probed:
        return differences(
            self.loaded, self.ids, positions=self.recipe.positions, keep=[self.layer]
        )

    @property
    def mean(self) -> Float[Tensor, "positions d"]:
        """Mean differences at the middle block."""
        return self.probed.differences[self.layer].mean

    @cached_property
    def classes(self) -> Int[np.ndarray, " vocab"]:
        """Word of every token; -1 = none."""
        return word_classes(self.loaded.tokenizer, len(self.loaded.unembedding))

    def excerpt_ids(self, documents: list[Document]) -> Int[Tensor, "documents seq"]:
        """Of held-out text, as the standard ablation reads it."""
        found = excerpts(
            documents, self.loaded.tokenizer, count=self.recipe.documents,
            tokens=self.recipe.tokens, drop=self.recipe.tokens - 1, seed=self.recipe.seed,
        )  # fmt: skip
        read = [Document(one.document, one.text) for one in found]
        return first_tokens(self.loaded.tokenizer, read, self.recipe.tokens)


def _long_enough(
    loaded: LoadedModel, probe: list[Document], positions: int
) -> Int[Tensor, "texts seq"]:
    """As many tokens of each text as far positions need, or fewer if half of the texts are shorter."""
    wanted = [*(start + positions for start in reversed(FAR)), PLAIN_TOKENS + positions, positions]
    lengths = [len(x) for x in loaded.tokenizer(
        [d.text for d in probe], add_special_tokens=False).input_ids]  # fmt: skip
    fits = [n for n in wanted if sum(length >= n for length in lengths) >= len(probe) / 2]
    return first_tokens(loaded.tokenizer, probe, fits[0] if fits else positions)


def number(value: float | Tensor) -> float | None:
    """NaN, which stands for "not defined", is stored as NULL."""
    return None if np.isnan(float(value)) else float(value)
