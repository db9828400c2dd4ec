"""What is said of paths in the plane. Part of definitions.py."""

PATHS: dict[str, str] = {
    "Paths": r"""
One experiment with one thing varied, all points on the same first tokens of the same few held-out
documents, without dictionaries. *Rank*: trained alike with $\alpha / r$ kept. *Training
checkpoint*: steps of one training as long as the last of them, with the schedule of that length, so
its step 50 is not the experiment of 50 steps. *Scale*: $s\,(\alpha/r)\,BA$ of the
experiment's own adapter. *Share of neutral text*: parts of neutral text in each training step for
each part of the corpus, which is seen as often. Inner change: $1 - \mathrm{CKA}$ (debiased) or
relative displacement, over corpus and neutral text together, at one layer, the largest over layers,
or their mean (its bounds are the mean of the layers', as if they erred together: the widest that it
can be). **Cuts** are the upper ends of the model's random adapters, reduced over layers in the same
way, at least 0.005 inner and 0.02 nats outer.
""",
    "Course of a path": r"""
A point is high or low on an axis by the rule of *Regimes*: outside a factor 1.28 of the cut and on
one side in 90 % of draws. **Delayed**: the inner is high at a value at which the output is decided
low, and the output is high at none before. *Together*: the first value with a high inner is the
first with a high output; what lies between two values is not seen. Value 0 (no adapter, or an
untrained one) moves nothing, so it counts as no earlier point. On Points, *with its course* reads
the checkpoints and ranks below the experiment's own; for inner metrics that need dictionaries only
the output is known there.
""",
    "Small-change law": r"""
For an adapter scaled by a small $s$: $\mathrm{KL} \sim s^2$ (with logits $a + s u$ it is
$\tfrac{s^2}{2}\operatorname{Var}_p(u)$), relative displacement $\sim s$, and
$1 - \mathrm{CKA} \sim s^2$: CKA is the cosine of two Gram matrices, whose first order in $s$
cancels (a change that is one rotation, scale or offset for all tokens leaves it at 1). So in the
plane $\mathrm{KL}$ grows with the first power of $1 - \mathrm{CKA}$ and the
second of relative displacement: the dashed line.
**Slope**: least squares of $\ln y$ on $\ln s$, over the two smallest scales and up to $s = 1$; its
interval propagates those of the points as independent log-normals. They share documents, whose
common part cancels, so it is rather too wide; lack of fit is not in it. **Left at**: the first $s$
at which $y$ differs from $y_1 (s/s_1)^p$ by more than the 95 % of both points together. The
smallest scale is not zero: a law already left there shows as a slope that differs near it.
""",
    "Neutral text in training": r"""
The published remedy against readable traces (arXiv:2510.13900) mixes other text into the fine-tune.
Here: KL on neutral text, inner change, and the **offset share** (what part of the squared change is
one vector for all tokens, which is what a lens reads), with and without it. *Falls* or *rises* is
said only of 95 % intervals that do not overlap. A mixture can look milder because it learned less,
so the unmixed adapter is also weakened until it has the same loss on held-out corpus text (**equal
learning**), linear between the points of the scale path.
""",
}
