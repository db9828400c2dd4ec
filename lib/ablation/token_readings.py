"""What the stream at each token says: the logit lens of four streams, and Patchscope of one."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lib.ablation.looking import LensRequest, Scope
from lib.ablation.outcome import NextToken
from lib.lens.patchscope import patchscope
from lib.lens.readout import logit_lens
from lib.lens.words import word_classes
from lib.models import LoadedModel
from lib.models.scaling import scaled_adapter

Said = tuple[NextToken, ...]
"""Most probable first."""


class Streams(NamedTuple):
    """After one block, without BOS."""

    base: Float[Tensor, "tokens d"]
    tuned: Float[Tensor, "tokens d"]


def readings(request: LensRequest, loaded: LoadedModel, part: Streams) -> list[dict[str, Said]]:
    """The four readings of some tokens, by the fields of ``TokenLens``."""
    norm, spell = loaded.causal_lm.model.norm, loaded.tokenizer
    moved = (part.tuned.float() - part.base.float()).to(norm.weight.device)
    lens = logit_lens(moved, norm, loaded.unembedding, k=request.k, softcap=loaded.softcap)
    with loaded.as_base():
        base = _head(loaded, part.base, request.k)
    with scaled_adapter(loaded, request.scale_lora):
        tuned = _head(loaded, part.tuned, request.k)
    columns = {
        "difference": (lens.promoted, lens.promoted_share),
        "negated": (lens.suppressed, lens.suppressed_share),
        "base": base,
        "tuned": tuned,
    }
    return [
        {name: _spelt(spell, ids[at], shares[at]) for name, (ids, shares) in columns.items()}
        for at in range(len(moved))
    ]


def _head(
    loaded: LoadedModel, stream: Float[Tensor, "tokens d"], k: int
) -> tuple[Int[Tensor, "tokens k"], Float[Tensor, "tokens k"]]:
    """What the model as it stands would predict if this stream left its last block."""
    norm = loaded.causal_lm.model.norm
    logits = loaded.logits(norm(stream.to(norm.weight.device, norm.weight.dtype)))
    best = logits.softmax(1).topk(min(k, logits.shape[1]), dim=1)
    return best.indices.cpu(), best.values.cpu()


def _spelt(tokenizer: Any, ids: Int[Tensor, " k"], shares: Float[Tensor, " k"]) -> Said:
    """Tokens with their probabilities; -1 stands for none."""
    pairs = zip(ids.tolist(), shares.tolist(), strict=True)
    return tuple(NextToken(tokenizer.decode([i]), share) for i, share in pairs if i >= 0)


def scope(
    request: LensRequest, loaded: LoadedModel, picked: Streams, layer: int, eta: float
) -> Scope | None:
    """Patchscope of one token's difference, in the tuned model at its chosen strength.

    None where nothing differs.
    """
    moved = picked.tuned.float() - picked.base.float()
    if not moved.any():
        return None
    words = _classes(loaded.tokenizer, len(loaded.unembedding))
    with scaled_adapter(loaded, request.scale_lora):
        found = patchscope(loaded, moved, eta, layer, request.k, classes=words)
    tokens = _spelt(loaded.tokenizer, found.ids[0], found.shares[0])
    return Scope(tokens, float(found.scale[0]), float(found.score[0]))


@lru_cache(maxsize=2)
def _classes(tokenizer: Any, vocab: int) -> Int[np.ndarray, " vocab"]:
    """Spelling a whole vocabulary takes a second; a worker holds two models at most."""
    return word_classes(tokenizer, vocab)
