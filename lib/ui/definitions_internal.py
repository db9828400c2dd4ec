"""What the inner numbers mean: reconstruction, CKA, displacement, nulls, novel features.

Markdown as in definitions.py, which puts these first.
"""

from lib.ui.internal import GUARD, LIMITED, SATURATED

INTERNAL: dict[str, str] = {
    "Reconstruction ratio": r"""
Two sparse autoencoders of one shape are trained on the same tokens, $S_b$ on the base model's
activations, $S_f$ on the tuned model's. On **held-out** documents

$$
R(\ell) = \frac{\mathrm{E}\,\lVert x_f - S_b(x_f)\rVert^2}
{\mathrm{E}\,\lVert x_f - S_f(x_f)\rVert^2}
$$

cross error over self error, squared norms, each at least $10^{-4}\,\mathrm{Var}(x_f)$. 1 = the base
dictionary serves the tuned model as well as its own does. *Centred*: the mean difference
$\mathrm{E}[x_f - x_b]$ is taken off what $S_b$ sees, so a constant offset does not count. The published
study does not state its formula; this is the reading that fits its text best (A. Blackwell, "The
Internal-Output Decorrelation"; the earlier post "The Pattern Holds" reports the gap under its SAE
analysis).
""",
    "Peak ratio": r"""
$\max_\ell R(\ell)$ over the dictionary depths, the same relative depths for every model (0.25, 0.5,
0.75, 0.9). A largest value is biased upwards by noise, so every resample of the documents recomputes
all depths and takes its own largest: the interval includes the choice of the depth. *Is the peak in*:
share of the resamples in which that depth is the largest. Null draws take their own largest, too.
""",
    "Warning lights": rf"""
*In-sample*: $R$ on training tokens. It can be large from overfitting alone (two dictionaries of 512
synthetic tokens: tens of thousands in sample, 1.1 held out), so above {GUARD:g} times the held-out
ratio it is withheld, and no in-sample peak is ever given. *Bound*: predicting the mean would score
$1/(1-\mathrm{{FVE}}_{{\text{{self}}}})$. A ratio of {LIMITED:g} of the bound or more, or an
$\mathrm{{FVE}}_{{\text{{self}}}}$ above {SATURATED}, is **denominator-limited**: it then says how good
the tuned dictionary is, whatever changed. Both limits are ours; the bound follows from the formula.
""",
    "Excess FVU": r"""
$$
X(\ell) = \frac{\mathrm{E}\,\lVert x_f - S_b(x_f)\rVert^2
- \mathrm{E}\,\lVert x_f - S_f(x_f)\rVert^2}{\mathrm{Var}(x_f)}
$$

The share of the tuned activations' variance that the base dictionary misses and their own does
not: the numerator of the ratio without its small denominator. 0 = no change; slightly negative
by chance. Bounded and additive, so it is the number to read where a ratio is denominator-limited.
""",
    "FVE": r"""
Fraction of variance explained, $1 - \mathrm{E}\lVert x - \hat x\rVert^2 / \mathrm{Var}(x)$, on
held-out documents: 1 = perfect, 0 = no better than the mean. **FVE of the difference** is the
same for $x_f - x_b$ and $\hat x_f - \hat x_b$ of a crosscoder: the share of the change that its
latents see at all. An intervention on latents cannot undo what they do not see.
""",
    "CKA displacement": r"""
$D(\ell) = 1 - \mathrm{CKA}_u(\ell)$, linear CKA with the debiased estimator of HSIC (Kornblith
et al. 2019, arXiv:1905.00414; Song et al. 2012; Nguyen et al. 2021, arXiv:2010.15327), base
against tuned on the same tokens. 0 = same geometry up to rotation and one scale; about quadratic
in the size of the change; blind to a constant offset. The *last 30 %* are the layers with index
$\ge \lceil 0.7L \rceil$; the first block is 0.
""",
    "Relative displacement": r"""
$$
\sqrt{\frac{\mathrm{E}\,\lVert x_f - x_b\rVert^2}
{\mathrm{E}\,\lVert x_b - \mathrm{E}\,x_b\rVert^2}}
$$

How far a token's activation moved, in units of the spread of the base activations. The *offset
share* is the part of $\mathrm{E}\lVert x_f - x_b\rVert^2$ that is one constant vector.
""",
    "Null controls": r"""
The same measurement where nothing was learned: base against base with another **dictionary seed**,
and base against base plus a **random LoRA** whose matrices have the Frobenius norms of the trained
one: weights of the same size, pointing nowhere. It moves activations far less than training does (the
Layers page draws its displacement), so it says what is more than a change of weights of that size, not
what is more than an equally large change of activations. Draws of one control are pooled over the
experiments of one model and hook; a random LoRA takes its norms and its text from its own experiment.
Each draw of each adapter has random directions of its own.
On layers: **over it** = ratio / mean of the draws;
$z = (\ln R - \overline{\ln R_0}) / s(\ln R_0)$, with $n - 1$ in $s$. z needs three draws that differ;
with four, $s$ itself is uncertain by about 40 %, with three by about 50 %: read z as "far outside" or
"not", never as a probability. On regimes the inner cut is the 95 % point of the null draws, each taken
at its own largest layer as the measured number is; the outer cut is that of the random LoRA's KL, and
at least 0.02 nats and three times the numerical floor.
With fewer than 20 draws the 95 % point is the largest.
""",
    "Novel features": r"""
Latents of a crosscoder that belong to the tuned model alone. **Loose** (norm only):
$\Delta_{\text{norm}} > 0.9$. **Strict** (norm and scaling): besides, $\nu^{\epsilon} < 0.2$ and
$\nu^{r} < 0.5$, so that the base does not need the latent under another name (Minder et al. 2025,
arXiv:2504.02922, sections 2.2 and 3.1). *New or amplified*: $\Delta_{\text{norm}} > 0.6$. Shares are of
alive latents, with Wilson's interval (Wilson 1927), which takes latents as independent, and of the
energy $\sum_j \mathrm{E}[a_j^2]\,\lVert d_{f,j}\rVert^2$, which hardly depends on the dictionary's
width. **Minus the null**: less the mean count in the crosscoders of the random-LoRA draws; the share
above the null's has Newcombe's interval (Newcombe 1998, Statistics in Medicine 17, method 10). Counts
under 10, on either side, get no quotient. A dictionary finds nothing in what it does not see: read
every count beside the **FVE of the difference**.
""",
    "Late share": r"""
$\sum_{\ell \ge \lceil 0.7L \rceil} D(\ell) \big/ \sum_\ell D(\ell)$, with negative $D$ as 0: the
share of all CKA displacement that lies in the last 30 % of layers. **Late minus mid**: mean $D$ of
those layers minus mean $D$ of the *mid* layers, $0.4 \le \ell/L \le 0.6$. Displacement may grow with
depth for any change, so both mean something only beside those of a random LoRA, computed from each
draw's own CKA. Intervals: documents are left out block by block for all layers at once (delete-a-group
jackknife, Kott 2001). Random adapters displace hundreds of times less, so nearly any *late minus mid*
lies outside theirs: the share is the fair comparison. *Above all of them*: the whole interval
lies above the largest draw.
""",
    "Massive tokens": """
A few tokens can carry activations tens of times larger than all others, whatever the text says (Sun et
al. 2024, arXiv:2402.17762), and own every squared error. Tokens whose norm exceeds 5 times the layer's
median, in either model, are left out of that layer's numbers on both sides; counts and the share of the
sum of squares they carry are shown. The factor is ours.
""",
}
