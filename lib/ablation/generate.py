"""Side-by-side generation: what base, tuned, clamped and control each write after one prompt.

What is asked and what comes back: plain data, JSON both ways, no torch. Every lane writes its own
continuation; a base run on that same continuation supplies x_base and the divergence at each step.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib.ablation import limits
from lib.ablation.fields import check_fields, content_hash
from lib.ablation.limits import AblationError
from lib.ablation.outcome import Edit, LayerSet, NextToken, sets
from lib.ablation.request import AblationRequest

if TYPE_CHECKING:
    from lib.ablation.session import Session

NEW_TOKENS_LIMIT = 256
LANES = ("base", "tuned", "clamped", "control")
CONTROLS = (limits.RANDOM_LATENTS, "gaussian", "sign_flipped")
"""Those whose edit at a token depends on nothing that comes later: the others cannot be streamed."""


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """Continue one prompt in up to four ways at once."""

    ablation: AblationRequest
    """The prompt and the intervention; its seed also names the control. Not its documents, neutral
    texts, draws or dose points: those are scored, not continued."""
    control: str = ""
    """One of ``CONTROLS``; empty = random latents where there are latents, else Gaussian noise."""
    max_new_tokens: int = 40
    temperature: float = 0.0
    """0 = always the most probable token, 1 = as the model has it; at most 2."""
    seed: int = 0
    """Of the sampling. All lanes use the same random number at a step, so equal predictions give
    equal tokens."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.ablation.documents:
            raise AblationError("documents are scored, not continued: give a prompt")
        if not 1 <= self.max_new_tokens <= NEW_TOKENS_LIMIT:
            raise AblationError(
                f"max_new_tokens={self.max_new_tokens}: give 1 to {NEW_TOKENS_LIMIT}"
            )
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 2):
            raise AblationError(f"temperature={self.temperature}: give 0 to 2")
        if self.seed < 0:
            raise AblationError(f"seed={self.seed}: give 0 or more")
        if self.control not in ("", *CONTROLS):
            raise AblationError(
                f"control {self.control!r} cannot be generated; there are {', '.join(CONTROLS)}"
            )
        if self.control == limits.RANDOM_LATENTS and not self.ablation.has_latents:
            raise AblationError(f"{self.ablation.intervention} has no latents to draw at random")

    @property
    def experiment_id(self) -> str:
        return self.ablation.experiment_id

    @property
    def prompt(self) -> str:
        return self.ablation.prompt

    @property
    def matched_control(self) -> str:
        """What the control lane adds; empty for scale_lora, which adds nothing at one place."""
        if self.ablation.intervention == limits.SCALE_LORA:
            return ""
        return self.control or (limits.RANDOM_LATENTS if self.ablation.has_latents else "gaussian")

    @property
    def lanes(self) -> tuple[str, ...]:
        return LANES if self.matched_control else LANES[:3]

    @property
    def id(self) -> str:
        """Content hash: equal requests have equal results."""
        return content_hash(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "ablation": self.ablation.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "GenerateRequest":
        asked = data["ablation"]
        known = AblationRequest.from_json(asked) if isinstance(asked, dict) else asked
        return cls(**{**data, "ablation": known})


@dataclass(frozen=True)
class Step:
    """One written token and the prediction that it was taken from."""

    id: int
    token: str
    """What it adds to the text; empty inside a character of several tokens."""
    probability: float
    """Of this token in the lane's own prediction, before the temperature."""
    base_probability: float
    """Of this token in the base's prediction after the same text."""
    kl: float
    """KL(lane || base) of the prediction after the same text, nats; 0 in the base lane."""
    next_tokens: tuple[NextToken, ...]
    """Ten most probable tokens of the lane's prediction."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Step":
        found = tuple(NextToken(**token) for token in data["next_tokens"])
        return cls(**{**data, "next_tokens": found})


@dataclass(frozen=True)
class Lane:
    name: str
    """One of ``LANES``"""
    text: str
    """All it wrote, without the prompt and without the end token."""
    steps: tuple[Step, ...]
    """With the end token, where it wrote one."""
    stopped: str
    """end (the model's end token) | limit (max_new_tokens)"""
    edits: tuple[Edit, ...] = ()
    """Of the clamped and the control lane, at each depth, over the edited tokens of the prompt and of
    what it wrote; empty where the adapter itself is scaled."""

    @property
    def kl(self) -> float:
        """Mean KL(lane || base) over its steps, nats."""
        return sum(step.kl for step in self.steps) / len(self.steps)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Lane":
        steps = tuple(Step.from_json(step) for step in data["steps"])
        edits = tuple(Edit(**edit) for edit in data.get("edits", ()))
        return cls(**{**data, "steps": steps, "edits": edits})


@dataclass(frozen=True)
class GenerateResult:
    request: GenerateRequest
    base_model: str
    hook: str
    """mlp | residual"""
    selected: tuple[LayerSet, ...]
    drawn: tuple[LayerSet, ...]
    """The control lane's latents; empty for other controls."""
    lanes: tuple[Lane, ...]
    seconds: tuple[tuple[str, float], ...]
    """Wall time: until the first token of every lane, and all that follow."""
    device: str

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "request": self.request.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "GenerateResult":
        return cls(
            **{
                **data,
                "request": GenerateRequest.from_json(data["request"]),
                "selected": sets(data["selected"]),
                "drawn": sets(data["drawn"]),
                "lanes": tuple(Lane.from_json(lane) for lane in data["lanes"]),
                "seconds": tuple((stage, value) for stage, value in data["seconds"]),
            }
        )


def generate(
    request: GenerateRequest,
    session: "Session",
    *,
    progress: Callable[..., None] | None = None,
    tell: Callable[..., None] | None = None,
) -> GenerateResult:
    """Write all lanes in step, token by token.

    ``progress(stage, done, total)`` is called before each step and ``tell(event="token", lane=...,
    step=..., ...)`` with the fields of ``Step`` after each token; raising in either cancels.

    Raises:
        AblationError: the request asks for something that is not there, or is too long.
    """
    from lib.ablation.decode import write_lanes

    silent: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    return write_lanes(request, session, progress or silent, tell or silent)
