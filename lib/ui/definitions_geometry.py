"""What is said of the geometry of adapters. Part of definitions.py.

Source of what is claimed: arXiv:2605.28896; of every chance level: ours.
"""

GEOMETRY: dict[str, str] = {
    "Delta activation": r"""
$$
h_\Delta = h_{\text{tuned}} - h_{\text{base}}
$$

at one token, after a block (residual stream) or of its MLP's output, from two whole passes. It is
**not** the *exact linear contribution* of an adapted matrix, $\frac{\alpha}{r} B A x$ with $x$ that
matrix's own input in the tuned run: that is what one matrix adds to its own output, while $h_\Delta$
also holds what every earlier change became on its way through attention, norms and gates. The source
writes $BAx$ for $h_\Delta$ (arXiv:2605.28896); for the residual stream the two differ. Adapters of all
ranks keep $\alpha / r$. Chance: an adapter with $B = 0$ has $h_\Delta = 0$ exactly.
""",
    "Contribution of a matrix": r"""
$\sqrt{\mathrm{E}\lVert\tfrac{\alpha}{r} B A x\rVert^2 / \mathrm{E}\lVert W x\rVert^2}$ over
held-out tokens, $x$ = the matrix's own inputs in the tuned run: what the adapter adds to the output, of
what the matrix gives without it. Exact, no approximation. Chance: an update of the same Frobenius norm
with independent entries, $\lVert\Delta W\rVert_F\,\mathrm{rms}(x) / \sqrt{d_{in}}$ over the same
denominator; above it, the update lies along what the matrix reads.
""",
    "Written directly": r"""
$1 - \sum\lVert h_\Delta - w\rVert^2 / \sum\lVert h_\Delta\rVert^2$ in the residual stream after
block $L$, with $w$ the sum of $\frac{\alpha}{r} B A x$ of the adapted matrices that write to the stream
($o$ and $down$) in blocks $0..L$. 1: the change is what they wrote; what is missing to 1 is *carried*,
what other weights made of inputs that had changed; below 0, saying nothing is nearer. Baseline: the
same writes given to other tokens of the batch, which keeps all that does not depend on the token. Not
defined where the outputs of these matrices are not added to the stream as they are (Gemma norms them
first); that is measured at one block, not assumed.
""",
    "Adapter SAE": r"""
A BatchTopK dictionary of one side, trained on $h_\Delta$ of the training text with its mean taken off
and its scale divided out (the source divides by the mean norm and uses an L1 penalty). *Pretrained
dictionary*: the same kind trained on the base's activations of the same text, or one read from a path
(`geometry: {pretrained: PATH}`; SAELens, Gemma Scope). Two seeds each, where we train them.
""",
    "Explained share of deltas": r"""
$1 - \sum\lVert h_\Delta - \hat h\rVert^2 / \sum\lVert h_\Delta - \bar h\rVert^2$ on held-out text
(*FVE*, about the mean $\bar h$: 0 for the mean, 1 at best, negative for worse); *energy*: the same
over $\sum\lVert h_\Delta\rVert^2$, which counts the constant offset too. **Fair at one budget**, $k$
directions a token, $k$ = what the adapter SAE uses: the SAE against *PCA* with $k$ components of the
training deltas; the SAE's directions against *pretrained* and against *as many random directions*,
each with coefficients by least squares, chosen per token (orthogonal matching pursuit, Pati et al.
1993). Random directions are chance: many directions fit anything to some degree. **Not fair, shown
because it is used**: a pretrained SAE applied to $h_\Delta$ as it is (its bias and thresholds were made
for activations); *encode both, subtract*: $D(\text{tuned}) - D(\text{base})$, whose two errors do not
cancel; the *span* of all its decoder rows, which is everything where they span the whole width.
Intervals: 95 %, bootstrap over documents. Intervals of two descriptions that are not apart may still
differ: both err on the same documents.
""",
    "Distance from chance": r"""
$(\text{value} - \text{chance}) / \text{sd}$, the sd of **one** chance score: a size, which does not
grow with the number of latents. *Standard errors*: the same over the error of a mean of $n$ scores, a
significance. *95 % of chance*: $\pm 1.96$ standard errors in sd, the error of the simulated chance
counted. No cosine or angle is shown without it: two random subspaces of 380 dimensions in 3,584 lie 74
degrees apart, and a random direction finds a cosine of 0.066 among 16,384 random rows, about the 74
degrees and 0.07 that the source reports. Beside it stand two **seeds** of one dictionary on the same
data: what a perfect match would score here. Where a simulated chance lies more than five standard
errors above the exact one for random rows, what was drawn is related to the rows, and the page says so.
""",
    "Max cosine": r"""
$\max_j \cos(d_i, g_j)$ of every direction $d_i$ of the adapter SAE that fires on held-out text with any
row $g_j$ of the other dictionary, mean over $i$; *absolute*: a row and its opposite count as one.
Source: arXiv:2605.28896 (signed, without chance). Chance: as many random directions against the same
rows; *exact* if the rows were random too (order statistics of a Beta distribution).
""",
    "Principal angle": r"""
$\cos\theta_i = \sigma_i(Q_1^\top Q_2)$, $Q$ = orthonormal bases of the $k$ strongest directions
(decoder rows times the root mean square of their codes), mean over $i$ in degrees; *squared cosine*:
mean of $\cos^2\theta_i$, the share of one subspace that lies in the other. Source: Björck & Golub 1973;
arXiv:2605.28896. Chance: 16 pairs of random subspaces of the same $k$ and width; of squared cosines
exactly $k / d$.
""",
    "CKA of deltas": """
Debiased linear CKA of deltas and base activations over the same held-out tokens. Chance: the same text
with one view turned against the other, which keeps what neighbouring tokens share (8 turns).
""",
    "Feature density": r"""
Three shares of an adapter SAE's latents on held-out deltas. *Firing on > 0.1 % of tokens* and *firing
per token* (L0 / latents) are the two in use; for BatchTopK the second is about $k$ / latents by
construction. *Effective*: $(\sum e)^2 / (m \sum e^2)$ of the latents' energies
$e = \mathrm{E}[a^2]\lVert d\rVert^2$: as many equally strong ones would spread the energy as widely;
$k$ does not fix it. Intervals over documents (jackknife, per token bootstrap). Chance: the base's own
dictionaries know no adapter, so what they do along depth is no effect of one; along rank they are
constant.
""",
    "Trend over ranks and depths": r"""
Spearman's $\rho$ along ranks within each depth (along depths within each rank), mean over the lines,
with its exact permutation p; lines with fewer than three values, or constant ones, are left out. Depths
of one adapter share that adapter, so the number beside it, over the means of the few adapters alone, is
all that is independent: with four of them no p is below 0.083. Claimed by arXiv:2605.28896: density
rises with rank and depth, divergence is flat in rank. A chance level that does not depend on rank
predicts the flat line too.
""",
}
