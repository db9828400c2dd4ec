"""What is done with an adapter besides the metrics: ablation, lens, sweep. Each shapes only its own
stage, so none is part of an experiment's identity."""

from dataclasses import dataclass
from typing import Literal

from lib.config.values import check, finite, named, positive

MOST_DRAWS = 1000
"""Of one control, as for live runs (``lib.ablation.limits.DRAWS_LIMIT``)."""
MOST_SCALE = 16.0
"""Of an adapter on a path; a model that is pushed that far says nothing of its training."""
MOST_MIXING = 64.0
"""Parts of neutral text for each of the corpus: they multiply the cost of every step."""


@dataclass(frozen=True, kw_only=True)
class Causal:
    """The standard ablation, at each depth of the dictionaries and at all of them together: the
    latents with most of the change are clamped to base, and matched controls do the same."""

    documents: int = 10
    """Held-out documents that are scored, drawn at random; 0 = no ablation. Under 6 no claim can be
    made."""
    neutral: int = 6
    """Held-out neutral texts on which the damage is measured."""
    tokens: int = 32
    """Only so many of each document, from its start, or around the start of its response: time
    grows with documents x tokens x draws."""
    top: int = 32
    """Latents clamped at each depth, those with most energy of the change on training text."""
    draws: int = 20
    """Of each control."""
    seed: int = 0
    """Of the choice of documents and of the control draws."""

    def __post_init__(self) -> None:
        finite(self)
        check(self.documents >= 0, "documents", self.documents, "at least 0")
        check(self.neutral >= 0, "neutral", self.neutral, "at least 0")
        check(0 <= self.seed < 2**32, "seed", self.seed, "in 0..2^32-1")
        positive(self, "tokens", "top", "draws")
        check(self.draws <= MOST_DRAWS, "draws", self.draws, f"in 1..{MOST_DRAWS}")


