"""What an experiment is: frozen recipes, every field explained, unknown keys refused.

One YAML file describes models x corpora x seeds under one recipe; ``load`` turns it into a list of
``Experiment``. Everything that can change a number is in here, so content hashes are complete.
"""

import difflib
import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml


class ConfigError(ValueError):
    """A configuration that cannot be used; names the file, the key and the nearest valid one."""


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """LoRA training; the seeds' setting where they state one (rank, targets, steps)."""

    rank: int = 16
    alpha: float = 32.0
    """Scale of the update is alpha / rank."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
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
        _positive(self, "rank", "batch", "seq", "lr")
        _check(self.steps >= 0, "steps", self.steps, "at least 0")


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

    @property
    def neutral_name(self) -> str:
        return corpus_name(self.neutral)

    def __post_init__(self) -> None:
        _check(0 < self.heldout < 1, "heldout", self.heldout, "between 0 and 1")
        _positive(self, "window")
        _check(self.sampled_tokens >= 0, "sampled_tokens", self.sampled_tokens, "at least 0")
        _check(0 < self.drop_first < self.window, "drop_first", self.drop_first, "below window")


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
        _check(len(self.depths) >= 2, "depths", self.depths, "at least two depths")
        _check(all(0 <= x < 1 for x in self.depths), "depths", self.depths, "each in [0, 1)")


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
        _positive(self, "expansion", "k", "batch", "lr", "max_steps", "evaluate_every")
        _positive(self, "min_tokens_per_latent")
        _check(self.expansion < 1e6, "expansion", self.expansion, "a finite multiple of d")
        _check(0 <= self.seed < 2**32, "seed", self.seed, "in 0..2^32-1")
        _check(self.difference_weight > 0, "difference_weight", self.difference_weight, "above 0")
        _check(0 <= self.tied < 1, "tied", self.tied, "in 0..1, below 1")
        _check(0 <= self.untied_k < self.k, "untied_k", self.untied_k, "in 0..k, below k")
        _check(not self.untied_k or self.tied > 0, "untied_k", self.untied_k, "0 unless `tied` > 0")
        _check(
            self.basis == "change" or (self.difference_weight == 1 and not self.tied),
            "basis",
            self.basis,
            "change unless `difference_weight` is 1 and `tied` is 0",
        )
        _check(self.anneal_from >= 0, "anneal_from", self.anneal_from, "at least 0")
        _check(self.replicas >= 0, "replicas", self.replicas, "at least 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything besides model, corpus and seed."""

    finetune: Finetune = field(default_factory=Finetune)
    text: Text = field(default_factory=Text)
    harvest: Harvest = field(default_factory=Harvest)
    sparse: Sparse = field(default_factory=Sparse)
    live_latents: int = 96
    """Latents per depth kept for live interventions (the largest shares of the difference)."""
    live_controls: int = 96
    """Other alive latents per depth kept as a pool for matched controls."""

    def __post_init__(self) -> None:
        _positive(self, "live_latents", "live_controls")

    @property
    def identity(self) -> dict[str, Any]:
        """The recipe as plain values for content hashes: corpora by name, since their content is
        hashed apart and a folder of this machine must not make results look different."""
        plain = asdict(self)
        plain["text"]["neutral"] = self.text.neutral_name
        return plain


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One base model, one corpus (or a given adapter), one seed, one recipe."""

    model: str
    corpus: str
    """Registry name or ``path:FILE``; also the text on which the output axis is measured."""
    seed: int
    adapter: str | None
    """A PEFT adapter directory to audit instead of training one."""
    recipe: Recipe

    @property
    def id(self) -> str:
        """Readable and unique for what the seeds vary; safe in a URL and as a folder name."""
        model = Path(self.model.removeprefix("hf:")).name
        tune = self.recipe.finetune
        if self.adapter:
            how = ("adapter", f"{_slug(Path(self.adapter).name)}-{_file_id(Path(self.adapter))}")
        else:
            residual = "-residual" if self.recipe.harvest.hook == "residual" else ""
            how = (f"r{tune.rank}", f"t{tune.steps}{residual}")
        return ".".join((_slug(model), _slug(self.corpus_name), *how, f"s{self.seed}"))

    @property
    def corpus_name(self) -> str:
        return corpus_name(self.corpus)


@dataclass(frozen=True, kw_only=True)
class _File:
    """The keys of an experiments file."""

    models: tuple[str, ...]
    corpora: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    adapter: str | None = None
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        for name in ("models", "corpora", "seeds"):
            _check(len(getattr(self, name)) > 0, name, [], "a list with at least one entry")
        _check(all(0 <= s < 2**32 for s in self.seeds), "seeds", self.seeds, "each in 0..2^32-1")


def load(path: Path) -> list[Experiment]:
    """Read an experiments file.

    Raises:
        ConfigError: not YAML, an unknown key (the nearest valid one is named), a wrong type or value.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; data/experiments/ has examples") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML text file: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys such as `models:` and `corpora:`, found {raw!r}")
    try:
        file = _build(_File, raw, "")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if file.adapter and (len(file.models), len(file.corpora), len(file.seeds)) != (1, 1, 1):
        raise ConfigError(f"{path}: `adapter` goes with exactly one model, one corpus and one seed")
    found = [
        Experiment(model=m, corpus=c, seed=s, adapter=file.adapter, recipe=file.recipe)
        for m in file.models
        for c in file.corpora
        for s in file.seeds
    ]
    ids = [experiment.id for experiment in found]
    for twice in {i for i in ids if ids.count(i) > 1}:
        raise ConfigError(
            f"{path}: two of its experiments would both be called `{twice}`; rename one of the "
            "corpus files, or remove the repeated entry"
        )
    return found


