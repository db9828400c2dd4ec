"""Every latent ablated alone, batched, in base and in tuned: how far each model's predictions move."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.ablation import correlations
from lib.ablation.arithmetic import DictionarySlice, codes, own_codes
from lib.ablation.catalogue import Offered
from lib.ablation.limits import AblationError
from lib.ablation.meaning import LatentShift, MeaningRequest, MeaningResult, Side
from lib.ablation.passes import How, Pass
from lib.ablation.scores import Judge
from lib.ablation.session import Session

BATCH_TOKENS = 4096
"""Latents per pass times tokens of the document: bounds the memory of a pass."""
BASE, TUNED = 0, 1


class Sums(NamedTuple):
    """Of one document, in one model."""

    kl: Float[np.ndarray, " latents"]
    edit: Float[np.ndarray, " latents"]
    fires: Int[np.ndarray, " latents"]


def measure(
    request: MeaningRequest,
    session: Session,
    report: Callable[..., None],
    tell: Callable[..., None],
) -> MeaningResult:
    """See ``meaning.compare``."""
    started = time.monotonic()
    if request.layer not in session.info.layers:
        offered = list(session.info.layers)
        raise AblationError(f"no dictionary at depth {request.layer}; offered: {offered}")
    chosen = choose(request, session.offered[request.layer])
    part = session.slices[request.layer].take(chosen)
    texts = [_ids(request, session, number) for number in range(len(request.documents))]
    judge = Judge(session.loaded)
    found: list[tuple[Sums, Sums]] = []
    for number, ids in enumerate(texts):
        report("ablating", number, len(texts))
        found.append(_document(request, session, judge, part, ids, report_of(report, found, texts)))
        tell(event="document", done=number + 1, total=len(texts))
    shifts = tuple(_shift(j, at, found) for at, j in enumerate(chosen))
    firing = [shift for shift in shifts if shift.fires]
    return MeaningResult(
        request=request,
        base_model=session.info.base_model,
        hook=session.info.hook,
        tokens=tuple(ids.shape[1] - request.skip_first for ids in texts),
        shifts=shifts,
        silent=len(shifts) - len(firing),
        pearson=correlations.pearson_log_kl(firing, request.seed),
        spearman=correlations.spearman_kl(firing, request.seed),
        potency=correlations.pearson_log_potency(firing, request.seed),
        seconds=time.monotonic() - started,
        device=str(session.loaded.device),
    )


def report_of(
    report: Callable[..., None], found: list[tuple[Sums, Sums]], texts: list[Tensor]
) -> Callable[[], None]:
    """Says again how far it is, so that a cancellation is heard between batches of latents."""
    return lambda: report("ablating", len(found), len(texts))


def choose(request: MeaningRequest, offered: Offered) -> tuple[int, ...]:
    """The latents asked for; else the most frequent shared ones, of all classes where none is shared.

    Raises:
        AblationError: latents that the slice does not carry.
    """
    known = offered.latents.tolist()
    missing = sorted(set(request.latents) - set(known))
    if missing:
        raise AblationError(
            f"latents {missing} at layer {request.layer} are not in the live bundle, which carries "
            f"{len(known)} of the dictionary"
        )
    if request.latents:
        return request.latents
    order = np.lexsort((offered.latents, -offered.frequency))
    if offered.shared:
        order = order[np.isin(offered.latents[order], offered.shared)]
    return tuple(int(j) for j in offered.latents[order[: request.count]])


def _ids(request: MeaningRequest, session: Session, number: int) -> Int[Tensor, "1 seq"]:
    ids = session.encode(request.documents[number])[: request.prompt_limit]
    return session.begun(ids, request.skip_first, f"document {number + 1}")


def _document(
    request: MeaningRequest,
    session: Session,
    judge: Judge,
    part: DictionarySlice,
    ids: Int[Tensor, "1 seq"],
    heard: Callable[[], None],
) -> tuple[Sums, Sums]:
    plain = [session.run(ids, _how(request, session, side, None)) for side in (BASE, TUNED)]
    x_base, x_tuned = (run.before[request.layer][0, request.skip_first :] for run in plain)
    sides = []
    for side, x in ((BASE, x_base), (TUNED, x_tuned)):
        here = part.to(x.device)
        if request.code == "paired":
            active = codes(x_tuned, x_base.to(x.device), here)
        else:
            active = own_codes(x, here)
        sides.append(_side(request, session, judge, here, active, ids, plain[side], side, heard))
    return sides[BASE], sides[TUNED]


def _how(request: MeaningRequest, session: Session, side: int, plain: Pass | None) -> How:
    return How(
        layers=(request.layer,),
        hook=session.info.hook,
        as_base=side == BASE,
        start=None if plain is None else plain.entry,
        keep_entry=plain is None,
    )


def _side(
    request: MeaningRequest,
    session: Session,
    judge: Judge,
    part: DictionarySlice,
    active: Float[Tensor, "tokens latents"],
    ids: Int[Tensor, "1 seq"],
    plain: Pass,
    side: int,
    heard: Callable[[], None],
) -> Sums:
    """One model: latents that fire here, some at a time; the others shift nothing."""
    layer, skip = request.layer, request.skip_first
    decoder = part.decoder[:, side]
    kl = torch.zeros(active.shape[1], dtype=torch.float64)
    firing = (active > 0).any(0).nonzero()[:, 0]
    size = max(1, BATCH_TOKENS // ids.shape[1])
    for rows in firing.split(size):
        heard()
        taken = active.T[rows][..., None] * decoder[rows][:, None]

        def edit(x: Tensor, taken: Tensor = taken) -> Tensor:
            out = x.clone()
            out[:, skip:] -= taken
            return out

        how = _how(request, session, side, plain)
        run = session.run(ids.expand(len(rows), -1), how, {layer: edit}, heard)
        scores = judge.scores(run.hidden[:, skip:], plain.hidden[0, skip:], heard)
        kl[rows.cpu()] = scores.kl.sum(1).cpu()
    squares = active.double().square().sum(0) * decoder.double().square().sum(1)
    fires = (active > 0).sum(0)
    return Sums(kl.numpy(), squares.cpu().numpy(), fires.cpu().numpy())


def _shift(latent: int, at: int, found: list[tuple[Sums, Sums]]) -> LatentShift:
    def side(which: int) -> Side:
        kl, edit = ([float(getattr(d[which], f)[at]) for d in found] for f in ("kl", "edit"))
        return Side(tuple(kl), tuple(edit))

    fires = sum(int(sums.fires[at]) for pair in found for sums in pair)
    return LatentShift(latent, fires, side(BASE), side(TUNED))
