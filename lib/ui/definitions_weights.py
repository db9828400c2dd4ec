"""What is said of the weights of adapters. Part of definitions.py."""

WEIGHTS: dict[str, str] = {
    "Update": r"""
$\Delta W = s\,B A$ of every adapted matrix, with $s = \alpha / r$ ($\alpha / \sqrt r$ for rsLoRA),
read from the adapter's files; no model runs. *Spectral norm*: its largest singular value, in units
of the weights. *Frobenius share*: its squares as a share of all the adapter's. The null is the
matrix's share of the adapted weights: an update that is as large at every single weight.
""",
    "Effective rank": r"""
How many directions carry the update, from its singular values $\sigma_i$, 1 to $r$. *Entropy*:
$\exp(-\sum_i p_i \ln p_i)$ with $p_i = \sigma_i^2 / \sum_j \sigma_j^2$ (after Roy & Vetterli 2007,
there of $\sigma_i$). *Stable*: $\lVert\Delta W\rVert_F^2 / \lVert\Delta W\rVert_2^2$ (Rudelson &
Vershynin 2007), the stricter of the two. The null: both factors Gaussian, of the same sizes; the
mean of 32 draws.
""",
    "Overlap of adapters": r"""
Matrix by matrix, the principal angles $\theta_i$ between what two updates *write* (column spaces,
from $B$), and between what they *read* (row spaces, from $A$): the mean of $\cos^2\theta_i$, 0 to
1, which random spaces of dimensions $p$ and $q$ in $d$ score as $\max(p, q) / d$ exactly; and the
mean angle, beside a simulated null. All directions count alike, however little they carry.
*Update*: the cosine of the two $\Delta W$ as vectors, $-1$ to $1$, null 0; it weighs directions by
what they carry. The *distance from chance* is in standard deviations of one random pair's score;
over matrices it is their mean, so it is a size, not a significance. No interval: nothing is
sampled. What stands beside it is the range over pairs.
""",
    "Same start": r"""
LoRA training draws $A$ at random from the training seed, starts with $B = 0$ and moves $A$ little.
Adapters of one seed and one rank therefore share most of what they *read* by their start alone, and
part of the update with it: only pairs of other seeds say what text does. What is written comes from
$B$, which starts at 0.
""",
}
