"""What is asked of a live ablation and what comes back: plain data, JSON both ways, no torch."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from lib.ablation import limits
from lib.ablation.fields import check_fields, content_hash
from lib.ablation.limits import PROMPT_LIMIT, AblationError
from lib.ablation.outcome import (
    Condition,
    DocumentScore,
    DosePoint,
    Draw,
    Edit,
    LayerSet,
    NextToken,
    sets,
)

__all__ = [
    "PROMPT_LIMIT",
    "AblationError",
    "AblationRequest",
    "AblationResult",
    "Condition",
    "DocumentScore",
    "DosePoint",
    "Draw",
    "Edit",
    "LayerSet",
    "NextToken",
]


@dataclass(frozen=True, kw_only=True)
class AblationRequest:
    """Change the tuned model's activations while it reads, and see how far it goes back to base."""

    experiment_id: str
    prompt: str = ""
    """Prompt mode: one text, with the divergence of every token."""
    documents: tuple[str, ...] = ()
    """Document mode: held-out texts, each read up to ``prompt_limit`` tokens, scored one by one."""
    neutral: tuple[str, ...] = ()
    """Texts for the damage measure, read up to ``prompt_limit`` tokens."""
    intervention: str = limits.PAIR_CLAMP
    """One of ``limits.INTERVENTIONS``; I1..I5 in order, then steer and scale_lora."""
    hook: str = ""
    """mlp | residual; empty = the bundle's. Another one only where no dictionary is needed."""
    layers: tuple[int, ...] = ()
    """Depths edited together; empty = those of the bundle, for scale_lora every depth."""
    order: str = "energy"
    """How latents are ranked for the top set: energy | nu | class:NAME."""
    top: int = 32
    """At each depth, this many latents of that ranking."""
    picked: tuple[tuple[int, int], ...] = ()
    """More latents, as (layer, latent): by hand or from a saved list."""
    strength: float = 1.0
    """0 = no edit, 1 = the whole edit. steer: the activation that each latent is given on top.
    scale_lora: the factor on the adapter, 0..2, of which 1 = the tuned model as it is."""
    controls: tuple[str, ...] = limits.CONTROLS
    draws: int = 20
    """Of each control."""
    dose_strengths: tuple[float, ...] = ()
    """Treated once more at each of these strengths."""
    dose_tops: tuple[int, ...] = ()
    """Treated once more with each of these values of ``top``."""
    seed: int = 0
    """Of the control draws."""
    skip_first: int = 4
    """First positions (BOS = 0) left alone and not scored: the dictionaries never saw them."""
    prompt_limit: int = PROMPT_LIMIT
    """Longest prompt accepted, in tokens."""
    adapter_repo: str = ""
    """Public hub name of the adapter; for the remote place only."""
    consent: str = ""
    """``remote.consent_id`` of the text agreed to; for the remote place only."""

    def __post_init__(self) -> None:
        check_fields(self)
        limits.check(self)

    @property
    def id(self) -> str:
        """Content hash: equal requests have equal results."""
        return content_hash(self.to_json())

    @property
    def has_latents(self) -> bool:
        return self.intervention in limits.WITH_LATENTS

    @property
    def applicable_controls(self) -> tuple[str, ...]:
        """The asked controls that this intervention can have.

        Scaling the adapter adds nothing at one place that could be drawn anew, so it has none; a
        full patch has no latents to draw at random.
        """
        if self.intervention == limits.SCALE_LORA:
            return ()
        left_out = () if self.has_latents else (limits.RANDOM_LATENTS,)
        return tuple(name for name in self.controls if name not in left_out)

    def to_json(self) -> dict[str, Any]:
        """Without what only a remote run needs where it is empty: other runs keep their ids."""
        made = dataclasses.asdict(self)
        return {k: v for k, v in made.items() if v or k not in ("adapter_repo", "consent")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "AblationRequest":
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        if "picked" in lists:
            pairs = (tuple(p) if isinstance(p, list) else p for p in lists["picked"])
            lists["picked"] = tuple(pairs)
        return cls(**{**data, **lists})


@dataclass(frozen=True)
class AblationResult:
    """Every condition of one request, on the same texts."""

    request: AblationRequest
    base_model: str
    hook: str
    """mlp | residual"""
    tokens: tuple[str, ...]
    """Prompt mode: BOS and the prompt; else empty."""
    selected: tuple[LayerSet, ...]
    base: Condition
    tuned: Condition
    treated: Condition
    ceiling: Condition
    """Base activations patched in at the same places: what a perfect dictionary could reverse."""
    controls: tuple[Draw, ...]
    dose: tuple[DosePoint, ...]
    seconds: tuple[tuple[str, float], ...]
    """Wall time of each stage."""
    device: str

    @property
    def over_ceiling(self) -> float | None:
        """Share reversed by the treatment over the ceiling's; None when the ceiling is under 1 %."""
        ceiling, share = self.ceiling.share_reversed, self.treated.share_reversed
        return share / ceiling if share is not None and ceiling and ceiling >= 0.01 else None

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "request": self.request.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "AblationResult":
        names = ("base", "tuned", "treated", "ceiling")
        return cls(
            **{
                **data,
                **{name: Condition.from_json(data[name]) for name in names},
                "request": AblationRequest.from_json(data["request"]),
                "tokens": tuple(data["tokens"]),
                "selected": sets(data["selected"]),
                "controls": tuple(Draw.from_json(d) for d in data["controls"]),
                "dose": tuple(DosePoint.from_json(d) for d in data["dose"]),
                "seconds": tuple((stage, value) for stage, value in data["seconds"]),
            }
        )
