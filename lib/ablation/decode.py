"""Writing several continuations in step: cached passes, with each lane's edit on its row.

All lanes are equally long at every step, so they go through the model as one batch: once as base,
once tuned, with the edit of each lane on its own row. Every edit at a token depends on that token's
activations alone, so a cache of the earlier ones changes nothing but the speed.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.ablation import limits, passes, selection
from lib.ablation.generate import GenerateRequest, GenerateResult
from lib.ablation.lane_edits import LaneEdit, lane_edits
from lib.ablation.lane_sizes import LaneSizes
from lib.ablation.limits import AblationError
from lib.ablation.outcome import LayerSet
from lib.ablation.session import Session
from lib.ablation.writer import Writer


class Chosen(NamedTuple):
    """Latents of one request."""

    selected: tuple[LayerSet, ...]
    drawn: tuple[LayerSet, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(part.layer for part in self.selected)


@dataclass
class Rows:
    """Lanes that share a pass, and its cache."""

    lanes: list[int]
    how: passes.How
    edits: dict[int, LaneEdit]
    """Of a lane, by its place; the other lanes are left alone."""


class Seen(NamedTuple):
    before: dict[int, Float[Tensor, "lanes new d"]]
    after: dict[int, Float[Tensor, "lanes new d"]]
    logits: Float[Tensor, "lanes vocab"]
    """After the last token."""


def write_lanes(
    request: GenerateRequest,
    session: Session,
    report: Callable[..., None],
    tell: Callable[..., None],
) -> GenerateResult:
    """See ``generate``."""
    started = time.monotonic()
    asked = request.ablation
    ids = session.tokens(asked)
    length, heat = ids.shape[1] + request.max_new_tokens, float(request.temperature)
    _check_length(session, length)
    chosen = _choose(request, session)
    base, groups = _groups(request, session, chosen, length)
    writers, sizes = [Writer(n, session) for n in request.lanes], LaneSizes(asked.skip_first)
    new, start, first = ids.expand(len(writers), -1), 0, 0.0
    for step in range(request.max_new_tokens):
        report("writing", step, request.max_new_tokens)
        reference = _advance(session, base, new, start, None)
        logits = reference.logits.clone()
        for rows in groups:
            seen = _advance(session, rows, new, start, reference.before)
            logits[rows.lanes] = seen.logits
            for row, place in enumerate(rows.lanes):
                if place in rows.edits and not writers[place].stopped:
                    sizes.add(place, row, start, seen.before, seen.after, reference.before)
        luck = float(np.random.default_rng([request.seed, step]).random())
        last = step == request.max_new_tokens - 1
        for place, writer in enumerate(writers):
            if not writer.stopped:
                writer.write(logits[place], reference.logits[place], heat, luck, last)
                tell(event="token", lane=writer.name, step=step, **asdict(writer.steps[-1]))
        first = first or time.monotonic() - started
        start += new.shape[1]
        new = torch.tensor([[writer.steps[-1].id] for writer in writers], device=ids.device)
        if all(writer.stopped for writer in writers):
            break
    return GenerateResult(
        request=request,
        base_model=session.info.base_model,
        hook=asked.hook or session.info.hook,
        selected=chosen.selected,
        drawn=chosen.drawn,
        lanes=tuple(writer.lane(sizes.edits(place)) for place, writer in enumerate(writers)),
        seconds=(("first token", first), ("all tokens", time.monotonic() - started)),
        device=str(ids.device),
    )


def _check_length(session: Session, tokens: int) -> None:
    limit = session.loaded.causal_lm.config.get_text_config().max_position_embeddings
    if tokens > limit:
        raise AblationError(
            f"prompt and continuation together may have {tokens} tokens, the model reads {limit}: "
            "shorten the prompt or ask for fewer new tokens"
        )


def _choose(request: GenerateRequest, session: Session) -> Chosen:
    asked = request.ablation
    n_layers = session.loaded.n_layers
    selected = selection.choose(asked, session.info, session.offered, n_layers)
    drawn: tuple[LayerSet, ...] = ()
    if request.matched_control == limits.RANDOM_LATENTS:
        drawn = selection.draw_random(selected, session.offered, asked.seed, 0)
    return Chosen(selected, drawn)


def _groups(
    request: GenerateRequest, session: Session, chosen: Chosen, length: int
) -> tuple[Rows, list[Rows]]:
    """Every lane as base; and the lanes but base as they are, edited or with a scaled adapter."""
    asked = request.ablation
    hook = asked.hook or session.info.hook
    how = passes.How(layers=chosen.layers, hook=hook)
    edits = lane_edits(request, session, chosen.selected, chosen.drawn, length)
    places = list(range(len(request.lanes)))
    if edits is None:  # the adapter of one lane is scaled: a pass of its own
        parts = [([1], how, {}), ([2], replace(how, scale=asked.strength), {})]
    else:
        parts = [(places[1:], how, edits)]
    parts.insert(0, (places, replace(how, as_base=True), {}))
    base, *groups = (
        Rows(lanes, replace(way, cache=_cache(session)), change) for lanes, way, change in parts
    )
    return base, groups


def _cache(session: Session) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=session.loaded.causal_lm.config)


def _advance(
    session: Session,
    rows: Rows,
    new: Int[Tensor, "all new"],
    start: int,
    x_base: Mapping[int, Float[Tensor, "all new d"]] | None,
) -> Seen:
    """Read the new tokens of some lanes on top of what their cache holds."""
    edits = None
    if rows.edits and x_base is not None:
        edits = {
            layer: partial(_edited, rows, layer, x_base=x_base[layer], start=start)
            for layer in rows.how.layers
        }
    done = session.run(new[rows.lanes], rows.how, edits)
    return Seen(done.before, done.after, session.loaded.logits(done.hidden[:, -1]))


def _edited(
    rows: Rows,
    layer: int,
    x: Float[Tensor, "lanes new d"],
    x_base: Float[Tensor, "all new d"],
    start: int,
) -> Float[Tensor, "lanes new d"]:
    out = x.clone()
    for row, place in enumerate(rows.lanes):
        if place in rows.edits:
            out[row] = rows.edits[place](layer, x[row], x_base[place].to(x.device), start)
    return out
