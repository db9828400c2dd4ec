"""What each stage of one experiment would cost: passes, time, disk and memory.

Time comes from this machine's speed at rest and from the shares of it that the stages of the committed
store reached on two busy cores; good to a factor of two.
"""

import os
from dataclasses import dataclass
from functools import cached_property

import torch

from lib import corpora
from lib.config import Experiment, layers_of
from lib.models import LoadedModel
from lib.pipeline.dictionaries import affordable
from lib.pipeline.jobs import KINDS
from lib.pipeline.memory import PROCESS, training_memory

WORDS_TO_TOKENS = 1.45
"""Tokens per word of English prose under the tokenizers of the embedded models, generous."""
EFFICIENCY = {
    **{"forward": 0.5, "train": 0.45, "sample": 0.12, "dictionary": 0.26},
    **{"ablation": 0.25, "lens": 0.3, "output": 0.25},
}
"""Share of the measured matrix-product speed that each kind of work reaches."""
PER_LAYER = {"metrics": 3.0, "point": 0.8, "geometry": 20.0}
"""Seconds for what is no matrix product: resampled documents, blocks of CKA, directions chosen for each
token (of geometry: a place at one rank)."""
BYTES = {"float32": 4, "bfloat16": 2}
MOST_AT_ONCE = 8
"""Dictionaries that the sparse stage trains in parallel on CPU, if there are as many cores."""


@dataclass(frozen=True)
class Cost:
    """Forecast of one stage of one experiment."""

    stage: str
    passes: str
    seconds: float
    disk: float
    """Bytes left in the work folder."""
    memory: float
    """Peak bytes of RAM, or of VRAM where a GPU does the work."""
    done: bool = False


