"""What this many corpora and models can and cannot support, in words; computed, not typed in."""

from collections.abc import Sequence

import polars as pl

from lib.metrics.attainable import Attainable, attainable
from lib.ui.labelling import family
from lib.ui.orders import per_corpus
from lib.ui.powers import raised
from lib.ui.verdicts import listed, number, signed


def said(points: pl.DataFrame) -> str:
    """Limits of each model's number of corpora, of all models together, and of two models.

    Args:
        points: as ``lib.ui.orders`` takes them.
    """
    counts = dict(per_corpus(points).group_by("model", maintain_order=True).len("n").iter_rows())
    alone = len(counts) == 1
    parts = [for_corpora(n, alone=alone) for n in sorted(set(counts.values()))]
    if len(counts) > 1:
        parts += [together(list(counts.values())), families(list(counts))]
    return " ".join(part for part in parts if part)


def for_corpora(n: int, *, alone: bool = True) -> str:
    """What one model with n corpora can reach: nothing with 3 or 4, from 5 on the rho it takes.

    Args:
        alone: no other model is shown.
    """
    found = attainable([n])
    if found is None:
        return (
            f"{number(n).capitalize()} corpora can reach any p that matters; what limits them is "
            "that they were chosen, not drawn."
        )
    if found.needed is None:
        start = "No result" if alone else "Within one model no result"
        return f"{start} on {number(n)} corpora can reach p < 0.05 (the smallest is {_p(found.p_min)})."
    start = "With" if alone else "Within one model with"
    return (
        f"{start} {number(n)} corpora p < 0.05 takes {_at_least(found)}; the smallest p is "
        f"{_p(found.p_min)}."
    )


def together(sizes: Sequence[int]) -> str:
    """What several models can reach when orders are permuted within each."""
    found = attainable(sizes)
    over = f"Over {number(len(sizes))} models together ({' + '.join(map(str, sizes))} points)"
    if found is None:
        return ""
    if found.needed is None:
        return f"{over} nothing can reach p < 0.05 either (the smallest is {_p(found.p_min)})."
    return (
        f"{over}, permuted within each, p < 0.05 takes a mean {_at_least(found)}; the smallest p is "
        f"{_p(found.p_min)}. The same corpora in both models are not independent draws of corpora: "
        "such a p speaks of these corpora, not of corpora in general."
    )


def families(models: Sequence[str]) -> str:
    """Whether these models can tell a scale from a family."""
    found = {family(model) for model in models}
    if len(models) < 2 or len(found) < len(models):
        return ""
    return (
        f"**Scale and family cannot be told apart here**: {listed(list(models))} differ in both at "
        "once, so a difference between them is not an effect of scale."
    )


def _at_least(found: Attainable) -> str:
    if found.needed is None:
        raise ValueError(f"no order of {found.n} points reaches the level")
    if found.needed > 0.999:
        return "a perfect order (|\u03c1| = 1)"
    return f"|\u03c1| of {signed(found.needed).lstrip('+')} or more"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else raised(f"{p:.1e}")
