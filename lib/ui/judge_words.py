"""What the LLM judge's stored judgements say, in words, and how they are defined."""

from collections.abc import Sequence

from lib.llm.judge import NONE, Chosen, Marked, Overlap
from lib.llm.judge_runs import best_own, relevance_total, scale_total
from lib.llm.transcripts import Record
from lib.metrics.shares import wilson
from lib.metrics.statistics import holm
from lib.ui.lens_words import number
from lib.ui.links import quoted

DEFINITION = """
- **Scale**: Patchscope is read at 30 scales and the local rule keeps one list per position. The judge
  sees every different list, in another order each time, knows nothing of the corpus, and names the
  most coherent or none. Most votes of its repeats count; among equals the smallest scale.
- **Relevance** (after Minder, Dumas et al. 2025, arXiv:2510.13900): the judge knows the corpus' name,
  description and frequent words and marks the relevant ones of 20 tokens, in three permutations; a
  token counts when all three mark it. It is a share of *tokens*. Beside it stands the share of
  *distinct words* that are the corpus' own, with its hypergeometric p, Holm over positions. For both
  the best of five positions is named.
- **Agreement**: Krippendorff's alpha between repeats (ordinal over scales) or permutations (nominal
  over tokens), 1 = always the same, 0 = as by chance. It says how steady one judge is, not whether it
  is right.
- **Similarity by embeddings**: as in *Steering*, with cosines of an embedding model, -1 to 1.
"""


def scale_sentence(record: Record, found: Sequence[Chosen]) -> str:
    """How the judge's scales stand to the local rule's, how steady they are, and whose words result."""
    if not found:
        return "**Patchscope reads nothing at any scale**, so there was nothing to judge."
    total = scale_total(found)
    n = f"{total.positions} position{'s' * (total.positions != 1)}"
    who = quoted(record["model"])
    told = f"**Scale: {who} names the local rule's list at {total.as_local} of {n}**"
    told += f", no list as coherent at {total.none}. " if total.none else ". "
    told += (
        f"All {record['repeats']} repeats say the same at {total.alike} ({_alpha(total.alpha)}). "
        "The corpus' own among the distinct words read, at the best position: judge "
        f"{_best([(one.position, one.own) for one in found])}, local rule "
        f"{_best([(one.position, one.local_own) for one in found])}."
    )
    return told + (f" {total.malformed} answers were malformed." if total.malformed else "")


def relevance_sentence(record: Record, reading: str, found: Sequence[Marked]) -> str:
    """Share of relevant tokens at the best position, the corpus' own words, agreement."""
    total = relevance_total(found)
    steady = f"{_alpha(total.alpha)}, {total.tokens} tokens"
    own = "no word was read"
    if total.own is not None:
        p = holm([one.own.p for one in found])[list(found).index(total.own)]
        own = (
            f"by words alone {share(total.own.own)} at position {total.own.position}, the best "
            f"(by chance {total.own.own.expected:.2g}; p = {number(float(p))} after Holm)"
        )
    name = reading[0].upper() + reading[1:]
    if total.best is None or total.best.relevant is None:
        return f"**{name}: no position was fully judged**, an answer was malformed at each; {own}."
    held = wilson(len(total.best.relevant), len(total.best.tokens))
    return (
        f"**{name}: {len(total.best.relevant)} of {len(total.best.tokens)} tokens are relevant to "
        f"{record['corpus']}** (95 % {100 * held.low:.0f} to {100 * held.high:.0f} %) at position "
        f"{total.best.position}, the best of {total.judged} judged by {quoted(record['model'])} "
        f"({steady}); {own}."
    )


def _best(found: Sequence[tuple[int, Overlap | None]]) -> str:
    top = best_own(found)
    return "no word" if top is None else f"{share(top[1])} (position {top[0]})"


def share(found: Overlap) -> str:
    """``3 of 12``: own words of distinct words."""
    return f"{found.overlap} of {found.read}"


def _alpha(value: float | None) -> str:
    told = "not defined: too few, or all alike" if value is None else f"{value:.2f}"
    return f"Krippendorff's alpha {told}"


def named(scale: float | None) -> str:
    """A choice of the judge."""
    return "malformed" if scale is None else "none" if scale == NONE else f"{scale:g}"
