"""What the pointer tells of one point: its label, its nulls, its training seeds. No Streamlit."""

from collections.abc import Mapping, Sequence

from lib.metrics.support import Judgement
from lib.ui.nulls import Reach


def label(judgement: Judgement, timed: str, unbounded: Sequence[str] = ()) -> str:
    """The label's support, which axis is undecided, and on which none of the error is known.

    Args:
        unbounded: axes without an interval.
        timed: the label with its course, as ``labelling.timed``.
    """
    if not judgement.support:
        return "no cuts: neither high nor low"
    best = max(judgement.support, key=judgement.support.__getitem__)
    share = f"{best} in {100 * judgement.support[best]:.0f} % of draws"
    if unbounded:
        share += f" (no interval on the {' and '.join(unbounded)} axis: its error counts as 0)"
    if judgement.undecided:
        return f"{' and '.join(judgement.undecided)} undecided; {share}"
    return share if timed == judgement.label else f"{timed}; {share}"


def null(reach: tuple[Reach | None, Reach | None]) -> str:
    """What the null controls of the point's model reach on both axes."""
    inner, outer = _range(reach[0]), _range(reach[1], " nats")
    return f"null of this model: inner {inner}; outer {outer}"


def seeds(row: Mapping[str, object]) -> str:
    """Spread over training seeds, or that there is one.

    Args:
        row: columns seeds, x_sd, y_sd (over seeds, null with one).
    """
    if row["x_sd"] is None or row["y_sd"] is None:
        return "one training seed: its spread is not known"
    return (
        f"mean of {row['seeds']} training seeds; sd over them {row['x_sd']:.2g} inner, "
        f"{row['y_sd']:.2g} nats outer"
    )


def counts(row: Mapping[str, object]) -> str:
    """n of a single training, and the axes on which it has no interval.

    Args:
        row: columns n_tokens, n_documents, x_low, y_low (null = no interval).
    """
    bare = [axis for axis, low in (("inner", "x_low"), ("outer", "y_low")) if row[low] is None]
    lacks = f"; no interval on the {' and '.join(bare)} axis" if bare else ""
    return f"{row['n_documents']} documents, {row['n_tokens']:,} tokens{lacks}"


def _range(reach: Reach | None, unit: str = "") -> str:
    if reach is None:
        return "not measured"
    ends = f"{reach.low:.4g} to {reach.high:.4g}{unit}"
    return f"{ends} ({reach.draws} draw{'s' * (reach.draws != 1)})"
