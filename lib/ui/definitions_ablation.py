"""What is said of live ablations. Part of definitions.py."""

ABLATION: dict[str, str] = {
    "Interventions": r"""
At each chosen layer the tuned model's activation $x_f$ is changed as it arrives in this run; $x_b$ is
base's on the same text, $a_j$ the crosscoder's activation of feature $j$ from both, $\gamma$ the
strength, $S$ the chosen set. **Clamp to base**: $x_f - \gamma \sum_{j \in S} a_j (d_j^f - d_j^b)$, the
inverse of the latent patching of Minder et al. 2025 (arXiv:2504.02922); what the crosscoder does not
reconstruct stays. **Give base's activation**: $x_f - \gamma \sum_S (a_j(x_f) - a_j(x_b))\, d_j^f$.
**Silence**: $x_f - \gamma \sum_S a_j d_j^f$. **Swap the subspace**: with the projection $P_S$ onto the
tuned directions, $x_f + \gamma P_S (x_b - x_f)$. **Full patch**: $x_f + \gamma (x_b - x_f)$. **Steer**:
$x_f + \gamma \sum_S d_j^f$. **Scale the adapter**: its weights at these layers times the factor. The
first four positions, begin-of-text being number 0, are neither edited nor scored, because the
dictionaries never saw them.
""",
    "Share undone": r"""
$$
\rho = 1 - \frac{\sum_t \mathrm{KL}(\text{edited} \,\Vert\, \text{base})}
{\sum_t \mathrm{KL}(\text{tuned} \,\Vert\, \text{base})}
$$

over the scored predictions of all texts: 100 % = back to base, 0 = no effect, negative = further away
than before. The **full patch** of the same places is what it is read against: an edit there rarely
undoes more. It is no strict limit, since patched activations meet later layers that the fine-tune
changed too, and at many layers at once the patch can do harm. **Agreement**: share of tokens on which
the most probable next token is base's. **Damage**: mean negative log-likelihood of neutral text,
which is edited like any other; of a control the mean of its first four draws, because all of them
would take as long again as the documents.
""",
    "Edit norms": r"""
**Edit norm**: mean over tokens of $|e_t|$, what the edit adds at one layer, in units of the activation;
**of the difference**: over the mean of $|x_t - x_{b,t}|$, tuned minus base just before the edit.
**Difference removed**: $1 - \sum_t |x_t + e_t - x_{b,t}|^2 / \sum_t |x_t - x_{b,t}|^2$; 100 % = base's
activation at that layer, 0 = no nearer, negative = further away. A large edit that removes little is
damage, not a clamp. Over scored tokens; in Generate over the prompt and what the lane wrote itself.
""",
    "Matched controls": r"""
Edits that should undo nothing if the chosen features matter, each at the norm of the treated edit at
the same token and layer. **Random features**: as many, of the same decile of firing frequency,
rescaled (without rescaling their edit is near 0 and shows nothing); at tokens where none of them
fires, the fixed direction that all of them together would take away. **Gaussian noise**; most of its
directions are ones that the model ignores. **Differences of real activations** of the base model: the
stronger control. **The same edits on other tokens**. **Signs at random**: flipped at every token in
the first draw, at about half of the tokens, drawn at random, in the others.
A point is one draw, the bar the 97.5th percentile of the draws: the smallest observed share that at
least 97.5 % of them do not exceed. **p** is one-sided and by rank: $(1 + m) / (n + 1)$, where $m$ of
the $n$ draws are at least as large as the treated share.
""",
    "Causal claim": r"""
The lower end of the treated 95 % interval lies above the 97.5th percentile of **every** control, on at
least six documents, with at least 20 draws of each control and edits of matched size. The interval is
a bootstrap on two levels: documents (the same for all runs), and draws within each control. Features
are ranked on training text and scored on held-out text. One prompt has no interval and supports no
claim.
""",
    "Features that mean the same": r"""
Every feature is taken away alone, $x - a_j d_j$, once from base (its base direction) and once from
tuned (its tuned direction); its **shift** is the mean KL of the edited to the unedited predictions of
the same model, in nats per token. Spearman's correlation of the two shifts over features says whether
features matter in the same order; the interval resamples features and documents together. Potency
divides a shift by the squared size of what was taken away.
""",
}
