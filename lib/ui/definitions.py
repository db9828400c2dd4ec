"""What every number means, once. Pages show parts of it, the method page shows all of it.

Formulas in Streamlit's markdown ($...$). x_b and x_f: activations of the base and of the tuned
model at the same token; all means run over held-out tokens, first tokens left out.
"""

from collections.abc import Iterable

from lib.ui.definitions_internal import INTERNAL

DEFINITIONS: dict[str, str] = INTERNAL | {
    "Stability over seeds": r"""
Crosscoders of one layer are trained again with other seeds (other start, other order of the same
text). Latents of two dictionaries are paired one-to-one by the cosine of their decoders, both sides
as one vector, so that the sum of cosines among pairs of 0.7 or more is largest; **survives 3 of 3
seeds** means that every dictionary has the latent. *Chance* is the best cosine of a random direction
with that many others in as many dimensions, or of the same decoders with shuffled coordinates,
whichever is higher. Method: Paulo & Belrose 2025 (arXiv:2501.16615); the mean best cosine is the MMCS
of Sharkey et al. 2022. A latent that does not return describes this training run, not the model.
""",
    "KL": r"""
$$
\mathrm{KL}_t = \sum_v p_v\,(\ln p_v - \ln q_v)
$$

tuned $p$ against base $q$, next-token distributions on the same context, in **nats**; the mean
over scored tokens. Exact at every token (a sum over the whole vocabulary), never sampled.
*Corpus* = the held-out part of the fine-tuning corpus; *neutral* = one common text for all
experiments. Reverse KL swaps the roles; Jensen-Shannon is bounded by $\ln 2$. Below three times
the *numerical floor* (the base against itself in another batch shape) a KL counts as 0.
""",
    "Top-token agreement": """
Share of scored tokens at which base and tuned put the same token first; 0 to 1.
""",
    "Perplexity": r"""
$\exp$ of the mean negative log-likelihood per scored token, natural logarithm, fixed window.
""",
    "Intervals": """
95 %, bootstrap over **documents** (never over tokens: tokens of a document are not independent).
They say how far the number would move with other documents of the same kind; they do not contain
the spread over training seeds, nor, for a peak, over which depth is the peak unless that is
said. CKA and the late share leave out blocks of documents instead (delete-a-group jackknife, Kott
2001). Centred and in-sample ratios, norms, cosines, shares of energy and nu are stored without one.
""",
    "Regimes": r"""
Both axes are cut into low and high within one model and one text: **near-unchanged** (low, low),
**latent divergence** (inner high, outer low), **behavioural capture** (inner low, outer high),
**coupled adaptation** (both high). What is cut is the change from no change: a ratio minus 1. Cuts
are **medians** of the model's corpora, which put half of them on each side whatever was measured
(a regime is then a rank, not a finding), or the upper ends of **null controls**. A point within a
factor $e^{0.25} \approx 1.28$ of a cut is **indeterminate**, and so is one whose label has under 90 %
of the draws. *Delayed*, *internal first* and *early* are said only of a corpus that was also
measured at a smaller scale of one family, at fewer steps or at a lower rank. *Metric-dependent*: two
inner metrics give decided labels that differ. Cuts of the published points, 55.4 and 0.587, are
**ours**: the middles, on a log scale, of the gaps that reproduce the published labels at 70B. The
four names are the post's (A. Blackwell); margin, support and null cuts are ours.
""",
    "Support of a label": r"""
P(label) is the share of 2,000 draws in which a point has it. Each draw moves every point on both
axes, independently, by its own 95 % interval: log-normal, or normal where the interval reaches no
change. Medians are taken anew in each draw. Documents are shared by both axes and by layers, which
this leaves out; training seeds are not in the intervals.
""",
    "Rank correlation": r"""
Spearman's $\rho$ within one model, between the chosen inner and outer metric, one point per
corpus (repeated seeds are averaged first: they are no further corpora). $p$ is exact and
two-sided: the share of all orders of the points whose $|\rho|$ is at least as large. The
smallest attainable $p$ is what a perfect order would get. Several models: the mean of their
$\rho$, permuted within each model, because a common trend with size alone makes a pooled $\rho$
large; *partial* is the correlation of all ranks after each model's mean rank is taken off. *Without
one corpus*: $\rho$ with each corpus left out in turn. *Sign kept*: share of 10,000 draws from the
intervals (independent, log-normal) in which $\rho$ keeps its sign: the numbers' own error, not the
choice of corpora. *Holm* (1979): each $p$ times the number of tests not yet passed, over every order
that the page can show.
""",
    "Latent classes": r"""
$$
\Delta_{\text{norm}} = \tfrac12\Bigl(1 + \frac{\lVert d_f\rVert - \lVert d_b\rVert}
{\max(\lVert d_f\rVert, \lVert d_b\rVert)}\Bigr)
$$

of a crosscoder latent's two decoder directions (Minder et al. 2025, arXiv:2504.02922): below 0.1
eliminated, to 0.4 suppressed, to 0.6 shared, to 0.9 amplified, above new. *Dead*: fires on fewer
than 10 tokens of all harvested text. A norm alone does not make a latent new;
$\nu^{\epsilon}$ and $\nu^{r}$ (latent scaling, same source) ask whether base needs it too.
""",
    "Share of the difference": r"""
$\mathrm{E}[a^2]\,\lVert d_f - d_b\rVert^2$ of a latent with activation $a$, as a share of the
sum over all latents: how much of the change that the dictionary sees runs through it.
""",
    "Compute": r"""
Fine-tuning FLOP beside the base model's pretraining FLOP ($6ND$, $N$ parameters and $D$ tokens,
from the model's public record; empty when unknown). One third of the original compute is the
value that the European Commission's guidelines for general-purpose models name for
modifications; shown as a line to read against, not as a legal grade.
""",
    "Dictionaries": """
BatchTopK (Bussmann et al. 2024, arXiv:2412.06410): over a batch the k strongest activations per
token, on average, are kept. At least 50 training tokens stand behind each latent; with less text
the dictionary **shrinks**, and the table says what was asked. *Flat*: held-out FVE stopped
rising; the learning rate then decays for a quarter more steps. *Step limit*: it was still rising
when the limit came. Held-out text thus chooses when to stop, and the one threshold per dictionary at
which k latents fire per token; weights never see it. *Dead*: share of latents that had not fired
for a tenth of the planned training tokens when training ended. *Alive*: latents that fire on any
held-out token. On Features a latent is dead if it fires on fewer than 10 tokens of all text. *Asked*:
latents wanted before the dictionary shrank.
""",
}


def chosen(names: Iterable[str]) -> str:
    """The definitions of these names as one markdown text, in the order given.

    Raises:
        KeyError: a name without a definition.
    """
    return "\n\n".join(f"**{name}.** {DEFINITIONS[name].strip()}" for name in names)
