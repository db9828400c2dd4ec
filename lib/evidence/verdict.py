"""What an ablation supports, as plain data: the comparison with each control, and the claim."""

from dataclasses import dataclass
from typing import NamedTuple

from lib.metrics.intervals import Interval


class Objection(NamedTuple):
    """One thing that stands against the claim."""

    kind: str
    """no_effect | reaches_zero | documents | no_controls | unfair | not_beaten"""
    control: str = ""
    """Which control, for the last two kinds."""


@dataclass(frozen=True)
class ControlVerdict:
    """The treated run against one control."""

    control: str
    draws: int
    shares: tuple[float, ...]
    """Share of KL reversed by each draw."""
    mean: Interval
    """Their mean; interval from resampling documents and draws."""
    percentile: float
    """97.5th: the smallest observed share that at least 97.5 % of the draws do not exceed."""
    p: float | None
    """(1 + draws at least as large as treated) / (draws + 1), one-sided; None where all draws are
    the same run."""
    advantage: Interval
    """Treated share minus the control's mean; interval from resampling documents and draws."""
    norm_ratio: float | None
    """Edit norm over the treated one's, at the depth where they differ most; None without edits."""
    beaten: bool
    """The treated interval's lower end is above ``percentile``."""
    unfair: str
    """Why this control cannot support a claim; empty = it can."""


@dataclass(frozen=True)
class CausalVerdict:
    """What one ablation supports. Shares are dimensionless, 1 = all of the output change undone."""

    intervention: str
    documents: int
    tokens: int
    """Scored tokens over all documents."""
    share: Interval | None
    """Of KL reversed by the treated run; None when the tuned model predicts exactly as base."""
    ceiling: Interval | None
    """The same with base activations patched in at the same places."""
    over_ceiling: Interval | None
    """Treated over ceiling."""
    over_ceiling_missing: str
    """Why ``over_ceiling`` or its interval is not defined; empty = both are."""
    interval_missing: str
    """Why ``share`` has no interval; empty = it has one."""
    controls: tuple[ControlVerdict, ...]
    against: tuple[Objection, ...]
    """Everything that stands against the claim, most basic first."""

    @property
    def claim(self) -> bool:
        """The treated edit carries the output change, and matched controls do not."""
        return not self.against

    @property
    def p(self) -> float | None:
        """The largest p over controls: every one of them has to be beaten."""
        return max((c.p for c in self.controls if c.p is not None), default=None)
