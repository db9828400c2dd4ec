"""The table of inner change beside its nulls: measures down, depths across. No Streamlit."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from lib.ui.internal import CONTROLS, FEW, GUARD, Against, Depth, span
from lib.ui.verdicts import signed

PROFILE = ("peak_ratio", "peak_ratio_low", "peak_ratio_high")
NONE = "not measured"

HOW = "how to read it"


def words(
    found: Sequence[Depth], profile: Mapping[str, object], peak: Mapping[str, Against]
) -> pl.DataFrame:
    """One row per measure, one column of text per depth, ``peak`` and ``how to read it``.

    Args:
        found: ``internal.depths``.
        profile: the experiment's row of table ``profile``; empty when it has none.
        peak: ``internal.peak`` of it.
    """
    top = f"{value(profile, 'peak_ratio', '.3f')}" if profile else NONE
    rows = [_row("ratio, held-out", found, lambda d: value(d.row, "ratio", ".3f"), top,
                 "cross over self error; 1 = no change; 95 % over documents")]  # fmt: skip
    for control, name in CONTROLS.items():
        rows += [
            _row(f"null: {name}", found, lambda d, c=control: span(d.ratio[c].draws),
                 span(peak[control].draws), "the same ratio where nothing was learned; n draws"),
            _row("\u2003over it; z", found, lambda d, c=control: over(d.ratio[c]),
                 over(peak[control]), "ratio / mean draw; z on logarithms"),
        ]  # fmt: skip
    rows += [
        _row(name, found, cell, "no in-sample peak" if cell is in_sample else "", how)
        for name, cell, how in _MORE
    ]
    return pl.DataFrame(rows)


def numbers(found: Sequence[Depth]) -> pl.DataFrame:
    """The same as numbers, one row per depth, for a file."""
    rows = []
    for d in found:
        row = {c: d.row[c] for c in _SAVED}
        for control, null in d.ratio.items():
            row |= {
                f"null_{control}_draws": len(null.draws),
                f"null_{control}_mean": sum(null.draws) / len(null.draws) if null.draws else None,
                f"ratio_over_{control}": null.over,
                f"z_{control}": null.z,
            }
        rows.append(row | {"in_sample_over_held_out": d.overfit, "denominator_limited": d.limited})
    return pl.DataFrame(rows, infer_schema_length=None)


def value(row: Mapping[str, object], column: str, form: str) -> str:
    """``1.200 (1.180 to 1.220)``; without an interval the value alone."""
    if row[column] is None:
        return NONE
    ends = [row[f"{column}_{end}"] for end in ("low", "high")]
    inside = "" if None in ends else f" ({ends[0]:{form}} to {ends[1]:{form}})"
    return f"{row[column]:{form}}{inside}".replace("-", "\u2212")


def over(null: Against) -> str:
    """``1.19 x; z = +12.3``, or what is not defined of it."""
    if null.over is None:
        return "not defined"
    if null.why == FEW:
        return f"{null.over:.3f}\u00d7; {FEW}"
    z = "not defined" if null.z is None else f"= {_z(null.z)}"
    return f"{null.over:.3f}\u00d7; z {z}"


def in_sample(d: Depth) -> str:
    """The in-sample ratio, or that it is withheld because it is overfitting."""
    if d.overfit is None:
        return NONE
    if d.overfit > GUARD:
        return f"withheld: {d.overfit:.1f}\u00d7 the held-out"
    return f"{d.row['ratio_in_sample']:.3f} ({d.overfit:.2f}\u00d7 the held-out)"


def massive(d: Depth) -> str:
    """``3 of 12,003 (41 % of the energy)``: tokens left out of this layer's numbers."""
    n, energy = d.row["massive_dropped"], d.row["massive_energy_base"]
    if n is None:
        return NONE
    total = d.row["n_tokens"] + n
    return f"{n:,} of {total:,}" + (f" ({100 * energy:.0f} % of energy)" if n and energy else "")


def _z(z: float) -> str:
    return signed(z) if abs(z) < 1 else f"{z:+.1f}".replace("-", "\u2212")


def _bound(d: Depth) -> str:
    bound = NONE if d.row["ratio_bound"] is None else f"{d.row['ratio_bound']:.2f}"
    return f"{bound}; denominator-limited: {d.limited}" if d.limited else bound


def _pair(d: Depth, one: str, two: str) -> str:
    return " / ".join(NONE if d.row[c] is None else f"{d.row[c]:.3f}" for c in (one, two))


def _share(d: Depth) -> str:
    share = d.row["peak_share"]
    return NONE if share is None else f"{100 * share:.0f} % of resamples"


def _centred(d: Depth) -> str:
    return NONE if d.row["ratio_centred"] is None else f"{d.row['ratio_centred']:.3f}"


_MORE: tuple[tuple[str, Callable[[Depth], str], str], ...] = (
    ("excess FVU", lambda d: value(d.row, "excess_fvu", ".4f"),
     "(cross - self error) / variance; 0 = no change; 95 %"),
    ("null: excess FVU", lambda d: span(d.excess, ".4f"), "both controls"),
    ("centred ratio", _centred, "mean change taken off; no interval is stored"),
    ("null: centred ratio", lambda d: span(d.centred), "both controls"),
    ("in-sample ratio", in_sample, f"withheld above {GUARD:g}\u00d7 the held-out: overfitting"),
    ("bound 1 / (1 \u2212 FVE self)", _bound, "what predicting the mean would score"),
    ("FVE self / cross", lambda d: _pair(d, "fve_self", "fve_cross"),
     "variance that own / base dictionary explains, held-out"),
    ("is the peak in", _share, "bootstrap over documents, all depths at once"),
    ("massive tokens dropped", massive, "norm above 5\u00d7 the median of the layer"),
    ("tokens", lambda d: f"{d.row['n_tokens']:,}", "n behind every number above, held-out"),
)  # fmt: skip
_SAVED = (
    "experiment_id", "layer", "depth", "ratio", "ratio_low", "ratio_high", "excess_fvu",
    "excess_fvu_low", "excess_fvu_high", "ratio_centred", "ratio_in_sample", "ratio_bound",
    "fve_self", "fve_cross", "peak_share", "massive_dropped", "massive_energy_base",
    "massive_energy_tuned", "n_tokens",
)  # fmt: skip


def _row(
    name: str, found: Sequence[Depth], cell: Callable[[Depth], str], peak: str, how: str
) -> dict[str, str]:
    columns = {f"layer {d.row['layer']} (depth {d.row['depth']:.2f})": cell(d) for d in found}
    return {"measure": name, **columns, "peak over depths": peak, HOW: how}
