"""What a request may ask for: the names, their ranges, and why a request is refused. No torch."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.ablation.request import AblationRequest

PROMPT_LIMIT = 256
"""Tokens; keeps a request on a CPU within seconds."""
TOTAL_LIMIT = 16_384
"""Tokens of all documents and neutral texts together: their activations stay in memory."""
TEXTS_LIMIT = 512
DRAWS_LIMIT = 1000
DOSE_LIMIT = 64

PAIR_CLAMP, CODE_CLAMP, ZERO = "pair_clamp", "code_clamp", "zero"
SUBSPACE_SWAP, FULL_PATCH = "subspace_swap", "full_patch"
STEER, SCALE_LORA = "steer", "scale_lora"
WITH_LATENTS = (PAIR_CLAMP, CODE_CLAMP, ZERO, SUBSPACE_SWAP, STEER)
"""Interventions on a set of latents, so at the depths and the hook of the bundle's dictionaries."""
INTERVENTIONS = (*WITH_LATENTS[:4], FULL_PATCH, STEER, SCALE_LORA)
RANDOM_LATENTS = "random_latents"
CONTROLS = (RANDOM_LATENTS, "gaussian", "real_difference", "shuffled", "sign_flipped")
CLASSES = ("eliminated", "suppressed", "shared", "amplified", "new", "dead")
"""As in lib.metrics.latents; slices keep a latent's class as its place in this tuple."""
ORDERS = ("energy", "nu", *(f"class:{name}" for name in CLASSES))
STEER_LIMIT = 1e6
"""Far past any activation, yet its square is still a float32: beyond, norms overflow in silence."""
_REACH = {STEER: (-STEER_LIMIT, STEER_LIMIT), SCALE_LORA: (0.0, 2.0)}


class AblationError(ValueError):
    """A request that cannot be run; says what was found and what to do."""


def check(request: "AblationRequest") -> None:
    """Everything that is wrong with a request by itself, without a bundle or a model.

    Raises:
        AblationError: names the field, what it held and what it may hold.
    """
    _texts(request)
    _known("intervention", request.intervention, INTERVENTIONS)
    _known("order", request.order, ORDERS)
    _known("hook", request.hook, ("", "mlp", "residual"))
    for name in request.controls:
        _known("control", name, CONTROLS)
    if len(set(request.controls)) != len(request.controls):
        raise AblationError(f"controls {list(request.controls)} name one twice: name each once")
    for strength in (request.strength, *request.dose_strengths):
        _strength(request.intervention, strength)
    _counts(request)


def _texts(request: "AblationRequest") -> None:
    if request.prompt and request.documents:
        raise AblationError("give a prompt or documents, not both: they are scored differently")
    if not request.documents and not request.prompt.strip():
        raise AblationError("the prompt is empty: write a sentence or two in the corpus' style")
    for kind, texts in (("document", request.documents), ("neutral text", request.neutral)):
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise AblationError(f"{kind} {number} of {len(texts)} is empty: leave it out")
    count = len(request.documents) + len(request.neutral)
    if count > TEXTS_LIMIT:
        raise AblationError(f"{count} texts, the limit is {TEXTS_LIMIT}: score fewer at once")


def _known(field: str, value: str, offered: tuple[str, ...]) -> None:
    if value not in offered:
        names = ", ".join(name or "'' (the bundle's)" for name in offered)
        raise AblationError(f"no {field} {value!r}; there are {names}")


def _strength(intervention: str, strength: float) -> None:
    low, high = _REACH.get(intervention, (0.0, 1.0))
    if not math.isfinite(strength):
        raise AblationError(f"strength is {strength}: give a finite number")
    if not low <= strength <= high:
        raise AblationError(
            f"strength of {intervention} must lie in {low:g}..{high:g}, got {strength}"
        )


def _counts(request: "AblationRequest") -> None:
    if min(request.top, request.skip_first, request.draws, request.seed) < 0:
        raise AblationError(
            f"top={request.top}, draws={request.draws}, seed={request.seed}, "
            f"skip_first={request.skip_first}: give 0 or more"
        )
    if request.draws > DRAWS_LIMIT:
        raise AblationError(f"{request.draws} draws, the limit is {DRAWS_LIMIT}: ask for fewer")
    if request.prompt_limit < 1:
        raise AblationError(f"prompt_limit={request.prompt_limit}: give 1 or more")
    if any(top < 0 for top in request.dose_tops):
        raise AblationError(f"dose_tops {list(request.dose_tops)}: give 0 or more latents")
    points = len(request.dose_strengths) + len(request.dose_tops)
    if points > DOSE_LIMIT:
        raise AblationError(f"{points} dose points, the limit is {DOSE_LIMIT}: ask for fewer")
    if request.intervention not in WITH_LATENTS and (request.picked or request.dose_tops):
        raise AblationError(
            f"{request.intervention} has no latents: leave picked and dose_tops empty, or choose "
            f"one of {', '.join(WITH_LATENTS)}"
        )
