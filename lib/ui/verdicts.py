"""What a figure says, in words with n and interval. Pure: numbers in, markdown out."""

import math
from collections.abc import Sequence

import polars as pl

from lib.figures.layers import Metric

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def number(n: int) -> str:
    """A small number as a word."""
    return _NUMBERS[n] if 0 <= n < len(_NUMBERS) else str(n)


def signed(rho: float) -> str:
    """Two decimals and a sign; 0.00 has none."""
    return "0.00" if abs(rho) < 0.005 else f"{rho:+.2f}".replace("-", "\u2212")


def chance(p: float) -> str:
    """A probability as a frequency: ``one time in three``, ``67 % of the time``, ``every time``."""
    if p >= 0.995:
        return "every time"
    every = round(1 / p)
    if every > 1 and abs(p * every - 1) < 1e-6:
        return f"one time in {number(every)}"
    return f"{100 * p:.2g} % of the time"


def order(rho: float) -> str:
    """What a rank correlation says of two orders."""
    words = (
        (-0.999, "exactly the reverse of"), (-0.7, "nearly the reverse of"),
        (-0.3, "partly the reverse of"), (0.3, "unrelated to"), (0.7, "partly the same as"),
        (0.999, "nearly the same as"),
    )  # fmt: skip
    return next((text for limit, text in words if rho <= limit), "exactly the same as")


def peaks(layers: pl.DataFrame, metrics: Sequence[Metric], late: int | None) -> str:
    """Where each metric of one experiment is largest, with value and interval."""
    found = []
    for metric in metrics:
        rows = layers.drop_nulls(metric.column).sort(
            metric.column, "layer", descending=[True, False]
        )
        if rows.is_empty():
            found.append(f"{_plain(metric)} was not measured")
            continue
        top = rows.row(0, named=True)
        low, high = top[f"{metric.column}_low"], top[f"{metric.column}_high"]
        span = "" if low is None else f" (95\u00a0% {_short(low)} to {_short(high)})"
        where = ", one of the last 30\u00a0%" if late is not None and top["layer"] >= late else ""
        found.append(
            f"{_plain(metric)} peaks at layer {top['layer']} of {number(len(rows))} measured{where}: "
            f"{_short(top[metric.column])}{span}"
        )
    return "; ".join(found) + "."


def trained(dictionaries: pl.DataFrame) -> str:
    """Whether the dictionaries of one experiment reached their plateau, in one sentence."""
    if dictionaries.is_empty():
        return "**No dictionary has been trained yet.**"
    n = len(dictionaries)
    flat = dictionaries.filter(stopped="flat").height
    shrunk = dictionaries.filter(pl.col("latents") < pl.col("latents_asked")).height
    difference = dictionaries["fve_difference"].drop_nulls()
    seen = ""
    if len(difference):
        low, high = (f"{100 * share:.0f} %" for share in (difference.min(), difference.max()))
        span = low if low == high else f"{low} to {high}"
        seen = f" The crosscoders explain {span} of the variance of the difference."
    return (
        f"**{flat} of {n} dictionaries stopped because their held-out FVE was flat**, {n - flat} "
        f"at the step limit; {shrunk} of {n} shrank for want of text.{seen}"
    )


def adapter(losses: pl.DataFrame) -> str:
    """How far the training loss of the fine-tune fell, over means of its first and last steps."""
    values = losses.sort("step")["loss"]
    if len(values) < 2:
        return "**No loss curve was recorded.**"
    k = min(5, len(values) // 2)
    first, last = float(values.head(k).mean()), float(values.tail(k).mean())
    return (
        f"**The training loss went from {first:.2f} to {last:.2f} nats per token** (means of the "
        f"first and last {number(k)} of {len(values)} steps). A fixed number of steps is the "
        "recipe, not a plateau: the adapter is compared as it is."
    )


def compute(share: float | None) -> str:
    if not share:
        return (
            "No share of the base model's training compute is given: the fine-tune's or the base's "
            "is not on record."
        )
    side = "below" if share < 1 / 3 else "at or above"
    exponent = math.floor(math.log10(share))
    return (
        f"The fine-tune took ${share / 10**exponent:.1f} \\times 10^{{{exponent}}}$ of the base "
        f"model's training compute, {side} one third."
    )


def _short(value: float) -> str:
    return f"{value:#.3g}"


def _plain(metric: Metric) -> str:
    return metric.title.split(",")[0]


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