@dataclass(frozen=True)
class Estimate:
    """One experiment on one machine."""

    experiment: Experiment
    loaded: LoadedModel
    speed: dict[str, float]
    """FLOP/s by type."""

    def costs(self) -> list[Cost]:
        """One entry per stage up to the metrics, in order.

        The sampled text is shared by all experiments on one model.
        """
        asked = self.experiment
        found = [self.sampled()]
        if not asked.adapter:
            found.append(self.finetune())
        again = [self.activations(), self.sparse(), self.metrics()]
        found += again[:2]
        if asked.nulls:
            found.append(self.nulls(*again))
        return [*found, again[2]]

    @cached_property
    def tokens(self) -> tuple[float, float]:
        """Of training text, the sampled one included, and of held-out text."""
        text, reading = self.experiment.recipe.text, {"tokenizer": self.loaded.tokenizer}
        own = WORDS_TO_TOKENS * sum(
            len(document.text.split())
            for name, most in ((self.experiment.corpus, text.most_words), (text.neutral, 0))
            for document in corpora.limited(
                corpora.load(name, minimum=text.minimum_words, **reading), most
            ).documents
        )
        return own * (1 - text.heldout) + text.sampled_tokens, own * text.heldout

    @cached_property
    def latents(self) -> int:
        """Of each dictionary, as the text affords them."""
        return self.afforded(self.tokens[0])

    def afforded(self, tokens: float | int) -> int:
        """Latents of a dictionary trained on so many tokens."""
        recipe = self.experiment.recipe.sparse
        asked = int(recipe.expansion * self.loaded.d)
        return affordable(asked, int(tokens), recipe.min_tokens_per_latent)

    @property
    def n(self) -> int:
        return self.loaded.n_parameters

    @property
    def head(self) -> int:
        return self.loaded.unembedding.numel()

    @property
    def blocks(self) -> int:
        return self.n - self.head

    @property
    def layers(self) -> list[int]:
        return layers_of(self.experiment.recipe.harvest, self.loaded.n_layers)

    @property
    def dtype(self) -> str:
        return self.experiment.recipe.harvest.train_dtype

    def time(self, flop: float, kind: str, dtype: str = "float32") -> float:
        """Seconds."""
        return flop / (self.speed[dtype] * EFFICIENCY[kind])

    def sampled(self) -> Cost:
        tokens = self.experiment.recipe.text.sampled_tokens
        seconds = self.time(2.0 * self.n * tokens, "sample", self.dtype)
        what = f"{tokens:,} tokens sampled from the base"
        return Cost("sampled", what, seconds, tokens * 5.0, self.n * 6.0)

    def finetune(self) -> Cost:
        recipe = self.experiment.recipe.finetune
        tuned = recipe.steps * recipe.batch * recipe.seq
        what = f"{tuned:,} tokens, forward and backward"
        return Cost("finetune", what, self.training(tuned), 8e6, self.n * 8.0)

    def training(self, tokens: float | int) -> float:
        return self.time(6.0 * self.n * tokens, "train", self.experiment.recipe.finetune.dtype)

    def activations(self) -> Cost:
        train, held = self.tokens
        pair = 4.0 * self.blocks
        seconds = self.time(pair * held, "forward")
        seconds += self.time(pair * train, "forward", self.dtype)
        rows = train * len(self.layers) * BYTES[self.dtype] + held * 4 * (self.loaded.n_layers + 1)
        what = f"2 x ({train:,.0f} + {held:,.0f}) tokens"
        return Cost("activations", what, seconds, 2.0 * self.loaded.d * rows, self.n * 4.0 + 2e9)

    def dictionaries(
        self, sides: float | int, steps: float | int, latents: int | None = None
    ) -> float:
        """Seconds for dictionaries of so many sides together, at every depth."""
        table = (latents or self.latents) * self.loaded.d * sides
        work = len(self.layers) * steps * self.experiment.recipe.sparse.batch * table * 2.0 * 1.5
        return self.time(work, "dictionary", "bfloat16")

    def sparse(self) -> Cost:
        """Per depth every kind of dictionary once, and ``replicas`` further crosscoders."""
        recipe, (train, held) = self.experiment.recipe.sparse, self.tokens
        d, latents = self.loaded.d, self.latents
        sides = [2 if side is None else 1 for side in KINDS.values()] + [2] * recipe.replicas
        count = len(self.layers) * len(sides)
        at_once = 1 if torch.cuda.is_available() else min(count, MOST_AT_ONCE, cores())
        peak = training_memory(latents, d, 2, recipe.batch, min(recipe.k, latents)).worst
        return Cost(
            "sparse",
            f"none; {count} dictionaries of {latents:,} latents",
            self.dictionaries(sum(sides), recipe.max_steps * 0.8),
            len(self.layers) * latents * d * sum(sides) * 2 * 4.0,
            at_once * (PROCESS + peak + held * d * 2 * 4.0) + train * d * 2 * 2.0,
        )

    def metrics(self) -> Cost:
        """Both models' predictions of held-out text, and every layer."""
        seconds = self.time(4.0 * self.head * self.tokens[1], "output")
        seconds += PER_LAYER["metrics"] * self.loaded.n_layers
        return Cost("metrics", "none (reads the harvest)", seconds, 5e7, self.n * 4.0 + 2e9)

    def nulls(self, activations: Cost, sparse: Cost, metrics: Cost) -> Cost:
        """Each draw takes a random adapter through everything but training, and trains the base's SAE
        again; no replicas, the activations go again, and the base's SAE of the first is reused."""
        sides = sum(2 if side is None else 1 for side in KINDS.values())
        whole = sides + 2 * self.experiment.recipe.sparse.replicas
        seconds = activations.seconds + metrics.seconds + sparse.seconds * sides / whole
        draws = self.experiment.nulls
        return Cost(
            "nulls",
            f"{draws} x activations, sparse and metrics of a control",
            draws * seconds,
            draws * sparse.disk * (sides + 1) / whole,
            max(activations.memory, sparse.memory, metrics.memory),
        )


def cores() -> int:
    return len(os.sched_getaffinity(0))
