"""Plain data of what a live ablation found: conditions, draws and dose points. No torch."""

import dataclasses
from dataclasses import dataclass
from typing import Any


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
class DocumentScore:
    """One text under one condition."""

    kl_sum: float
    """Sum of KL(condition || base) over the scored tokens, nats."""
    tokens: int
    """Scored tokens: all but the first ``skip_first`` positions."""
    agree: int
    """Scored tokens whose most probable next token is the base's."""


@dataclass(frozen=True)
class Condition:
    """One run of the model and how far its predictions are from the base model's."""

    name: str
    """base | tuned | treated | ceiling | dose | one of ``limits.CONTROLS``"""
    kl: float
    """Mean KL(condition || base) over the scored tokens of all texts, nats."""
    kl_per_token: tuple[float | None, ...]
    """Prompt mode: of the prediction made after each token, None where not scored; else empty."""
    documents: tuple[DocumentScore, ...]
    """One for each document; a single one in prompt mode."""
    share_reversed: float | None
    """1 - sum KL(condition || base) / sum KL(tuned || base); None when tuned equals base."""
    agreement: float
    """Share of the scored tokens whose most probable next token is the base's."""
    neutral_nll: float | None = None
    """Mean negative log likelihood of the neutral texts' scored tokens, nats; None without them,
    and for all but the first draws of a control (``controls.HARM_DRAWS``)."""
    next_tokens: tuple[NextToken, ...] = ()
    """Prompt mode: ten most probable tokens after the prompt, of all but the control draws."""
    edits: tuple[Edit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Condition":
        parts = {"next_tokens": NextToken, "edits": Edit, "documents": DocumentScore}
        made = {name: tuple(part(**v) for v in data[name]) for name, part in parts.items()}
        return cls(**{**data, **made, "kl_per_token": tuple(data["kl_per_token"])})


@dataclass(frozen=True)
class Draw:
    """One draw of one control."""

    control: str
    draw: int
    """0, 1, ...; with the request's seed it names the random numbers."""
    latents: tuple[LayerSet, ...]
    """The drawn latents; empty but for random_latents."""
    condition: Condition

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Draw":
        condition = Condition.from_json(data["condition"])
        return cls(**{**data, "latents": sets(data["latents"]), "condition": condition})


@dataclass(frozen=True)
class DosePoint:
    """The treatment once more, at another strength or with another number of latents."""

    strength: float
    top: int
    condition: Condition

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "DosePoint":
        return cls(**{**data, "condition": Condition.from_json(data["condition"])})


def sets(data: list[dict[str, Any]]) -> tuple[LayerSet, ...]:
    """From JSON."""
    return tuple(LayerSet(s["layer"], tuple(s["latents"])) for s in data)
