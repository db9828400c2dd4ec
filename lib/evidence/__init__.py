"""What a measurement supports: statistics and sentences over finished results. No torch, no model.

``causal.judge`` turns the runs of a live ablation into a claim, or into the reason why there is
none; ``wording.sentence`` says it.
"""

from lib.evidence.causal import judge
from lib.evidence.verdict import CausalVerdict, ControlVerdict, Objection
from lib.evidence.wording import sentence

__all__ = ["CausalVerdict", "ControlVerdict", "Objection", "judge", "sentence"]
