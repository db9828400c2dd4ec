"""What the model writes when it is pushed along a difference: steering.

coefficient * eta * (unit difference) is added to the stream after one block, at all positions, while
the tuned model writes. The coefficient is the largest that leaves most text coherent
(``lib.lens.coherence``).

Source: arXiv:2510.13900 (there a language model judges coherence).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from lib.lens import coherence
from lib.lens.coherence import WANTED, Search, largest_coherent
from lib.lens.prompts import prompt_ids
from lib.lens.writing import Writer
from lib.models import LoadedModel

Progress = Callable[[str, int, int], None]


class Generation(NamedTuple):
    prompt: int
    """Index into ``lib.lens.prompts.PROMPTS``."""
    kind: str
    """steered | unsteered"""
    sample: int
    text: str
    """The continuation alone, without special tokens."""
    coherent: bool


@dataclass(frozen=True)
class Steering:
    coefficient: float
    """Length of what is added over eta; 0 where nothing was (``note`` says why)."""
    coherent: float
    """Share of samples that are coherent at that coefficient, 0..1."""
    coherent_plain: float
    """The same without steering; just under 0.95 at most, by the measure's own bound."""
    tried: tuple[float, ...]
    tried_coherent: tuple[float, ...]
    generations: tuple[Generation, ...]
    """Unsteered, then steered ones (none at coefficient 0), by prompt and sample."""
    loss_bound: float
    """Highest base loss of coherent text, nats per token."""
    note: str
    """In words, why there is no steered text; empty where there is."""


def steer(
    loaded: LoadedModel,
    difference: Float[Tensor, " d"],
    eta: float,
    layer: int,
    *,
    samples: int = 2,
    tokens: int = 32,
    temperature: float = 1.1,
    seed: int = 0,
    chat: bool | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Steering:
    """Steered and unsteered continuations of 20 fixed prompts, and the coefficient that steers them.

    The samples that set the coefficient are the ones returned. The same seed gives the same text on
    the same device.

    Args:
        loaded: with its adapter on.
        difference: mean difference at one position; only its direction counts.
        eta: mean norm of the tuned model's stream after block ``layer``, past the first positions.
        samples: of each prompt; the share of coherent samples is over 20 * samples.
        tokens: most new tokens of a sample.
        chat: as ``lib.lens.prompts.prompt_ids``.
        progress: called after every round with its stage (``unsteered`` or ``steered``), the rounds
            done and the most there can be; raising in it cancels.

    Raises:
        ValueError: eta is not a positive number, or there are no samples.
    """
    if not 0 < eta < float("inf") or samples < 1 or tokens < coherence.FEWEST:
        raise ValueError(
            f"steering with eta {eta}, {samples} samples of {tokens} tokens: eta must be the norm of "
            f"the tuned model's stream, with a sample or more of {coherence.FEWEST} tokens or more"
        )
    repeated = tuple(
        tuple(ids) for ids in prompt_ids(loaded.tokenizer, chat) for _ in range(samples)
    )
    writer = Writer(loaded, layer, repeated, tokens, temperature, seed)
    plain = writer.write(None)
    losses = coherence.base_losses(loaded, repeated, plain)
    bound = coherence.loss_bound(losses, len(loaded.unembedding))
    plain_ok = _judged(plain, losses, bound)
    progress("unsteered", 1, 1 + coherence.MOST_ROUNDS)
    rounds: dict[float, tuple[list[list[int]], list[bool]]] = {0.0: (plain, plain_ok)}

    def share_at(coefficient: float) -> float:
        added = coefficient * eta * difference / difference.norm()
        written = writer.write(added)
        judged = _judged(written, coherence.base_losses(loaded, repeated, written), bound)
        rounds[coefficient] = written, judged
        progress("steered", len(rounds), 1 + coherence.MOST_ROUNDS)
        return _share(judged)

    note = _obstacle(difference, _share(plain_ok))
    search = Search(0.0, (), ()) if note else largest_coherent(share_at)
    if not note and not search.coefficient:
        note = (
            f"Even the smallest coefficient tried, {min(search.tried):g}, left fewer than "
            f"{WANTED:.0%} of the samples coherent."
        )
    written, judged = rounds[search.coefficient]
    generations = _told(loaded, "unsteered", samples, plain, plain_ok)
    if search.coefficient:
        generations += _told(loaded, "steered", samples, written, judged)
    return Steering(
        coefficient=search.coefficient,
        coherent=_share(judged),
        coherent_plain=_share(plain_ok),
        tried=search.tried,
        tried_coherent=search.shares,
        generations=generations,
        loss_bound=bound,
        note=note,
    )


def _obstacle(difference: Float[Tensor, " d"], coherent_plain: float) -> str:
    if not difference.norm() > 0:
        return "The mean difference is 0 or not defined: there is no direction to steer in."
    if coherent_plain < WANTED:
        return (
            f"Only {coherent_plain:.0%} of the unsteered samples are coherent ({WANTED:.0%} are "
            "needed): no coefficient can be said to keep text coherent that is not."
        )
    return ""


def _judged(written: list[list[int]], losses: Sequence[float], bound: float) -> list[bool]:
    pairs = zip(written, losses, strict=True)
    return [coherence.is_coherent(ids, loss, bound) for ids, loss in pairs]


def _share(judged: Sequence[bool]) -> float:
    return sum(judged) / len(judged)


def _told(
    loaded: LoadedModel, kind: str, samples: int, written: list[list[int]], judged: list[bool]
) -> tuple[Generation, ...]:
    texts = loaded.tokenizer.batch_decode(written, skip_special_tokens=True)
    return tuple(
        Generation(at // samples, kind, at % samples, text, ok)
        for at, (text, ok) in enumerate(zip(texts, judged, strict=True))
    )