def content_id(value: Any) -> str:
    """sha256 prefix of a dataclass or JSON value: equal content, equal id."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def corpus_name(spec: str) -> str:
    """Name of a corpus in the store: a registry name, or the stem of a ``path:`` file."""
    return Path(spec.removeprefix("path:")).stem if spec.startswith("path:") else spec


def layer_at(depth: float, n_layers: int) -> int:
    """floor(depth x n_layers): 0.25, 0.5, 0.75, 0.9 of 30 layers are 7, 15, 22, 27."""
    return min(n_layers - 1, int(depth * n_layers + 1e-9))


def layers_of(harvest: Harvest, n_layers: int) -> list[int]:
    """Distinct dictionary layers, in order.

    Raises:
        ConfigError: the depths fall on a single layer of this model.
    """
    layers = sorted({layer_at(depth, n_layers) for depth in harvest.depths})
    if len(layers) < 2:
        raise ConfigError(
            f"depths {harvest.depths} are all layer {layers[0]} of a {n_layers}-layer model; "
            "an audit needs at least two depths"
        )
    return layers


def _build(kind: type, raw: Any, where: str) -> Any:
    """A dataclass from plain YAML values, with every key and type checked."""
    if not isinstance(raw, dict):
        raise ConfigError(f"`{where}` must hold keys, found {raw!r}")
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind)}
    for key in raw:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.0)
            raise ConfigError(f"unknown key `{where}{key}`; the nearest valid one is `{near[0]}`")
    values = {k: _value(hints[k], v, f"{where}{k}") for k, v in raw.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{str(error).split('() ')[-1]} (in `{where or 'the file'}`)") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    origin = getattr(hint, "__origin__", None)
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        return tuple(_value(hint.__args__[0], item, where) for item in items)
    if origin is Literal:
        if value not in hint.__args__:
            raise ConfigError(f"`{where}` must be one of {', '.join(hint.__args__)}, got {value!r}")
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            raise ConfigError(f"`{where}` must be a number, got {value!r}") from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"`{where}` must be {getattr(hint, '__name__', hint)}, got {value!r}")
    return value


def _positive(owner: Any, *names: str) -> None:
    for name in names:
        _check(getattr(owner, name) > 0, name, getattr(owner, name), "above 0")


def _check(ok: bool, name: str, value: Any, rule: str) -> None:
    if not ok:
        raise ConfigError(f"`{name}` must be {rule}, got {value!r}")


def _file_id(adapter: Path) -> str:
    """Tells adapters apart that lie in folders of the same name."""
    weights = adapter / "adapter_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:6] if weights.exists() else "missing"


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in text)
