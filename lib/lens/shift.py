"""Is the mean difference one context-independent shift? What each check of the panel says.

No torch here: pages judge stored checks.

A fine-tune that only adds one vector gives the same difference at every position of every text, at BOS,
after nothing but spaces, and far into a document. Every check holds the mean difference against that,
and the thresholds follow from it:

* ``share`` (lib/lens/pairs.py): subtracting one vector from the other takes off at least half of the
  longer one's squared length, so what they have in common outweighs what they do not. It asks for the
  same direction and the same length.
* ``cosine``: at least sqrt(1/2), the same of the direction alone.
* ``slope``: nearer to 1 (a shift grows with the adapter's strength) than to 0 or 2.

A check says yes or no where its whole interval does, and cannot say where the interval holds the
threshold, or where the differences are no longer than their noise. Over positions: yes where all say
yes, no where one says no, since position is context too.
"""

from collections.abc import Sequence
from typing import NamedTuple

EXPLAINED = {
    "halves": "two random halves of the texts: how reliable the mean difference is",
    "bos": "the difference at the start token, which no text can change",
    "bos_repeated": "a text of nothing but start tokens",
    "whitespace": "texts of nothing but spaces, tabs and line ends",
    "far": "the same texts, as many positions further on as the name says",
    "demeaned": "against the mean over all positions of all texts; norm ratio: what remains without it",
    "base_head": "tokens read through the base's head instead of the tuned model's",
    "svd_1": "the strongest direction of the single differences, against their mean",
    "svd_2": "the second direction",
    "svd_3": "the third direction",
    "growth": "the adapter at parts of its strength: log length against log strength",
}
"""What each check looks at; the names of far checks carry the position that they start at (far_32)."""

HALF = 0.5
_ALONG = HALF**0.5
_CONTEXT = ("whitespace", "far", "demeaned", "svd_1")
"""Checks that decide: they change text or position. ``growth`` changes the adapter, ``base_head`` the
reader, and neither tells a shift from a change that depends on context. The start token is answered for
but does not decide: many models park attention there, with activations tens of times longer than at any
other token, and an edit of such a token is no measure of the others (lib/metrics/massive.py)."""
_START = ("bos", "bos_repeated")
_BOUNDS = {
    **{(name, "share"): (HALF, None) for name in (*_START, *_CONTEXT)},
    ("svd_1", "cosine"): (_ALONG, None),
    ("growth", "slope"): (HALF, 2 - HALF),
    ("growth", "cosine"): (_ALONG, None),
}
YES, NO, UNSURE = "yes", "no", "cannot say"


class Check(NamedTuple):
    """One number of the panel."""

    name: str
    """A key of ``EXPLAINED``."""
    position: int
    """Of the mean difference, 0 = first token after BOS; -1 = over positions."""
    measure: str
    """cosine | norm_ratio | share | slope | overlap"""
    value: float | None
    """None = not defined: one of the differences is no longer than its noise."""
    low: float | None
    high: float | None
    """95 % over resampled texts."""
    shift: float
    """What one context-independent vector gives."""
    n: int
    """Texts; tokens for an overlap."""


class Answer(NamedTuple):
    """Of one check, over its positions."""

    check: str
    says: str
    """yes | no | cannot say"""
    yes: int
    no: int
    positions: int
    value: float | None
    """Middle value over positions of what decides: the share, for growth the slope."""
    decides: bool
    """Whether the check can tell a shift from a change that depends on context."""


class Verdict(NamedTuple):
    says: str
    """yes: all checks of context do; no: one says no; otherwise cannot say."""
    answers: tuple[Answer, ...]

    def that(self, says: str) -> tuple[Answer, ...]:
        """Deciding checks that say this."""
        return tuple(a for a in self.answers if a.decides and a.says == says)

    @property
    def in_words(self) -> str:
        """One sentence with the numbers of checks, and of positions where one says no."""
        total = sum(a.decides for a in self.answers)
        parts = []
        for says in (YES, NO, UNSURE):
            names = [
                f"{a.check} at {a.no} of {a.positions} positions" if says == NO else a.check
                for a in self.that(says)
            ]
            verb = says if says == UNSURE else f"say {says}"
            parts += [f"{len(names)} {verb} ({', '.join(names)})"] if names else []
        start = {YES: "One context-independent shift", NO: "Not one context-independent shift"}
        opening = start.get(self.says, "Open whether it is one context-independent shift")
        return f"{opening}: of {total} checks, {'; '.join(parts)}." if total else f"{opening}."


def verdict(checks: Sequence[Check]) -> Verdict:
    """What the checks say, each and together; see the module for the thresholds."""
    names = dict.fromkeys(c.name for c in checks)
    answers = tuple(_answer(n, [c for c in checks if c.name == n]) for n in names if _judged(n))
    context = [a.says for a in answers if a.decides]
    if NO in context:
        return Verdict(NO, answers)
    return Verdict(YES if context and set(context) == {YES} else UNSURE, answers)


def family(name: str) -> str:
    """The key of ``EXPLAINED``: far_32 and far_64 are one kind of check."""
    return "far" if name.startswith("far_") else name


def _judged(name: str) -> bool:
    return name == "base_head" or any(family(name) == check for check, _ in _BOUNDS)


def _answer(name: str, checks: list[Check]) -> Answer:
    by_position: dict[int, list[str]] = {}
    for check in checks:
        bounds = _BOUNDS.get((family(name), check.measure))
        if bounds is not None:
            by_position.setdefault(check.position, []).append(_says(check, *bounds))
    each = [_all(said) for said in by_position.values()]
    main = "slope" if name == "growth" else "share"
    values = sorted(c.value for c in checks if c.measure == main and c.value is not None)
    return Answer(
        check=name,
        says=_all(each) if each else UNSURE,
        yes=each.count(YES),
        no=each.count(NO),
        positions=len({c.position for c in checks}),
        value=values[len(values) // 2] if values else None,
        decides=family(name) in _CONTEXT,
    )


def _says(check: Check, least: float, most: float | None) -> str:
    if check.value is None or check.low is None or check.high is None:
        return UNSURE
    if check.low >= least and (most is None or check.high <= most):
        return YES
    return NO if check.high < least or (most is not None and check.low > most) else UNSURE


def _all(said: Sequence[str]) -> str:
    if NO in said:
        return NO
    return YES if set(said) == {YES} else UNSURE
