"""The lens on one prompt: at every token, what the fine-tune adds to the stream, and what it says.

What is asked and what comes back: plain data, JSON both ways, no torch. The difference is tuned - base
of the residual stream after one block, at the same token of the same prompt.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib.ablation.fields import check_fields, content_hash
from lib.ablation.limits import AblationError
from lib.ablation.outcome import NextToken

if TYPE_CHECKING:
    from lib.ablation.session import Session

AGAINST = ("base",)
TOP_LIMIT = 50
SCALE_LIMIT = 2.0
READINGS = ("difference", "negated", "base", "tuned")
"""Fields of ``TokenLens``: what each stream promotes, as if it left the last block."""


@dataclass(frozen=True, kw_only=True)
class LensRequest:
    """Look at every token of a prompt, or read one of them only."""

    experiment_id: str
    prompt: str
    """At most ``limits.PROMPT_LIMIT`` tokens, those of a chat template included."""
    layer: int | None = None
    """Block whose output is read; None = the middle one, floor(n_layers / 2)."""
    against: str = "base"
    """What is taken from the tuned stream: base's at the same token."""
    position: int | None = None
    """The only token that is read, 0 = first after BOS; None = every token. Norms and cosines are
    given for all of them either way."""
    k: int = 10
    """Tokens of each reading."""
    patchscope: bool = False
    """Also let the tuned model say what the difference at ``position`` stands for."""
    scale_lora: float = 1.0
    """Factor on the adapter, 0..2: 0 = base, 1 = tuned."""
    chat: bool = False
    """The prompt as a user's turn in the tokenizer's chat template."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.prompt.strip():
            raise AblationError("the prompt is empty: write a word or a sentence")
        if self.layer is not None and self.layer < 0:
            raise AblationError(f"no layer {self.layer}: layers count from 0")
        if self.against not in AGAINST:
            raise AblationError(f"no against {self.against!r}; there is {', '.join(AGAINST)}")
        if self.position is not None and self.position < 0:
            raise AblationError(f"no token {self.position}: 0 is the first after the start token")
        if self.patchscope and self.position is None:
            raise AblationError("Patchscope reads one token: give its position")
        if not 1 <= self.k <= TOP_LIMIT:
            raise AblationError(f"k={self.k}: give 1 to {TOP_LIMIT} tokens")
        if not (math.isfinite(self.scale_lora) and 0 <= self.scale_lora <= SCALE_LIMIT):
            raise AblationError(f"scale_lora={self.scale_lora}: give 0 to {SCALE_LIMIT:g}")

    @property
    def id(self) -> str:
        """Content hash: equal requests have equal results."""
        return content_hash(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "LensRequest":
        return cls(**data)


@dataclass(frozen=True)
class TokenLens:
    """One token of the prompt. Norms are in units of the stream."""

    token: str
    """Its text; empty where another token of the same character carries it."""
    norm: float
    """|tuned - base|"""
    base_norm: float
    tuned_norm: float
    massive: bool
    """Its stream is at least five times as long as is usual in this prompt (``metrics.massive``), in
    base or tuned; such tokens are left out of the prompt's means."""
    cosine: float | None
    """Of its difference with the mean difference of the prompt's other ordinary tokens, -1..1; None
    where either is 0 or there is no other."""
    difference: tuple[NextToken, ...] = ()
    """Tokens, most probable first. Empty where it was not asked for, or the difference is 0."""
    negated: tuple[NextToken, ...] = ()
    base: tuple[NextToken, ...] = ()
    tuned: tuple[NextToken, ...] = ()

    @property
    def relative(self) -> float | None:
        """|tuned - base| over |base|; None where the base stream is 0."""
        return self.norm / self.base_norm if self.base_norm else None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TokenLens":
        return cls(**{**data, **{name: _tokens(data[name]) for name in READINGS}})


@dataclass(frozen=True)
class Scope:
    """What the tuned model says the difference at the picked token stands for."""

    tokens: tuple[NextToken, ...]
    """Probabilities are means over the identity prompts."""
    scale: float
    """Length of the vector that was read, over the usual length of the tuned stream; as
    ``lens.patchscope`` chooses it."""
    score: float
    """Of that choice, at most 1; 0 = no scale gives words."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Scope":
        return cls(**{**data, "tokens": _tokens(data["tokens"])})


@dataclass(frozen=True)
class LensResult:
    request: LensRequest
    base_model: str
    layer: int
    tokens: tuple[TokenLens, ...]
    """Of the prompt, without the start token, whose stream no text can change."""
    mean_norm: float
    """Length of the mean difference over the ordinary tokens."""
    offset_share: float | None
    """n |mean|^2 / sum |difference|^2 over them, 1/n..1: 1 = one vector at every token. None where
    nothing differs."""
    eta: float
    """Mean length of the tuned stream at ordinary tokens, past the first where there are more."""
    scope: Scope | None
    """None without ``patchscope``, or where the difference is 0."""
    seconds: float
    device: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "LensResult":
        return cls(
            **{
                **data,
                "request": LensRequest.from_json(data["request"]),
                "tokens": tuple(TokenLens.from_json(token) for token in data["tokens"]),
                "scope": data["scope"] and Scope.from_json(data["scope"]),
            }
        )


def look(
    request: LensRequest,
    session: "Session",
    *,
    progress: Callable[..., None] | None = None,
    tell: Callable[..., None] | None = None,
) -> LensResult:
    """Run the prompt through both models and read the streams after one block.

    ``progress(stage, ...)`` is called before each pass, each part of the readings, and Patchscope;
    raising in it cancels. ``tell`` is not used: the answer comes whole.

    Raises:
        AblationError: a layer, a token or a chat template that is not there, or too long a prompt.
    """
    from lib.ablation.token_lens import measure

    silent: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    return measure(request, session, progress or silent)


def _tokens(data: list[dict[str, Any]]) -> tuple[NextToken, ...]:
    return tuple(NextToken(**token) for token in data)
