"""What base perplexity says of novel features and both axes, in words: ours and the seeds'. Pure."""

import itertools
from collections.abc import Sequence

import polars as pl

from lib.metrics.statistics import spearman_exact
from lib.ui import limits
from lib.ui.claims import p_value
from lib.ui.novelty import KINDS, Null
from lib.ui.orders import WITHIN
from lib.ui.surprise import Counted
from lib.ui.verdicts import chance, listed, number, signed

PUBLISHED_RHO = -0.8
FEW = 10
"""A count below this is given without a quotient over its null."""
_PLACES = {1: "first", 2: "second", 3: "third", 4: "fourth"}


def verdict(found: Sequence[Counted], whose: str = "Ours: rank") -> str:
    """What the panels say, one line each, with n and exact p; and the first against the seeds' sign.

    Args:
        found: of ``surprise.tests``.
    """
    if not found:
        return "**No experiment has a base perplexity and a value to set against it.**"
    several = len({c.over for c in found if c.over and c.over != WITHIN}) > 1
    lines = [
        f"- {title}: " + "; ".join(_one(c, several=several) for c in group)
        for title, group in itertools.groupby(found, key=lambda c: c.panel.title)
    ]
    return "\n".join([f"**{whose} correlation of base perplexity with**", *lines])


def sign(found: Sequence[Counted]) -> str:
    """Whether our correlation with novel features has the published sign; empty without one."""
    tests = [c.test for c in found if c.panel.column == "novel" and c.test is not None]
    if not tests:
        return ""
    signs = {-1 if t.rho < -0.005 else 1 if t.rho > 0.005 else 0 for t in tests}
    said = {-1: "the published sign", 1: "the opposite of the published sign", 0: "no sign"}
    which = said[signs.pop()] if len(signs) == 1 else "no one sign over these models"
    return f"With novel features ours has {which}; by chance it has either as often."


def allowed(found: Sequence[Counted], hypotheses: pl.DataFrame) -> str:
    """What n allows, and what is left of the best order after Holm's correction.

    Args:
        found: of ``surprise.tests``.
        hypotheses: every order that the page can show, as ``orders.hypotheses``.
    """
    single = [c for c in found if c.test is not None and c.over != WITHIN]
    alone = len({c.over for c in single}) == 1
    parts = [limits.for_corpora(n, alone=alone) for n in sorted({c.test.n for c in single})]
    if not hypotheses.is_empty():
        best = hypotheses.sort("p_holm", "p").row(0, named=True)
        parts.append(
            f"Of {len(hypotheses)} orders that this page can show the smallest p is "
            f"{p_value(best['p'])} ({best['inner']}, {best['over']}); after Holm's correction "
            f"{p_value(best['p_holm'])}."
        )
    return " ".join(parts)


def _one(c: Counted, *, several: bool) -> str:
    over = f" ({c.over})" if several and c.over else ""
    if c.test is None:
        return f"**not defined because** {c.why}{over}"
    return (
        f"\u03c1 = {signed(c.test.rho)}{over}, n = {c.test.n}, "
        f"{'exact ' * c.test.exact}p = {p_value(c.test.p)}"
    )


def claim() -> str:
    """The seeds' own claim with what four corpora allow."""
    test = spearman_exact(range(4), (3, 1, 2, 0))
    left = possible_orders()
    places = sorted({5 - order[-1] for order in left})
    return (
        f"**Published, at 70B: \u03c1 = {signed(test.rho)} between base perplexity and novel "
        f"features (n = {test.n}).** Exact p = {p_value(test.p)}: with four corpora an order at least "
        f"this strong happens by chance {chance(test.p)}, and none can reach p < 0.05 (the smallest is "
        f"{test.p_min:.3f}). It cannot be recomputed: two of four perplexities are published (Marcus "
        "4.4, DTC 14.5) and no count. With Marcus lowest in perplexity and highest in novel "
        f"features, {number(len(left))} of 24 orders give {signed(test.rho)}; in them DTC is "
        f"{' or '.join(_PLACES[place] for place in places)} of four in novel features."
    )


def possible_orders() -> list[tuple[int, ...]]:
    """Ranks of novelty (4 = most), in order of rising perplexity, that fit what is published."""
    return [
        order for order in itertools.permutations((1, 2, 3, 4))
        if order[0] == 4
        and abs(spearman_exact((1, 2, 3, 4), order).rho - PUBLISHED_RHO) < 1e-9
    ]  # fmt: skip


def counted(runs: pl.DataFrame, kind: str, null: Null) -> str:
    """How many novel features there are, how many their null has, and what the dictionaries see.

    Args:
        runs: of ``surprise.points``: one row per training.
    """
    known = runs.drop_nulls("count")
    if known.is_empty():
        return "No crosscoder has been trained: novel features are not measured."
    total, alive = int(known["count"].sum()), int(known["alive"].sum())
    low, high = known["fve_low"].min(), known["fve_high"].max()
    span = "" if low is None else " to ".join(dict.fromkeys(f"{100 * v:.0f}" for v in (low, high)))
    seen = span and (
        f" The crosscoders explain {span} % of the variance of the difference; what they do not see "
        "they cannot find new."
    )
    few = f" Counts under {FEW} are given without a quotient." if known["count"].min() < FEW else ""
    return (
        f"Novel features ({KINDS[kind]}): {total:,} of {alive:,} alive latents in "
        f"{number(len(known))} trainings, all measured depths.{_null(known, null)}{seen}{few}"
    )


def _null(known: pl.DataFrame, null: Null) -> str:
    controls = known.drop_nulls("null_count")
    if controls.is_empty():
        return (
            " Their null count (base against base plus a random LoRA) is not measured, so none is "
            "taken off."
        )
    draws = int(controls["null_draws"].sum())
    text = (
        f" In the {number(len(controls))} with a null control: {int(controls['count'].sum()):,} "
        f"against {controls['null_count'].sum():g} where nothing was learned (random LoRA, {draws} "
        "draws)."
    )
    if null == "kept":
        return f"{text} The null is not taken off in the figure."
    without = known.filter(pl.col("novel").is_null())["name"].to_list()
    if without:
        text += f" Without a null, so not in the first panel: {listed(without)}."
    if null == "model":
        text += (
            " The share of all null draws of a model is taken off each of its points: single draws "
            "hold too few novel latents to be taken off one by one, and orders stay as they were."
        )
    return text
