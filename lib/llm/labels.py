"""A short label per feature from its examples, and how well it tells held-out passages apart.

The label is read by the same model that made it, from the label alone. The baseline is a label made
for another feature, on the same passages: what a text that fits anything would score.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lib.llm import forms
from lib.llm.desk import Desk
from lib.llm.repair import ask_in_form
from lib.llm.transcripts import step_key
from lib.llm.windows import CLOSE, OPEN, FeatureText, Passage
from lib.metrics.intervals import Interval, bootstrap_mean
from lib.metrics.shares import Share, wilson

TEMPERATURE = 0.0
_LABEL = f"""A feature of a language model fires on some tokens. In each passage what it fires on \
stands between {OPEN} and {CLOSE}. Say in at most ten words what the passages have in common there: as \
narrow as the passages allow, and without guessing at what they do not show.
Answer with exactly one JSON object and nothing else: {{"label": "..."}}."""
_DETECT = """A feature of a language model is described by a label. Say in which of the numbered \
passages the feature fires, judging by the label alone. It may be any number of them, all or none.
Answer with exactly one JSON object and nothing else: {"matches": [numbers]}."""


class Detection(NamedTuple):
    """How often the label's reader was right."""

    hits: int
    """Passages on which the feature fires and the label was found to match."""
    firing: int
    rejected: int
    """Passages on which it does not fire and the label was found not to match."""
    silent: int

    @property
    def score(self) -> Share:
        """Balanced accuracy, 0..1; 0.5 = the label says nothing. 95 % from Wilson's intervals of both
        rates (the method of variance estimates recovery, as ``shares.excess`` does for a difference).
        """
        found, spared = wilson(self.hits, self.firing), wilson(self.rejected, self.silent)
        value = (found.value + spared.value) / 2
        below = math.hypot(found.value - found.low, spared.value - spared.low) / 2
        above = math.hypot(found.high - found.value, spared.high - spared.value) / 2
        return Share(value, value - below, value + above)


class Labelled(NamedTuple):
    latent: int
    label: str | None
    """None = malformed twice."""
    own: Detection | None
    """None = the reader's answer was malformed twice."""
    other: Detection | None
    """The same with another feature's label; None also where there was only one feature."""
    other_label: str
    unsure: float
    """As in ``FeatureText``."""
    tokens: int


class Total(NamedTuple):
    """Means over features, 95 % by bootstrap over features."""

    n: int
    own: Interval
    other: Interval
    gain: Interval
    """Own minus other, feature by feature."""


def make(
    desk: Desk,
    experiment_id: str,
    layer: int,
    texts: Sequence[FeatureText],
    done: Callable[[Labelled], None] = lambda one: None,
) -> list[Labelled]:
    """Label, test and baseline of every feature with text; those without are left out.

    Args:
        done: called after each feature.

    Raises:
        EndpointError, BudgetSpent: what is finished is kept in the desk's transcript.
    """
    there = [one for one in texts if not one.missing]
    named = {one.latent: _named(desk, one) for one in there}
    others = swapped([one.latent for one in there if named[one.latent][0] is not None])
    found = []
    for one in there:
        label, cost = named[one.latent]
        stranger = named[others[one.latent]][0] if one.latent in others else None
        own, paid = _detected(desk, one, label, "own label")
        other, more = _detected(desk, one, stranger, "another feature's label")
        whole = Labelled(
            one.latent, label, own, other, stranger or "", one.unsure, cost + paid + more
        )
        _keep(desk, experiment_id, layer, one, whole)
        found.append(whole)
        done(whole)
    return found


def swapped(latents: Sequence[int]) -> dict[int, int]:
    """For each feature another one, each used once; empty for fewer than two."""
    order = list(latents)
    random.Random(0).shuffle(order)
    return dict(zip(order, order[1:] + order[:1], strict=True)) if len(order) > 1 else {}


def total(found: Sequence[tuple[Detection | None, Detection | None]]) -> Total | None:
    """Over features that have both tests, given as (own, other); None = there is none."""
    pairs = [(own.score.value, other.score.value) for own, other in found if own and other]
    if not pairs:
        return None
    values, ones = np.array(pairs), np.ones(len(pairs))
    columns = (values[:, 0], values[:, 1], values[:, 0] - values[:, 1])
    return Total(
        len(pairs), *(bootstrap_mean(column.tolist(), ones.tolist()) for column in columns)
    )


def _named(desk: Desk, text: FeatureText) -> tuple[str | None, int]:
    told = _numbered(text.shown)
    messages = [{"role": "system", "content": _LABEL}, {"role": "user", "content": told}]
    turn = ask_in_form(
        desk, messages, forms.label, model=desk.endpoint.settings.model,
        run=f"feature {text.latent}", step="label", temperature=TEMPERATURE, seed=0,
    )  # fmt: skip
    return (turn.value if isinstance(turn.value, str) else None), turn.tokens


def _detected(
    desk: Desk, text: FeatureText, label: str | None, step: str
) -> tuple[Detection | None, int]:
    if label is None:
        return None, 0
    told = _numbered([passage.text for passage in text.passages])
    messages = [
        {"role": "system", "content": _DETECT},
        {"role": "user", "content": f"Label: {label}\n\n{told}"},
    ]
    turn = ask_in_form(
        desk, messages, lambda answer: forms.matches(answer, len(text.passages)),
        model=desk.endpoint.settings.model, run=f"feature {text.latent}", step=step,
        temperature=TEMPERATURE, seed=0,
    )  # fmt: skip
    found = turn.value
    return (detection(text.passages, found) if isinstance(found, frozenset) else None), turn.tokens


def _numbered(passages: Sequence[str]) -> str:
    """As JSON strings, so that no passage can end its line and pretend to be another."""
    quoted = (json.dumps(passage, ensure_ascii=False) for passage in passages)
    return "\n".join(f"{number}. {passage}" for number, passage in enumerate(quoted, 1))


def detection(passages: Sequence[Passage], matches: frozenset[int]) -> Detection:
    """Counts, from the numbers (from 1) that were said to match."""
    said = [number in matches for number in range(1, len(passages) + 1)]
    fires = [passage.fires for passage in passages]
    both = list(zip(said, fires, strict=True))
    return Detection(
        both.count((True, True)), sum(fires), both.count((False, False)), len(fires) - sum(fires)
    )


def _keep(desk: Desk, experiment_id: str, layer: int, text: FeatureText, whole: Labelled) -> None:
    """Store the label. Its key changes with what it was made from, the latest one is shown."""
    settings = desk.endpoint.settings
    tests = {"own": whole.own, "other": whole.other}
    counts = {name: list(test) if test else None for name, test in tests.items()}
    origins = [passage.origin for passage in text.passages]
    key = step_key(url=settings.url, model=settings.model, layer=layer, **whole._asdict())
    if desk.transcript.get("label", key) is None:
        desk.transcript.add(
            "label", key, experiment=experiment_id, layer=layer, latent=whole.latent,
            model=settings.model, label=whole.label, other_label=whole.other_label, **counts,
            unsure=whole.unsure, tokens=whole.tokens, origins=origins, shown=len(text.shown),
        )  # fmt: skip
