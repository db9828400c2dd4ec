"""What is asked of a live ablation and what comes back: plain data, JSON both ways, no torch."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

PROMPT_LIMIT = 256
"""Tokens; keeps a request on a CPU within seconds."""


class AblationError(ValueError):
    """A request that cannot be run; says what was found and what to do."""


@dataclass(frozen=True, kw_only=True)
class AblationRequest:
    """Clamp a set of latents towards base while the tuned model reads one prompt."""

    experiment_id: str
    prompt: str
    layers: tuple[int, ...] = ()
    """Depths clamped together; empty = every depth that the bundle offers."""
    top: int = 32
    """At each depth, this many latents with the largest share of the difference's energy."""
    picked: tuple[tuple[int, int], ...] = ()
    """More latents, as (layer, latent)."""
    strength: float = 1.0
    """0 = no edit, 1 = the full difference of the two decoders."""
    seed: int = 0
    """Of the control draw."""
    skip_first: int = 4
    """First positions (BOS = 0) left alone and not scored: the dictionaries never saw them."""
    prompt_limit: int = PROMPT_LIMIT
    """Longest prompt accepted, in tokens."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise AblationError(f"strength must lie in 0..1, got {self.strength}")
        if self.top < 0 or self.skip_first < 0:
            raise AblationError(f"top={self.top}, skip_first={self.skip_first}: give 0 or more")
        if not self.prompt.strip():
            raise AblationError("the prompt is empty: write a sentence or two in the corpus' style")

    @property
    def id(self) -> str:
        """Content hash: equal requests have equal results."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "AblationRequest":
        return cls(
            **{
                **data,
                "layers": tuple(data["layers"]),
                "picked": tuple((layer, latent) for layer, latent in data["picked"]),
            }
        )


@dataclass(frozen=True)
class LayerSet:
    """Latents chosen at one depth, as ids of the full dictionary."""

    layer: int
    latents: tuple[int, ...]


@dataclass(frozen=True)
class Edit:
    """What one condition did to the activations at one depth, over the scored tokens."""

    layer: int
    norm: float
    """Mean over tokens of |edit|, in units of the activation."""
    difference_norm: float
    """Mean over tokens of |x - x_base| just before the edit."""
    removed: float | None
    """1 - sum|x + edit - x_base|^2 / sum|x - x_base|^2; None when there is no difference."""
    fires: float | None = None
    """Share of the scored tokens on which at least one of the condition's latents fires."""

    @property
    def relative(self) -> float | None:
        """|edit| over |x - x_base|; None when there is no difference."""
        return self.norm / self.difference_norm if self.difference_norm else None


@dataclass(frozen=True)
class NextToken:
    token: str
    probability: float


@dataclass(frozen=True)
class Condition:
    """One run of the model and how far its predictions are from the base model's."""

    name: str
    """base | tuned | clamped | ceiling | control"""
    kl: float
    """Mean KL(condition || base) over the scored tokens, nats."""
    kl_per_token: tuple[float | None, ...]
    """Of the prediction made after each token; None where not scored."""
    share_reversed: float | None
    """1 - sum KL(condition || base) / sum KL(tuned || base); None when tuned equals base."""
    next_tokens: tuple[NextToken, ...]
    """Ten most probable tokens after the prompt."""
    edits: tuple[Edit, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Condition":
        return cls(
            **{
                **data,
                "kl_per_token": tuple(data["kl_per_token"]),
                "next_tokens": tuple(NextToken(**t) for t in data["next_tokens"]),
                "edits": tuple(Edit(**e) for e in data["edits"]),
            }
        )


@dataclass(frozen=True)
class AblationResult:
    """Every condition of one request, on the same prompt."""

    request: AblationRequest
    base_model: str
    hook: str
    """mlp | residual"""
    tokens: tuple[str, ...]
    """BOS and the prompt."""
    selected: tuple[LayerSet, ...]
    drawn: tuple[LayerSet, ...]
    """The control's latents."""
    base: Condition
    tuned: Condition
    clamped: Condition
    ceiling: Condition
    """Base activations patched in at the same places: what a perfect dictionary could reverse."""
    control: Condition
    seconds: tuple[tuple[str, float], ...]
    """Wall time of each stage."""
    device: str

    @property
    def over_ceiling(self) -> float | None:
        """Share reversed by the clamp over the ceiling's; None when the ceiling is under 1 %."""
        ceiling, share = self.ceiling.share_reversed, self.clamped.share_reversed
        return share / ceiling if share is not None and ceiling and ceiling >= 0.01 else None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "AblationResult":
        conditions = ("base", "tuned", "clamped", "ceiling", "control")
        sets = {
            key: tuple(LayerSet(s["layer"], tuple(s["latents"])) for s in data[key])
            for key in ("selected", "drawn")
        }
        return cls(
            **{
                **data,
                **sets,
                **{name: Condition.from_json(data[name]) for name in conditions},
                "request": AblationRequest.from_json(data["request"]),
                "tokens": tuple(data["tokens"]),
                "seconds": tuple((stage, value) for stage, value in data["seconds"]),
            }
        )
