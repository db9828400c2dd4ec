"""What a handful of points can and cannot support, in words. Pure: numbers in, markdown out."""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from lib.metrics.statistics import RankTest
from lib.ui.orders import Confound, Steadiness
from lib.ui.powers import raised
from lib.ui.verdicts import chance, listed, number, order, signed


def correlation(
    found: Mapping[str, RankTest],
    several: Confound | None,
    steady: Mapping[str, Steadiness],
    outer: str,
    without: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Whether inner change predicts outer change within each model; what n allows is in limits.py.

    Args:
        found, several, steady, without: as lib/ui/orders.py gives them.
        outer: name of the outer axis.
    """
    if not found:
        return (
            "**Too few points for a rank correlation**: it needs at least three corpora of one "
            "model with both values."
        )
    said = [_one(*next(iter(found.items())), outer)] if len(found) == 1 else [_many(found, outer)]
    if several is not None:
        said.append(
            f"Mean within {number(len(found))} models, permuted within each: \u03c1 = "
            f"{signed(several.within.rho)} (n = {several.within.n}), "
            f"{'exact ' * several.within.exact}p = {p_value(several.within.p)}; ranks with each "
            f"model's mean taken off: {signed(several.partial.rho)} "
            f"({'exact ' * several.partial.exact}p = {p_value(several.partial.p)})."
        )
    said += [_without(model, left) for model, left in (without or {}).items() if model in found]
    said += _steady({model: steady[model].same_sign for model in found if model in steady})
    return " ".join(said)


def power(value: float, form: str = ".2g") -> str:
    """A number in a format, with a true minus and a raised exponent."""
    return raised(f"{value:{form}}").replace("-", "\u2212")


def p_value(p: float) -> str:
    """Two digits; under 0.001 as a power of ten."""
    return power(p, ".1e" if 0 < p < 0.001 else ".2g")


def _steady(kept: Mapping[str, float]) -> list[str]:
    """In how many draws each model's rho keeps its sign; a rho of 0 has none to keep."""
    shares = [f"{_draws(s)} of draws ({m})" for m, s in kept.items() if not math.isnan(s)]
    none = [model for model, share in kept.items() if math.isnan(share)]
    said = []
    if shares:
        said.append(
            "Under the numbers' own error (documents, and training seeds where repeated) \u03c1 keeps "
            f"its sign in {', '.join(shares)}."
        )
    if none:
        what = (
            "It is" if shares else "Whether \u03c1 keeps its sign under the numbers' own error is"
        )
        said.append(f"{what} not defined for {listed(none)}, because \u03c1 is 0 there.")
    return said


def _without(model: str, left: Mapping[str, float]) -> str:
    known = {corpus: rho for corpus, rho in left.items() if not math.isnan(rho)}
    if not known:
        return f"Without any one corpus there is no order left ({model})."
    low, high = (extreme(known, key=known.__getitem__) for extreme in (min, max))
    if known[high] - known[low] < 0.005:
        return f"Without any one corpus \u03c1 is {signed(known[low])} ({model})."
    return (
        f"Without one corpus \u03c1 is between {signed(known[low])} (without {low}) and "
        f"{signed(known[high])} (without {high}) on {model}."
    )


def _draws(share: float) -> str:
    """10,000 draws: nothing above 99 % is worth a digit."""
    return "over 99\u00a0%" if share > 0.99 else f"{100 * share:.0f}\u00a0%"


def _one(model: str, test: RankTest, outer: str) -> str:
    return (
        f"**Over {number(test.n)} corpora on {model}, the order of inner change is "
        f"{order(test.rho)} the order of {outer}: Spearman \u03c1 = {signed(test.rho)} "
        f"(n = {test.n}), exact p = {p_value(test.p)}.** With {number(test.n)} corpora an order at "
        f"least this strong happens by chance {chance(test.p)}."
    )


def _many(found: Mapping[str, RankTest], outer: str) -> str:
    each = "; ".join(
        f"{model} \u03c1 = {signed(t.rho)} (n = {t.n}, exact p = {p_value(t.p)}, by "
        f"chance {chance(t.p)})"
        for model, t in found.items()
    )
    return f"**Order of inner change against order of {outer}, Spearman within model: {each}.**"


def tested(hypotheses: pl.DataFrame) -> str:
    """How many orders the page can show, and what is left of the best after Holm's correction."""
    if hypotheses.is_empty():
        return "**No order can be tested yet**: no model has three corpora with both values."
    best = hypotheses.sort("p_holm", "p").row(0, named=True)
    over = hypotheses.filter(pl.col("p_holm") < 0.05).height
    n = len(hypotheses)
    verdict = "none is" if not over else f"{number(over)} {'is' if over == 1 else 'are'}"
    return (
        f"**Of the {n} orders that this page can show, {verdict} below p = 0.05 after Holm's "
        f"correction.** The smallest single p is {p_value(best['p'])} ({best['inner']} against "
        f"{best['outer']}, {best['over']}, n = {best['n']}); corrected for {n} tests it is "
        f"{p_value(best['p_holm'])}. Choosing the best-looking of {n} is no finding."
    )


def published(points: pl.DataFrame, n_cells: int, near: Mapping[str, Sequence[str]]) -> str:
    """What the twelve published cells hold, and what our own rule would say of them."""
    text = (
        f"{len(points)} of the {n_cells} cells have both values. The dotted cuts (55.4 and 0.587) "
        "are ours: any cuts between the same neighbours give the published labels."
    )
    if near:
        axes = [f"{name} on the {' and '.join(which)} axis" for name, which in near.items()]
        text += f" With the margin that we put on measured points, undecided: {listed(axes)}."
    return text + (
        " 'Delayed' behavioural capture is not shown: it needs the KL of Alpaca at 3B or 8B, which "
        "is not published."
    )


def confounded(found: Confound, models: int, illustration: bool) -> str:
    """Pooled against within, on the same points."""
    p, of = f"{p_value(found.within.p)}", "scale" if illustration else "model"
    said = (
        f"**Pooled over {number(models)} {of}s \u03c1 = {signed(found.pooled.rho)} "
        f"(n = {found.pooled.n}); within {of}s, on the same points, mean \u03c1 = "
        f"{signed(found.within.rho)}** (stratified permutation p = {p}); ranks with each {of}'s "
        f"mean taken off: {signed(found.partial.rho)} (p = {p_value(found.partial.p)})."
    )
    if illustration:
        said += (
            " Copies are no data, so these p values mean nothing. What they show: the pooled number "
            "follows how far the scales lie apart, whatever happens inside them. The published "
            "pooled \u03c1 is +0.71; it cannot be recomputed (four of twelve pairs are published), "
            "and copies with \u22120.80 inside every scale give up to +0.81."
        )
    elif found.pooled.rho * found.within.rho < 0:
        said += _opposite(found)
    return said


_LEVEL = 0.05


def _opposite(found: Confound) -> str:
    """What a pooled rho of the other sign says, which depends on what can be told from 0."""
    ps = f"pooled p = {p_value(found.pooled.p)}, within p = {p_value(found.within.p)}"
    pooled, within = found.pooled.p < _LEVEL, found.within.p < _LEVEL
    if pooled and within:
        return " Opposite signs: the pooled one is made by the differences between models."
    if not (pooled or within):
        return f" The signs are opposite, but neither differs from 0 ({ps})."
    which = "pooled one" if pooled else "one within models"
    return f" The signs are opposite, but only the {which} differs from 0 ({ps})."
