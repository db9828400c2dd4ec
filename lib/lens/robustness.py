"""The robustness panel: is the mean difference one vector that every context gets?

Asked for under the post that announced arXiv:2510.13900. Each check compares the mean difference of a
position with a difference somewhere else; lib/lens/shift.py explains and judges them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.lens.contexts import FAR, elsewhere, samples
from lib.lens.interpolation import differences_at, growth
from lib.lens.pairs import Sample, compare, halves, interval, resampled
from lib.lens.probe import Probed
from lib.lens.shift import Check
from lib.lens.spectrum import Spectrum, spectrum
from lib.lens.streams import single_differences
from lib.metrics.intervals import Interval
from lib.models import LoadedModel

FAR_TEXTS = 32
MOST_TEXTS = 256
"""Texts that are compared: the work grows with their square."""


class Robustness(NamedTuple):
    checks: tuple[Check, ...]
    """For the table lens_robustness."""
    vectors: dict[str, Float[Tensor, "_ d"]]
    """Whose tokens are to be read: demeaned, svd_1..3, bos (one row, no position), whitespace, far."""


def robustness(
    loaded: LoadedModel,
    probed: Probed,
    ids: Int[Tensor, "texts seq"],
    *,
    layer: int,
    far: Sequence[int] = FAR,
    far_texts: int = FAR_TEXTS,
    k: int = 20,
    draws: int = 1000,
    seed: int = 0,
    batch: int = 32,
) -> Robustness:
    """Every check at one layer.

    Args:
        probed: with ``layer`` among the layers kept.
        ids: the texts that were probed, longer than the positions if far ones are to be looked at
            (64 + positions tokens for all of them).
        far_texts: texts that are run in full length, for far positions and the overall mean.
        k: tokens per reading that the two heads are compared on.
        draws: resamples of the texts for the intervals.

    Raises:
        ValueError: the layer was not kept, or other texts than were probed.
    """
    if layer not in probed.raw or len(ids) != probed.texts:
        raise ValueError(
            f"the panel needs the single differences of layer {layer} on {len(ids)} texts; the probe "
            f"kept layers {sorted(probed.raw)} of {probed.texts}: probe the same texts, keep={layer}"
        )
    raw = probed.raw[layer][:MOST_TEXTS].double().numpy()
    counts = resampled(len(raw), draws, seed)
    texts = samples(raw, counts)
    full = ids[: min(far_texts, MOST_TEXTS)]
    long = single_differences(loaded, full, layer, probed.limits[layer], batch).numpy()[:, 1:]
    places = elsewhere(loaded, probed, long, counts, layer=layer, far=far, seed=seed)
    checks = []
    for j, text in enumerate(texts):
        sure = halves(text.vectors, seed=seed)
        known = sure if np.isfinite(sure) else None
        checks.append(Check("halves", j, "cosine", known, None, None, 1.0, len(text.vectors)))
    for name, found in places.items():
        for j, (place, text) in enumerate(zip(found, texts, strict=True)):
            checks += _compared(name, j, place, text)
    spectra = [spectrum(text.vectors) for text in texts]
    for j, (found, text) in enumerate(zip(spectra, texts, strict=True)):
        checks += _directions(j, found, len(text.vectors))
    means = probed.differences[layer].mean
    checks += [*_heads(loaded, means, k), *_growths(loaded, ids, layer, texts, batch)]
    return Robustness(tuple(checks), _vectors(means, places, spectra))


def _compared(name: str, position: int, place: Sample, text: Sample) -> list[Check]:
    got = compare(place, text)
    ratio = (got.left, 0.0) if name == "demeaned" else (got.norm_ratio, 1.0)
    rows = (("cosine", got.cosine, 1.0), ("norm_ratio", *ratio), ("share", got.share, 1.0))
    n = len(text.vectors if place.exact else place.vectors)
    return [_check(name, position, measure, *values, n) for measure, *values in rows]


def _check(
    name: str, position: int, measure: str, rows: Float[np.ndarray, " rows"], shift: float, n: int
) -> Check:
    return Check(name, position, measure, *(interval(rows) or (None, None, None)), shift, n)


def _directions(position: int, found: Spectrum, n: int) -> list[Check]:
    shares = [
        Check(f"svd_{i + 1}", position, "share", *_known(share), float(i == 0), n)
        for i, share in enumerate(found.shares)
    ]
    return [*shares, Check("svd_1", position, "cosine", *_known(found.cosine), 1.0, n)]


@torch.no_grad()
def _heads(loaded: LoadedModel, means: Float[Tensor, "positions d"], k: int) -> list[Check]:
    """Tokens in common of readings through the two heads.

    One row without a position where the heads are the same (an adapter on attention leaves final norm
    and unembedding alone): the overlap is then 1 by itself.
    """
    given = means.to(loaded.device, loaded.dtype)
    tuned = loaded.logits(loaded.causal_lm.model.norm(given))
    with loaded.as_base():
        base = loaded.logits(loaded.causal_lm.model.norm(given))
    k = min(k, tuned.shape[1])
    if torch.equal(tuned, base):
        return [Check("base_head", -1, "overlap", 1.0, None, None, 1.0, k)]
    top = [logits.topk(k, dim=1).indices.tolist() for logits in (tuned, base)]
    return [
        Check(
            "base_head", j, "overlap", len({*a} & {*b}) / k if still else None, None, None, 1.0, k
        )
        for j, (a, b, still) in enumerate(zip(*top, (means.norm(dim=1) > 0).tolist(), strict=True))
    ]


def _growths(
    loaded: LoadedModel, ids: Tensor, layer: int, texts: list[Sample], batch: int
) -> list[Check]:
    """Nothing where the adapter cannot be scaled down to the base."""
    short = ids[:MOST_TEXTS, : len(texts) + 1]
    found = differences_at(loaded, short, layer, batch=batch)
    checks: list[Check] = []
    for j, text in enumerate(texts if found else []):
        parts = {
            scale: Sample(values[text.texts, j + 1], text.counts, text.texts)
            for scale, values in found.items()
        }
        got = growth(parts, text)
        checks.append(_check("growth", j, "slope", got.slope, 1.0, len(text.vectors)))
        checks.append(_check("growth", j, "cosine", got.cosine, 1.0, len(text.vectors)))
    return checks


def _vectors(
    means: Float[Tensor, "positions d"],
    places: dict[str, list[Sample]],
    spectra: list[Spectrum],
) -> dict[str, Float[Tensor, "_ d"]]:
    mean_of = {
        name: torch.tensor(np.stack([_mean(place) for place in found]))
        for name, found in places.items()
    }
    kept = {"bos": mean_of["bos"][:1], "demeaned": means - mean_of["demeaned"]}
    if "whitespace" in mean_of:
        kept["whitespace"] = mean_of["whitespace"]
    far = [name for name in mean_of if name.startswith("far_")]
    if far:
        kept["far"] = mean_of[far[0]]
    for i in range(min(len(found.directions) for found in spectra)):
        kept[f"svd_{i + 1}"] = torch.tensor(np.stack([f.directions[i] for f in spectra]))
    return kept


def _mean(place: Sample) -> Float[np.ndarray, " d"]:
    """NaN where no text is left: nothing to read."""
    return place.vectors.sum(0) / (len(place.vectors) or np.nan)


def _known(found: Interval) -> tuple[float | None, ...]:
    return tuple(None if end is None or np.isnan(end) else end for end in found)
