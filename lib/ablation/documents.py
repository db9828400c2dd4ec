"""The texts of a request, and what both models make of each before anything is changed."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from lib.ablation.limits import TOTAL_LIMIT, AblationError
from lib.ablation.passes import Entry, Heard, How
from lib.ablation.request import AblationRequest
from lib.ablation.session import Session


@dataclass(frozen=True)
class Text:
    """Tokens of one text, BOS first."""

    ids: Int[Tensor, "1 seq"]
    neutral: bool
    """For the damage measure only: its likelihood counts, not its divergence."""


@dataclass(frozen=True)
class Reading:
    """One text read by base and by tuned; all tensors but ``ids`` hold the scored tokens only."""

    text: Text
    base: dict[int, Float[Tensor, "tokens d"]]
    """Base activations at the hooked depths."""
    tuned: dict[int, Float[Tensor, "tokens d"]]
    base_hidden: Float[Tensor, "tokens d"]
    """After the base run's final norm."""
    tuned_hidden: Float[Tensor, "tokens d"]
    entry: Entry
    """Of the tuned run: edited runs differ from it only from here on."""


def texts(session: Session, request: AblationRequest) -> list[Text]:
    """The prompt or the documents, then the neutral texts.

    Raises:
        AblationError: a text with fewer than two scored tokens, a prompt over its limit, or more
            tokens in all than fit.
    """
    if not request.documents:
        read = [Text(session.tokens(request), neutral=False)]
    else:
        read = _cut(session, request, request.documents, neutral=False)
    read += _cut(session, request, request.neutral, neutral=True)
    total = sum(text.ids.shape[1] for text in read)
    if total > TOTAL_LIMIT:
        raise AblationError(
            f"the texts have {total:,} tokens, the limit is {TOTAL_LIMIT:,}: give fewer or shorter "
            "ones, or lower prompt_limit"
        )
    return read


def _cut(
    session: Session, request: AblationRequest, given: tuple[str, ...], *, neutral: bool
) -> list[Text]:
    kind = "neutral text" if neutral else "document"
    made = []
    for number, text in enumerate(given, 1):
        ids = session.encode(text)[: request.prompt_limit]
        name = f"{kind} {number} of {len(given)}"
        made.append(Text(session.begun(ids, request.skip_first, name), neutral))
    return made


def read(
    session: Session,
    text: Text,
    layers: tuple[int, ...],
    hook: str,
    skip: int,
    heard: Heard | None = None,
) -> Reading:
    """Run base and tuned on one text; positions before ``skip`` are not kept.

    ``heard`` as in ``passes.run_pass``.
    """
    base = session.run(text.ids, How(layers=layers, hook=hook, as_base=True), heard=heard)
    tuned = session.run(text.ids, How(layers=layers, hook=hook, keep_entry=True), heard=heard)
    if tuned.entry is None:
        raise RuntimeError("the tuned run did not keep the stream that enters the first depth")
    return Reading(
        text=text,
        base={layer: x[0, skip:].clone() for layer, x in base.before.items()},
        tuned={layer: x[0, skip:].clone() for layer, x in tuned.before.items()},
        base_hidden=base.hidden[0, skip:].clone(),
        tuned_hidden=tuned.hidden[0, skip:].clone(),
        entry=tuned.entry,
    )
