"""What is said of experiments as points: labels, seeds, orders. Part of definitions.py."""

POINTS: dict[str, str] = {
    "Regimes": r"""
Both axes are cut into low and high within one model and one text: **near-unchanged** (low, low),
**latent divergence** (inner high, outer low), **behavioural capture** (inner low, outer high),
**coupled adaptation** (both high). What is cut is the change from no change: a ratio minus 1. Cuts
are **medians** of the model's corpora, which put as many above as below whatever was measured (of an
odd number the middle one lies on its cut; a regime is then a rank, not a finding), or the upper ends
of **null controls**. A point whose change is within a factor $e^{0.25} \approx 1.28$ of the cut's is
**indeterminate**: of a ratio that factor is (ratio - 1) / (cut - 1), so 1.13 over a cut of 1.006 is a
factor of 22 and decided. A label with under 90 % of the draws is
indeterminate, too. *Delayed*, *internal first*
and *early* are said only of a corpus that was also measured at a smaller scale of one family, at fewer
steps or at a lower rank. *Metric-dependent*: two inner metrics give decided labels that differ. Cuts of
the published points, 55.4 and 0.587, are **ours**: the middles, on a log scale, of the gaps that
reproduce the published labels at 70B. The
four names are the post's (A. Blackwell); margin, support and null cuts are ours.
""",
    "Support of a label": r"""
P(label) is the share of 2,000 draws in which a point has it. Each draw moves every point on both
axes, independently, by its own 95 % interval over documents: log-normal, or normal where the interval
reaches no change. A point that is a mean over $k$ training seeds moves besides by the error of that
mean, Student's $t_{k-1} \, s/\sqrt{k}$ (on the log scale where the change is positive). Medians are
taken anew in each draw; null cuts are held, though few draws make them rough. Documents are shared by
both axes and by layers, which this leaves out.
""",
    "Training seeds": r"""
The same recipe and corpus with another training seed for the adapter, whose activations then get
dictionaries of their own; the held-out documents stay. One corpus is **one point**, the mean over its
seeds (small marks), and one value in every rank test. *sd over seeds* is the sample standard deviation
($n - 1$), in the quantity's unit; the interval beside it is the mean of the seeds' bootstrap bounds
over documents, because the documents are the same for all and their error does not average out.
*sd / sd* divides the first by a quarter of that interval (its width over 3.92). With three seeds an sd
is itself uncertain by a factor of 0.5 to 6 (95 %, from $\chi^2_2$).
""",
    "Rank correlation": r"""
Spearman's $\rho$ within one model, between the chosen inner and outer metric (or base perplexity),
one point per corpus (repeated seeds are averaged first: they are no further corpora). $p$ is exact and
two-sided: the share of all orders of the points whose $|\rho|$ is at least as large. The
smallest attainable $p$ is what a perfect order would get, $2/n!$ without ties; *takes $|\rho|$ of* is
the smallest value with $p < 0.05$, both counted out over all orders. Several models: the mean of their
$\rho$, permuted within each model, because a common trend with size alone makes a pooled $\rho$
large; *partial* is the correlation of all ranks after each model's mean rank is taken off. *Without
one corpus*: $\rho$ with each corpus left out in turn. *Sign kept*: share of 10,000 draws from the
intervals, and the seeds' error where known (independent, log-normal), in which $\rho$ keeps its sign:
the numbers' own error, not the choice of corpora. *Holm* (1979): each $p$ times the number of tests
not yet passed, over every order that the page can show.
""",
}
