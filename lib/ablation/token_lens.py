"""The lens on one prompt, measured: two passes, norms and cosines, readings, Patchscope."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.ablation.limits import PROMPT_LIMIT, AblationError
from lib.ablation.looking import LensRequest, LensResult, Scope, TokenLens
from lib.ablation.passes import ONE_TRACE
from lib.ablation.session import Session
from lib.ablation.token_readings import Said, Streams, readings, scope
from lib.lens.probe import ETA_SKIPPED
from lib.lens.streams import streams
from lib.metrics.massive import massive_tokens
from lib.models import LoadedModel
from lib.models.scaling import reaches_base, scaled_adapter

ROWS = 32
"""Tokens read at once: their logits over a vocabulary of 262,144 take 34 MB."""
Report = Callable[..., None]


class Text(NamedTuple):
    """A prompt as the model reads it, after BOS."""

    ids: list[int]
    pieces: list[str]


class Geometry(NamedTuple):
    """Numbers of the differences, in double precision."""

    norms: Float[Tensor, "three tokens"]
    """Of difference, base, tuned."""
    ordinary: Bool[Tensor, " tokens"]
    cosine: Float[Tensor, " tokens"]
    """NaN where it is not defined."""
    mean_norm: float
    offset_share: float | None
    eta: float


def measure(request: LensRequest, session: Session, report: Report) -> LensResult:
    """As ``looking.look``. The adapter's strength is put back whatever happens."""
    began = time.monotonic()
    loaded = session.loaded
    layer = loaded.n_layers // 2 if request.layer is None else request.layer
    text = coded(request, loaded)
    _check(request, layer, loaded, len(text.ids))
    with ONE_TRACE, torch.no_grad():
        both = _passes(request, loaded, layer, text.ids, report)
        found = geometry(both)
        tokens = _tokens(request, loaded, both, text, found, report)
        said: Scope | None = None
        if request.patchscope and request.position is not None:
            report("Patchscope")
            picked = Streams(*(side[request.position][None] for side in both))
            said = scope(request, loaded, picked, layer, found.eta)
    return LensResult(
        request=request,
        base_model=session.info.base_model,
        layer=layer,
        tokens=tokens,
        mean_norm=found.mean_norm,
        offset_share=found.offset_share,
        eta=found.eta,
        scope=said,
        seconds=time.monotonic() - began,
        device=session.device,
    )


def coded(request: LensRequest, loaded: LoadedModel) -> Text:
    """Token ids and the text of each, without BOS, which some chat templates write themselves.

    Raises:
        AblationError: a chat template is asked for and the tokenizer has none.
    """
    tokenizer, text = loaded.tokenizer, request.prompt
    if request.chat:
        if not getattr(tokenizer, "chat_template", None):
            raise AblationError(
                f"the tokenizer of {loaded.name} has no chat template: send the prompt as it is"
            )
        turn = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [0]
    for _, end in found["offset_mapping"]:
        ends.append(max(end, ends[-1]))
    ids, pieces = found["input_ids"], [text[a:b] for a, b in pairwise(ends)]
    first = int(request.chat and ids[0] == tokenizer.bos_token_id)
    return Text(ids[first:], pieces[first:])


def _check(request: LensRequest, layer: int, loaded: LoadedModel, count: int) -> None:
    if not count:
        raise AblationError("the prompt gives no token: write a word or a sentence")
    if count > PROMPT_LIMIT:
        with_template = " with the chat template" if request.chat else ""
        raise AblationError(
            f"the prompt has {count} tokens{with_template}, the limit is {PROMPT_LIMIT}: shorten it"
        )
    if layer >= loaded.n_layers:
        raise AblationError(
            f"no layer {layer}: {loaded.name} has layers 0 to {loaded.n_layers - 1}"
        )
    if request.position is not None and request.position >= count:
        raise AblationError(f"no token {request.position}: the prompt has tokens 0 to {count - 1}")
    if request.scale_lora != 1 and not reaches_base(loaded):
        raise AblationError(
            "this adapter also replaces weights, so scaling its low-rank part does not lead to base: "
            "set scale_lora to 1"
        )


def _passes(
    request: LensRequest, loaded: LoadedModel, layer: int, ids: list[int], report: Report
) -> Streams:
    """Each model once, up to the block."""
    whole = torch.tensor([[loaded.tokenizer.bos_token_id, *ids]], device=loaded.device)
    report("base")
    with loaded.as_base():
        (base,) = streams(loaded, whole, [layer])
    report("tuned")
    with scaled_adapter(loaded, request.scale_lora):
        (tuned,) = streams(loaded, whole, [layer])
    return Streams(base[layer][0, 1:], tuned[layer][0, 1:])


def geometry(both: Streams) -> Geometry:
    """Norms, cosines with the mean of the other ordinary tokens, and how constant the difference is.

    Raises:
        ValueError: streams that are not finite.
    """
    base, tuned = (side.double().cpu() for side in both)
    moved = tuned - base
    ordinary = massive_tokens(base, tuned).keep
    norms = torch.stack([part.norm(dim=1) for part in (moved, base, tuned)])
    kept = moved * ordinary[:, None]
    total, n = kept.sum(0), int(ordinary.sum())
    others = total - kept  # cosines do not need the count
    cosine = (moved * others).sum(1) / (norms[0] * others.norm(dim=1))
    squares = float(kept.square().sum())
    late = ordinary & (torch.arange(len(ordinary)) >= ETA_SKIPPED)
    return Geometry(
        norms=norms,
        ordinary=ordinary,
        cosine=cosine.clamp(-1.0, 1.0),
        mean_norm=float(total.norm()) / n,
        offset_share=min(1.0, float(total.square().sum()) / n / squares) if squares else None,
        eta=float(norms[2][late if late.any() else ordinary].mean()),
    )


def _tokens(
    request: LensRequest,
    loaded: LoadedModel,
    both: Streams,
    text: Text,
    found: Geometry,
    report: Report,
) -> tuple[TokenLens, ...]:
    """Every token, with its readings where they were asked for."""
    wanted = range(len(text.ids)) if request.position is None else [request.position]
    read: dict[int, dict[str, Said]] = {}
    for start in range(0, len(wanted), ROWS):
        report("logit lens", start, len(wanted))
        rows = list(wanted[start : start + ROWS])
        part = Streams(both.base[rows], both.tuned[rows])
        read.update(zip(rows, readings(request, loaded, part), strict=True))
    return tuple(
        TokenLens(
            piece,
            *found.norms[:, at].tolist(),
            massive=not found.ordinary[at],
            cosine=None if found.cosine[at].isnan() else float(found.cosine[at]),
            **read.get(at, {}),
        )
        for at, piece in enumerate(text.pieces)
    )
