"""What the robustness checks say, position by position, in words. Pure: checks in, markdown out."""

from collections.abc import Sequence

from lib.lens.shift import NO, UNSURE, YES, Check, Verdict, family, verdict
from lib.ui.verdicts import listed

NAMES = {
    "halves": "two halves of the texts", "bos": "start token", "bos_repeated": "start tokens only",
    "whitespace": "whitespace only", "demeaned": "mean over all positions",
    "base_head": "base head", "svd_1": "strongest direction", "svd_2": "second direction",
    "svd_3": "third direction", "growth": "growth with the adapter",
}  # fmt: skip
RULE = (
    "A check says no as soon as one position does, because position is context too, and yes only "
    "where every position does; else it cannot say. The checks together likewise."
)


def title(check: str) -> str:
    """A check by its name on the page."""
    if family(check) == "far":
        return f"{check.removeprefix('far_')} tokens further on"
    return NAMES.get(check, check)


def by_position(checks: Sequence[Check]) -> str:
    """A list: which deciding checks speak against one shift, which for it and which cannot say.

    Positions of which the same is to be said share an item; empty without a position.
    """
    said: dict[str, list[str]] = {}
    for position in sorted({check.position for check in checks if check.position >= 0}):
        found = verdict([check for check in checks if check.position == position])
        said.setdefault(_of_one(found), []).append(str(position))
    return "\n".join(
        f"- At position{'s' * (len(places) > 1)} {listed(places)}, {text}."
        for text, places in said.items()
    )


def _of_one(found: Verdict) -> str:
    parts = [
        _speak(found, NO, "speaks against one shift", "speak against one shift"),
        _speak(found, YES, "speaks for one shift", "speak for one shift"),
        _speak(found, UNSURE, "cannot say", "cannot say"),
    ]
    return "; ".join(part for part in parts if part) or "nothing was measured that could tell"


def _speak(found: Verdict, says: str, one: str, more: str) -> str:
    """``a and b speak against one shift``; that none does is said of against and for alone."""
    names = [f"*{title(answer.check)}*" for answer in found.that(says)]
    if names:
        return f"{listed(names)} {one if len(names) == 1 else more}"
    return "" if says == UNSURE or not any(a.decides for a in found.answers) else f"none {one}"
