"""What shapes a number: frozen recipes, every field explained; complete, so hashes are too."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lib.config.studies import Causal, Geometry, Lens, Sweep
from lib.config.values import check, corpus_name, finite, named, positive


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """LoRA training; the seeds' setting where they state one (rank, targets, steps)."""

    rank: int = 16
    alpha: float = 32.0
    """Scale of the update is alpha / rank."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Modules that are adapted, by the end of their name; the model must have every one."""
    steps: int = 50
    batch: int = 8
    """Sequences per step."""
    seq: int = 128
    """Tokens per sequence."""
    lr: float = 2e-4
    warmup: int = 5
    """Steps of linear warm-up; then linear decay to a tenth."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Autocast type of the matrix products while training; weights stay float32."""

    def __post_init__(self) -> None:
        finite(self)
        positive(self, "rank", "alpha", "batch", "seq", "lr")
        check(self.steps >= 0, "steps", self.steps, "at least 0")
        check(self.warmup >= 0, "warmup", self.warmup, "at least 0")
        check(len(self.targets) > 0, "targets", [], "at least one name of a module")
        named(self, "targets")


@dataclass(frozen=True, kw_only=True)
class Text:
    """Which text the activations come from."""

    heldout: float = 0.25
    """Share of documents kept from training and used for every reported number; dictionary training
    also watches it to know when to stop."""
    neutral: str = "neutral"
    """Corpus of unrelated text, common to all experiments."""
    sampled_tokens: int = 56_000
    """Tokens sampled from the base model itself, so that dictionaries have enough text."""
    window: int = 256
    """Longest context, in tokens with BOS; longer documents are cut into consecutive windows."""
    drop_first: int = 4
    """Positions at the start of each window (BOS = 0) left out: massive activations live there."""
    minimum_words: int = 2_000
    """A smaller corpus is refused."""
    most_words: int = 0
    """Larger corpora give only so many words, in whole documents drawn at random (the same ones for
    every seed), so that corpora of very different sizes are compared on equal text; 0 = all."""

    @property
    def neutral_name(self) -> str:
        return corpus_name(self.neutral)

    def __post_init__(self) -> None:
        finite(self)
        check(0 < self.heldout < 1, "heldout", self.heldout, "between 0 and 1")
        positive(self, "window")
        check(
            not self.most_words or self.most_words >= self.minimum_words,
            "most_words",
            self.most_words,
            f"0 (no limit) or at least `minimum_words` ({self.minimum_words})",
        )
        check(self.sampled_tokens >= 0, "sampled_tokens", self.sampled_tokens, "at least 0")
        check(0 < self.drop_first < self.window, "drop_first", self.drop_first, "below window")


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """Where activations are read."""

    hook: Literal["mlp", "residual"] = "mlp"
    """mlp = what the MLP adds to the residual stream; residual = the block's output."""
    depths: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    """Relative depths of the dictionaries; layer = floor(depth x n_layers). Never fewer than two."""
    train_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Forward passes over dictionary-training text. Held-out text always runs in float32."""

    def __post_init__(self) -> None:
        finite(self)
        check(len(self.depths) >= 2, "depths", self.depths, "at least two depths")
        check(all(0 <= x < 1 for x in self.depths), "depths", self.depths, "each in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """Dictionary training: BatchTopK with AuxK (Minder et al. 2025, arXiv:2504.02922)."""

    expansion: float = 8.0
    """Latents asked for, as a multiple of d; fewer when there is too little text."""
    k: int = 32
    """Mean number of active latents per token."""
    min_tokens_per_latent: int = 50
    batch: int = 2048
    """Tokens per step."""
    lr: float = 4e-3
    max_steps: int = 1000
    evaluate_every: int = 100
    flat_gain: float = 0.01
    """Training stops when held-out FVE gains less than this over two evaluations."""
    aux_weight: float = 1 / 32
    dead_after: float = 0.1
    """A latent is dead when it has not fired for this share of the planned training tokens."""
    basis: Literal["change", "sides"] = "change"
    """Crosscoder only: train on (sum, difference)/sqrt2 of the sides, or on the sides themselves.
    The loss is the same at weight 1; Adam, which scales every coordinate apart, is not."""
    difference_weight: float = 4.0
    """Crosscoder only: weight of (tuned - base)/sqrt2 against (tuned + base)/sqrt2 in the loss.
    1 is the plain loss; above 1 the dictionary sees more of the change (docs/decisions.md)."""
    ranking: Literal["norms", "loss"] = "norms"
    """Crosscoder only: latents compete by activation times the sum of the sides' decoder norms, or
    times the decoder norm in the weighted loss, where a change counts as much as it is weighted."""
    unit_decoder: bool = False
    """Keep decoder rows at norm 1 in training space, the codes taking over the scale: the same
    function, another path of the optimiser."""
    tied: float = 0.0
    """Crosscoder only: share of latents whose two decoders are kept equal (designated shared)."""
    untied_k: int = 0
    """Of the k, how many the untied latents win among themselves; 0 = all latents compete."""
    anneal_from: int = 64
    """k at the first step, falling linearly to ``k`` over a tenth of the steps; up to k = none."""
    replicas: int = 2
    """Further crosscoders per depth, with other seeds: which latents are found again?"""
    seed: int = 0

    def __post_init__(self) -> None:
        finite(self)
        positive(self, "expansion", "k", "batch", "lr", "max_steps", "evaluate_every")
        positive(self, "min_tokens_per_latent", "difference_weight")
        check(self.expansion < 1e6, "expansion", self.expansion, "a finite multiple of d")
        check(0 <= self.seed < 2**32, "seed", self.seed, "in 0..2^32-1")
        check(self.aux_weight >= 0, "aux_weight", self.aux_weight, "at least 0")
        check(0 < self.dead_after <= 1, "dead_after", self.dead_after, "above 0, up to 1")
        check(0 <= self.tied < 1, "tied", self.tied, "in 0..1, below 1")
        check(0 <= self.untied_k < self.k, "untied_k", self.untied_k, "in 0..k, below k")
        check(not self.untied_k or self.tied > 0, "untied_k", self.untied_k, "0 unless `tied` > 0")
        check(
            self.basis == "change" or (self.difference_weight == 1 and not self.tied),
            "basis",
            self.basis,
            "change unless `difference_weight` is 1 and `tied` is 0",
        )
        check(self.anneal_from >= 0, "anneal_from", self.anneal_from, "at least 0")
        check(self.replicas >= 0, "replicas", self.replicas, "at least 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything besides model, corpus and seed."""

    finetune: Finetune = field(default_factory=Finetune)
    text: Text = field(default_factory=Text)
    harvest: Harvest = field(default_factory=Harvest)
    sparse: Sparse = field(default_factory=Sparse)
    live_latents: int = 64
    """Latents per depth kept for live interventions (the largest shares of the difference)."""
    live_controls: int = 48
    """Other alive latents per depth kept as a pool for matched controls."""
    causal: Causal = field(default_factory=Causal)
    lens: Lens = field(default_factory=Lens)
    sweep: Sweep = field(default_factory=Sweep)
    geometry: Geometry = field(default_factory=Geometry)

    def __post_init__(self) -> None:
        finite(self)
        positive(self, "live_latents", "live_controls")

    @property
    def identity(self) -> dict[str, Any]:
        """The recipe as plain values for content hashes: corpora by name, since their content is
        hashed apart and a folder of this machine must not make results look different."""
        plain = asdict(self)
        plain["text"]["neutral"] = self.text.neutral_name
        if not self.text.most_words:  # newer than the first results, which it leaves as they are
            del plain["text"]["most_words"]
        for study in (
            "causal",
            "lens",
            "sweep",
            "geometry",
        ):  # shape nothing but their stages, which hash them
            del plain[study]
        return plain
