"""Where else the difference can be looked at: at BOS, after nothing but spaces, far into a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.lens.pairs import Sample, resampled
from lib.lens.probe import Probed
from lib.lens.streams import single_differences
from lib.models import LoadedModel

SPACES = (" ", "\n", "\t", "\r\n", " \n", " \t", "\n\t", "\u00a0")
"""Repeated, and mixed, they are texts without a word."""
MIXED = 24
"""Texts of mixed spaces."""
FAR = (32, 64)
"""Where the far positions start; those past the end of the texts are left out."""


def elsewhere(
    loaded: LoadedModel,
    probed: Probed,
    long: Float[np.ndarray, "some seq d"],
    counts: Float[np.ndarray, "rows texts"],
    *,
    layer: int,
    far: Sequence[int] = FAR,
    seed: int = 0,
) -> dict[str, list[Sample]]:
    """What the mean difference of each position is compared with, by the check's name.

    Args:
        long: differences of the first of the probed texts at every position after BOS; NaN = left out.
        counts: how often each probed text counts in every resample.
    """
    rows, count = len(counts), probed.positions
    fits = [start for start in far if start + count <= long.shape[1]]
    here = counts[:, : len(long)]
    whole = np.isfinite(long[..., 0]).sum(1)[:, None]
    with np.errstate(invalid="ignore"):
        overall = np.nansum(long, axis=1) / whole
    return {
        "bos": [_exact(probed.bos[layer].numpy(), rows)] * count,
        **_without_words(loaded, probed, layer, rows, seed),
        **{f"far_{start}": samples(long[:, start : start + count], here) for start in fits},
        "demeaned": samples(overall[:, None], here) * count,
    }


def samples(
    values: Float[np.ndarray, "texts positions d"], counts: Float[np.ndarray, "rows texts"]
) -> list[Sample]:
    """One sample for each position, of the texts whose difference is not NaN there."""
    names = np.arange(len(values))
    found = []
    for position in range(values.shape[1]):
        kept = np.isfinite(values[:, position]).all(1)
        found.append(Sample(values[kept, position], counts[:, kept], names[kept]))
    return found


def _exact(vector: Float[np.ndarray, " d"], rows: int) -> Sample:
    """A difference that no text changes."""
    return Sample(vector[None], np.ones((rows, 1)), np.array([-1]), exact=True)


def _without_words(
    loaded: LoadedModel, probed: Probed, layer: int, rows: int, seed: int
) -> dict[str, list[Sample]]:
    """Texts of start tokens, and of spaces."""
    bos, count = loaded.tokenizer.bos_token_id, probed.positions
    only = single_differences(loaded, torch.full((1, count + 1), bos), layer).numpy()[0, 1:]
    found = {"bos_repeated": [_exact(vector, rows) for vector in only]}
    blank = whitespace(loaded.tokenizer, count, seed=seed)
    if len(blank):
        values = single_differences(loaded, blank, layer, probed.limits[layer]).numpy()[:, 1:]
        found["whitespace"] = samples(values, resampled(len(values), rows - 1, seed + 1))
    return found


def whitespace(
    tokenizer: Any, positions: int, *, mixed: int = MIXED, seed: int = 0
) -> Int[Tensor, "texts seq"]:
    """[BOS, tokens of spaces]: one text of each kind, and mixtures; seq = positions + 1.

    A tokenizer that merges long runs gets its tokens repeated; texts that it writes alike count once,
    those that it drops not at all.
    """
    length = 16 * positions
    drawn = np.random.default_rng(seed).integers(len(SPACES), size=(mixed, length))
    texts = [kind * length for kind in SPACES]
    texts += ["".join(SPACES[i] for i in row) for row in drawn]
    coded = tokenizer(texts, add_special_tokens=False).input_ids
    rows = dict.fromkeys(tuple((ids * positions)[:positions]) for ids in coded if ids)
    found = [[tokenizer.bos_token_id, *row] for row in rows]
    return torch.tensor(found, dtype=torch.long).reshape(len(found), positions + 1)
