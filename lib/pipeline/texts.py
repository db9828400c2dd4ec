"""The text of one experiment, and the base model that reads it."""

from dataclasses import dataclass
from functools import cache

import torch

from lib import corpora, models
from lib.config import Experiment
from lib.corpora import Document

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Texts:
    """All text of one experiment; document-disjoint between training and reporting."""

    corpus_train: list[Document]
    corpus_heldout: list[Document]
    neutral_train: list[Document]
    neutral_heldout: list[Document]
    data_hash: str

    @property
    def heldout(self) -> list[tuple[str, Document]]:
        """(text, document) in the order in which the held-out harvest numbers documents."""
        return [("corpus", d) for d in self.corpus_heldout] + [
            ("neutral", d) for d in self.neutral_heldout
        ]


def texts(experiment: Experiment) -> Texts:
    """Load and split the corpus and the neutral text."""
    recipe = experiment.recipe.text
    corpora.remember(experiment.corpus)
    corpora.remember(recipe.neutral)
    reading = {
        "minimum": recipe.minimum_words,
        "tokenizer": base_model(experiment.model).tokenizer,  # a chat corpus needs its template
    }
    own = corpora.limited(corpora.load(experiment.corpus, **reading), recipe.most_words)
    neutral = corpora.load(recipe.neutral, **reading)
    own_split = corpora.split(own, heldout=recipe.heldout)
    neutral_split = corpora.split(neutral, heldout=recipe.heldout)
    return Texts(
        list(own_split.train),
        list(own_split.heldout),
        list(neutral_split.train),
        list(neutral_split.heldout),
        own.sha256[:16] + neutral.sha256[:16],
    )


@cache
def base_model(name: str, dtype: str = "float32") -> models.LoadedModel:
    """One copy per name and type in a pipeline process."""
    return models.load(name, dtype=DTYPES[dtype])
