"""Runs a batch of conditions over the texts: one pass per text, each run a row of the batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from lib.ablation.arithmetic import DictionarySlice
from lib.ablation.documents import Reading
from lib.ablation.interventions import Change
from lib.ablation.passes import Heard, How, Intervention
from lib.ablation.request import AblationRequest, Condition, LayerSet
from lib.ablation.scores import Judge
from lib.ablation.session import Session
from lib.ablation.tally import Tally

BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768}
"""Tokens of one pass: beyond this a larger batch is not faster, but takes memory."""
POOL = 4_096
"""Tokens whose activations real differences are taken of; evenly spaced when there are more."""
Edits = Mapping[int, Float[Tensor, "_ d"]]
"""What a run added to one text at each depth, scored tokens."""
Changes = Callable[[int, Reading], Mapping[int, Change]]
"""For a text, by its number: at each depth, what every run of a batch continues with."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One request made concrete: everything that its runs share."""

    request: AblationRequest
    session: Session
    hook: str
    selected: tuple[LayerSet, ...]
    readings: tuple[Reading, ...]
    """The prompt or the documents, then the neutral texts."""
    judge: Judge
    kl_tuned: float
    """KL(tuned || base) summed over all scored tokens."""
    report: Callable[..., None]
    """Called as (stage, done, total), often with the same; raising there ends the run."""

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(chosen.layer for chosen in self.selected)

    @property
    def rows(self) -> int:
        """Runs that fit into one pass over the longest text."""
        longest = max(reading.text.ids.shape[1] for reading in self.readings)
        most = BATCH_TOKENS.get(self.session.loaded.device.type, BATCH_TOKENS["cpu"])
        return max(1, most // longest)

    @cached_property
    def pool(self) -> dict[int, Float[Tensor, "tokens d"]]:
        """Base activations at each depth, the same tokens at all: what real differences are of."""
        documents = [r for r in self.readings if not r.text.neutral]
        step = -(-sum(len(r.base_hidden) for r in documents) // POOL)
        return {
            layer: torch.cat([r.base[layer] for r in documents])[::step] for layer in self.layers
        }

    @property
    def documents(self) -> int:
        """Texts that are scored; the others are neutral."""
        return sum(not reading.text.neutral for reading in self.readings)

    def tally(self, names: tuple[str, ...]) -> Tally:
        prompt_mode = not self.request.documents
        return Tally(self.judge, names, self.request.skip_first, prompt_mode=prompt_mode)

    def slices(self, sets: list[tuple[LayerSet, ...]]) -> dict[int, DictionarySlice]:
        """One set for each run of a batch, stacked, at each depth."""
        by_depth = zip(*sets, strict=True)
        return {
            same[0].layer: self.session.slices[same[0].layer].stack([s.latents for s in same])
            for same in by_depth
        }


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Runs that differ in nothing but their edits."""

    names: tuple[str, ...]
    changes: Changes = lambda number, reading: {}
    latents: dict[int, DictionarySlice] = field(default_factory=dict)
    scale: float = 1.0
    """Factor on the adapter at the plan's depths."""
    neutral: bool = True
    """Whether the damage is measured too."""


def measure(
    plan: Plan,
    batch: Batch,
    stage: str,
    progress: tuple[int, int] | None = None,
    kept: list[Edits] | None = None,
) -> list[Condition]:
    """Every run of the batch over every text.

    Runs start where the first edit is: the blocks before it are not run again.

    Args:
        stage: reported with the passes over a text that lie behind, before each block and each
            score, which is also when a run can be cancelled.
        progress: passes of this stage before these, and of the whole stage; None = these are all.
        kept: what the first run added to each text is appended here.
    """
    tally = plan.tally(batch.names)
    readings = [r for r in plan.readings if batch.neutral or not r.text.neutral]
    done, total = progress or (0, len(readings))
    for number, reading in enumerate(readings):
        heard = partial(plan.report, stage, done + number, total)
        heard()
        before, after, hidden = _pass(plan, batch, number, reading, heard)
        tally.add(reading, hidden, before, after, batch.latents, heard)
        if kept is not None:
            kept.append({layer: (after[layer] - x)[0] for layer, x in before.items()})
    return tally.conditions(plan.kl_tuned)


def damage(plan: Plan, batch: Batch, stage: str, progress: tuple[int, int]) -> list[float | None]:
    """Neutral texts under every run of the batch: mean negative log likelihood, nats per token.

    None without neutral texts. ``stage`` and ``progress`` as in ``measure``.
    """
    tally = plan.tally(batch.names)
    done, total = progress
    for number, reading in enumerate(plan.readings):
        if reading.text.neutral:
            heard = partial(plan.report, stage, done, total)
            heard()
            hidden = _pass(plan, batch, number, reading, heard)[2]
            tally.add(reading, hidden, {}, {}, {}, heard)
            done += 1
    return tally.neutral_nll


def _pass(
    plan: Plan, batch: Batch, number: int, reading: Reading, heard: Heard
) -> tuple[
    dict[int, Float[Tensor, "batch tokens d"]],
    dict[int, Float[Tensor, "batch tokens d"]],
    Float[Tensor, "batch tokens d"],
]:
    """Activations before and after the edits and final hidden states, scored tokens only."""
    skip, rows = plan.request.skip_first, len(batch.names)
    changes = batch.changes(number, reading)
    how = How(layers=plan.layers, hook=plan.hook, scale=batch.scale, start=reading.entry)
    edits = {layer: _skipping(skip, reading.base[layer], c) for layer, c in changes.items()}
    ids = reading.text.ids.expand(rows, -1)
    done = plan.session.run(ids, how, edits if edits else None, heard)
    after = {layer: x[:, skip:] for layer, x in done.after.items()}
    if edits:
        before = {layer: x[:, skip:] for layer, x in done.before.items()}
    else:  # a scaled adapter: its edit is the way from the tuned run's activations
        before = {layer: reading.tuned[layer].expand_as(x) for layer, x in after.items()}
    return before, after, done.hidden[:, skip:]


def _skipping(skip: int, x_base: Float[Tensor, "tokens d"], change: Change) -> Intervention:
    """Change everything but the first positions."""

    def intervene(x: Float[Tensor, "batch seq d"]) -> Float[Tensor, "batch seq d"]:
        replaced = x.clone()
        replaced[:, skip:] = change(x[:, skip:], x_base.to(x.device))
        return replaced

    return intervene
