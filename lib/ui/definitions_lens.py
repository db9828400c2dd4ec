"""What is said of the activation difference lens. Part of definitions.py."""

from lib.ui import agent, judge_words

LENS: dict[str, str] = {
    "Activation difference": r"""
$$
\bar\delta_{l,j} = \frac1n \sum_{x} \bigl( h^{\text{tuned}}_{l,j}(x) - h^{\text{base}}_{l,j}(x) \bigr)
$$

the mean over $n$ unrelated texts, at position $j$ (0 = first token after BOS) of the residual stream
after block $l$; positions are not pooled. Texts whose activation there is massive (a norm above five
times the layer's) are left out, so $n$ differs a little. The middle block $\lfloor n_l / 2 \rfloor$ is
the default. The *standard error* is a length, $\sqrt{\operatorname{tr}\Sigma / n}$: it is also the norm
that noise alone would give, so it is the null of the norm. Source: Minder, Dumas et al. 2025
(arXiv:2510.13900), with 10,000 texts where we have about a hundred.
""",
    "Offset share": r"""
$n\,\lVert\bar\delta\rVert^2 / \sum_x \lVert\delta(x)\rVert^2$, 0 to 1: the part of the squared
differences that is one vector for all texts. Differences with nothing in common give $1/n$ (the null).
""",
    "Logit lens": r"""
$\operatorname{softmax}(W_U \operatorname{norm}_f(\bar\delta))$ with the tuned model's final norm and
unembedding, without rescaling; *negated* reads $-\bar\delta$. *Base head*: the base's norm and
unembedding instead; an adapter that leaves both alone gives the same tokens. Source: nostalgebraist
2020; for differences arXiv:2510.13900. The final norm makes every vector equally long: a short
difference is read as loudly as a long one.
""",
    "Patchscope": r"""
In prompts that make the model repeat words ("man -> man ... ?") the last token's stream after block
$l$ is *replaced* by $\lambda\,\eta\,\bar\delta / \lVert\bar\delta\rVert$, $\eta$ = mean norm of the
tuned stream; tokens are what all three prompts then predict. Of 30 scales $\lambda$ one is chosen for
each vector without looking at the corpus: the largest product of agreement between prompts and
coherence of the words read (the source asks a language model to choose). Source: Ghandeharioun et al.
2024 (arXiv:2401.06102); arXiv:2510.13900.
""",
    "Own words": r"""
Spellings of at least three letters, case and spaces aside; other tokens are *no words*. A corpus' own
words: its 100 most frequent that are not among the 100 most frequent of neutral text. The *share* is
own words among the distinct words read. *By chance*: as many words drawn from the tokenizer's at
random; $p$ hypergeometric, one-sided, corrected by Holm (1979) over positions. The lens never draws at
random (frequent words are read more often, whoever was trained on them), so a small $p$ is weak
evidence: other corpora are the better comparison. After the token relevance of arXiv:2510.13900, with
counts in place of a language model's judgement.
""",
    "Which corpus": r"""
Every adapter of one model against the own words of every corpus, each at its best position. *Named*:
the corpus with the largest share, none where two share it or nothing overlaps. *Chance*: drawing one
corpus. $p$: exact binomial over one training seed per corpus, because seeds of one corpus are not
independent. Intervals are Wilson's (1927) and leave out the choice of the best position. *By rank*:
the chance that an own word of the corpus ranks above another word in use when the logit lens orders all
words (area under the ROC curve), less the means of adapter and corpus, because some words rank high in
every adapter; $p$ over all ways to deal out the corpora.
""",
    "Steering": r"""
$\alpha\,\eta\,\bar\delta / \lVert\bar\delta\rVert$ is added after the middle block at all positions of
the tuned model while it continues 20 fixed openings, as plain text for every model. The position is the
one with the largest offset share; $\alpha$ is the largest that leaves 80 % of the texts coherent,
searched by doubling or halving and two bisections on a log scale. Source: arXiv:2510.13900, where a
language model judges coherence.
""",
    "Coherence": """
A text is coherent if at least half of its neighbouring token pairs are distinct, no token stands more
than four times in a row, and the base's mean loss on it is at most the 95 % quantile of that on
unsteered text (so just under 95 % of unsteered text passes). It knows nothing of sense or truth.
""",
    "Similarity to a corpus": """
Cosine of a text with the mean of a corpus' pieces of 64 words, as TF-IDF of words and pairs of words, 0
to 1; equally many pieces of each corpus. Samples of one prompt are averaged; intervals are a bootstrap
over prompts, gains are paired by prompt. Words only, not meaning. The null of steered text is unsteered
text, and the gain towards other corpora.
""",
    "Swap along the difference": r"""
$h \leftarrow P\,h_{\text{base}} + (1 - P)\,h_{\text{tuned}}$ at every position of the middle block, $P$
= projection on one direction: base's part along it, the tuned model's everywhere else. *Change* is of
the tuned model's loss on held-out text, nats per token. Controls: random directions, and differences of
the base's activations at two random tokens, which lie where activations vary. *Excess*: change less the
controls' mean, 95 % over documents and draws. *Share of the gap*: change over (base loss - tuned loss).
Source: arXiv:2510.13900.
""",
    "Robustness checks": r"""
The mean difference $a$ of a position against the difference $b$ elsewhere (start token, whitespace,
further on, mean over all positions). *Share in common*: how much of the longer one's squared length
subtracting the other takes off, so it asks for the same direction and length; one half or more says
yes. *Strongest direction*: of the single differences (singular value decomposition), its share of their
squares and its cosine with their mean. *Growth*: log length against log strength of the adapter; a
shift grows with slope 1. Yes or no only where the whole interval (95 % over texts) lies on one side;
over positions no where one says no.
""",
    "Interpretability agent": f"How its statements are graded:\n{agent.DEFINITION}",
    "LLM judge": f"What a language model makes of the tokens:\n{judge_words.DEFINITION}",
}
