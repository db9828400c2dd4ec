"""Do shared latents mean the same in base and in tuned? Each is ablated alone, in either model.

What is asked and what comes back: plain data, JSON both ways, no torch. A latent that both models
use alike moves their predictions by similar amounts when it is taken away; the correlation over
latents of these shifts says how far that holds.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib.ablation.fields import check_fields, content_hash
from lib.ablation.limits import PROMPT_LIMIT, TEXTS_LIMIT, TOTAL_LIMIT, AblationError

if TYPE_CHECKING:
    from lib.ablation.session import Session

LATENTS_LIMIT = 512
CODES = ("paired", "own")


@dataclass(frozen=True, kw_only=True)
class MeaningRequest:
    """Ablate latents of one depth one at a time, in base and in tuned."""

    experiment_id: str
    documents: tuple[str, ...]
    """Each read up to ``prompt_limit`` tokens."""
    layer: int
    latents: tuple[int, ...] = ()
    """Ids; empty = the ``count`` most frequent shared ones (of all classes, where the bundle does
    not know classes or carries no shared one at this depth)."""
    count: int = 64
    code: str = "paired"
    """paired: the activation that the crosscoder reads from both models, as it defines a shared
    latent; own: that which it reads from the ablated model alone."""
    skip_first: int = 4
    """First positions (BOS = 0) left alone and not scored."""
    prompt_limit: int = PROMPT_LIMIT
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.documents or not all(text.strip() for text in self.documents):
            raise AblationError("give at least one document, and none that is empty")
        if len(self.documents) > TEXTS_LIMIT:
            raise AblationError(f"{len(self.documents)} documents, the limit is {TEXTS_LIMIT}")
        if self.prompt_limit < 1 or min(self.skip_first, self.seed) < 0:
            raise AblationError("prompt_limit must be 1 or more, skip_first and seed 0 or more")
        if len(self.documents) * self.prompt_limit > 4 * TOTAL_LIMIT:
            raise AblationError(
                f"{len(self.documents)} documents of up to {self.prompt_limit} tokens, the limit "
                f"is {4 * TOTAL_LIMIT} together: give fewer or lower prompt_limit"
            )
        if self.code not in CODES:
            raise AblationError(f"no code {self.code!r}; there are {', '.join(CODES)}")
        if len(set(self.latents)) != len(self.latents):
            raise AblationError("a latent is named twice: name each once")
        if not 1 <= (len(self.latents) or self.count) <= LATENTS_LIMIT:
            raise AblationError(f"give 1 to {LATENTS_LIMIT} latents")

    @property
    def id(self) -> str:
        """Content hash: equal requests have equal results."""
        return content_hash(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "MeaningRequest":
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        return cls(**{**data, **lists})


@dataclass(frozen=True)
class Side:
    """One latent ablated in one model: sums over the scored tokens of each document."""

    kl: tuple[float, ...]
    """KL(ablated || the same model unablated), nats."""
    edit: tuple[float, ...]
    """|a_j d_j|^2, what was taken away, in squared units of the activation."""


@dataclass(frozen=True)
class LatentShift:
    latent: int
    fires: int
    """Scored tokens on which it fires, in base plus in tuned (with paired codes both are equal)."""
    base: Side
    tuned: Side


@dataclass(frozen=True)
class Correlation:
    """Over latents, dimensionless, in [-1, 1]. Ends are the central 95 % of bootstrap resamples."""

    value: float | None
    n: int
    """Latents that could be used."""
    over_latents: tuple[float, float] | None
    """Other latents, the same documents."""
    over_documents: tuple[float, float] | None
    """Other documents, the same latents."""
    over_both: tuple[float, float] | None
    missing: str = ""
    """Why the value or an interval is not defined; empty = all are."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Correlation":
        ends = {k: data[k] and tuple(data[k]) for k in data if k.startswith("over_")}
        return cls(**{**data, **ends})


@dataclass(frozen=True)
class MeaningResult:
    request: MeaningRequest
    base_model: str
    hook: str
    """mlp | residual"""
    tokens: tuple[int, ...]
    """Scored tokens of each document."""
    shifts: tuple[LatentShift, ...]
    silent: int
    """Latents among them that never fire here: nothing was taken away, so they say nothing."""
    pearson: Correlation
    """Of log KL, over latents that shift both models."""
    spearman: Correlation
    """Of KL, over latents that fire."""
    potency: Correlation
    """Pearson of log (KL / |edit|^2): without what merely follows from large or frequent
    activations, which move both models more."""
    seconds: float
    device: str

    def mean_kl(self, shift: LatentShift) -> tuple[float, float]:
        """Mean KL per scored token when this latent is ablated: in base, in tuned, nats."""
        total = sum(self.tokens)
        return sum(shift.base.kl) / total, sum(shift.tuned.kl) / total

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "MeaningResult":
        def side(part: dict[str, Any]) -> Side:
            return Side(tuple(part["kl"]), tuple(part["edit"]))

        shifts = (
            LatentShift(s["latent"], s["fires"], side(s["base"]), side(s["tuned"]))
            for s in data["shifts"]
        )
        names = ("pearson", "spearman", "potency")
        return cls(
            **{
                **data,
                **{name: Correlation.from_json(data[name]) for name in names},
                "request": MeaningRequest.from_json(data["request"]),
                "tokens": tuple(data["tokens"]),
                "shifts": tuple(shifts),
            }
        )


def compare(
    request: MeaningRequest,
    session: "Session",
    *,
    progress: Callable[..., None] | None = None,
    tell: Callable[..., None] | None = None,
) -> MeaningResult:
    """Ablate every latent alone in both models and correlate the shifts.

    ``progress(stage, done, total)`` is called before each batch of latents; raising in it cancels.

    Raises:
        AblationError: a depth or latents that the bundle does not carry, or documents too short.
    """
    from lib.ablation.shifts import measure

    silent: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    return measure(request, session, progress or silent, tell or silent)