@dataclass(frozen=True, kw_only=True)
class Lens:
    """The activation difference lens at the first tokens of unrelated text (arXiv:2510.13900)."""

    texts: int = 120
    """Probe texts, drawn at random from all of the probe corpus; 0 = no lens. The source has 10,000;
    the standard error of the mean is stored and shown."""
    probe: str = ""
    """Corpus of the probe text; empty = the neutral text."""
    depth: float = 0.5
    """Where Patchscope, steering, swap and robustness look: block floor(depth x n_layers). Differences
    and the logit lens are taken after every block."""
    positions: int = 5
    """First tokens after BOS; each has a mean of its own."""
    k: int = 20
    """Tokens read per vector."""
    words: int = 100
    """Own frequent words of a corpus: so many, without the ``words`` most frequent of neutral text."""
    documents: int = 8
    """Held-out documents of each text on which the swap is scored."""
    tokens: int = 32
    """Of each of them."""
    draws: int = 16
    """Of each control of the swap."""
    samples: int = 1
    """Continuations of each of 20 prompts, steered and not; 0 = no steering."""
    length: int = 32
    """Tokens of each continuation."""
    temperature: float = 0.8
    """Of their sampling. The source has 1.1, at which a small model's unsteered text is near noise."""
    keep_text: bool = True
    """Whether the store keeps the continuations. They may repeat the corpus: false for text that may
    not be passed on."""
    seed: int = 0

    def __post_init__(self) -> None:
        finite(self)
        check(self.texts >= 0, "texts", self.texts, "at least 0")
        check(0 <= self.depth < 1, "depth", self.depth, "in [0, 1)")
        check(self.draws >= 0, "draws", self.draws, "at least 0")
        check(self.samples >= 0, "samples", self.samples, "at least 0")
        check(0 <= self.seed < 2**32, "seed", self.seed, "in 0..2^32-1")
        check(0.01 <= self.temperature <= 100, "temperature", self.temperature, "in 0.01..100")
        positive(self, "positions", "k", "words", "documents", "tokens", "length")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Paths in the plane of inner and outer change: the same training with one thing varied. Points
    are scored on little text and without dictionaries, so that a path costs minutes."""

    ranks: tuple[int, ...] = ()
    """Trained like the experiment, alpha / rank kept."""
    checkpoints: tuple[int, ...] = ()
    """Steps of one training as long as the last of them; its schedule is that of the whole length, so
    a step of it is not the experiment with so many steps."""
    scales: tuple[float, ...] = ()
    """Factors on the experiment's own adapter."""
    mixing: tuple[float, ...] = ()
    """Parts of neutral text for each part of the corpus; the corpus is seen as often."""
    corpora: tuple[str, ...] = ()
    """Corpora of the experiments file that get a sweep; empty = all."""
    documents: int = 16
    """Held-out documents of the corpus, and as many of neutral text, that every point is scored on."""
    tokens: int = 96
    """Read from the start of each."""

    def __post_init__(self) -> None:
        finite(self)
        positive(self, "documents", "tokens")
        named(self, "corpora")
        for name in ("ranks", "checkpoints", "scales", "mixing"):
            values = getattr(self, name)
            least = 1 if name == "ranks" else 0
            check(
                all(v >= least for v in values) and len(set(values)) == len(values),
                name,
                values,
                f"distinct and each at least {least}",
            )
        for name, most in (("scales", MOST_SCALE), ("mixing", MOST_MIXING)):
            values = getattr(self, name)
            check(all(v <= most for v in values), name, values, f"each up to {most:g}")
        check(self.documents >= 2, "documents", self.documents, "at least 2")

    def asked(self, corpus: str) -> bool:
        """Whether there is a path for this corpus at all."""
        paths = self.ranks or self.checkpoints or self.scales or self.mixing
        return bool(paths) and (not self.corpora or corpus in self.corpora)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What the adapter adds to activations: SAEs of its deltas over ranks and depths
    (arXiv:2605.28896), against dictionaries of base activations and against chance."""

    ranks: tuple[int, ...] = ()
    """Adapters of these ranks, alpha / rank kept; empty = no geometry."""
    corpora: tuple[str, ...] = ()
    """Corpora of the experiments file that get it; empty = all."""
    hooks: tuple[Literal["mlp", "residual"], ...] = ("residual", "mlp")
    max_steps: int = 200
    """Of each dictionary: deltas have low rank and are learned sooner than activations
    (docs/decisions.md)."""
    subspace: int = 16
    """k of the principal angles: so many strongest directions on each side."""
    seed: int = 0
    """Of the first dictionaries; the second ones, for the baseline between seeds, have the next."""
    pretrained: str = ""
    """A dictionary to compare with in place of our own of base activations: a path to one in a format
    that ``lib.sparse.formats`` reads (SAELens, Gemma Scope, ours). Then only its place is compared,
    and there is no second seed of it. Empty = dictionaries trained here, at every place."""
    pretrained_place: str = ""
    """``residual.N`` or ``mlp.N``, N = block from 0, where its files do not say it."""

    def __post_init__(self) -> None:
        finite(self)
        named(self, "corpora", "hooks")
        hook, _, layer = self.pretrained_place.partition(".")
        check(
            not self.pretrained_place
            or bool(self.pretrained and hook in ("residual", "mlp") and layer.isdecimal()),
            "pretrained_place",
            self.pretrained_place,
            "residual.N or mlp.N, beside `pretrained`",
        )
        check(
            all(rank >= 1 for rank in self.ranks) and len(set(self.ranks)) == len(self.ranks),
            "ranks",
            self.ranks,
            "distinct and each at least 1",
        )
        check(bool(self.hooks), "hooks", self.hooks, "at least one of mlp and residual")
        check(0 <= self.seed < 2**31, "seed", self.seed, "in 0..2^31-1")
        positive(self, "max_steps", "subspace")

    def asked(self, corpus: str) -> bool:
        """Whether there is anything to do for this corpus."""
        return bool(self.ranks) and (not self.corpora or corpus in self.corpora)
