"""On which tokens do base and tuned disagree?"""

import streamlit as st

from lib.figures.tokens import kl_distribution
from lib.store import tokens as scores
from lib.ui import cache, divergence, frame, outer

frame.page(
    "On which tokens do base and tuned disagree?",
    "The divergence of the next-token predictions, token by token, on documents held "
    "out from everything that is trained here.",
)
left, middle, right = st.columns([3, 2, 3])
with left:
    experiment_id = frame.pick_experiment()
store = cache.store()
corpora = scores.scored_corpora(store, experiment_id)["corpus"].to_list()
if not corpora:
    st.info(
        f"`{experiment_id}` has no per-token scores: its `metrics` stage has not run. Run "
        "`python -m lib run data/experiments/embedded.yaml` to the end."
    )
    st.stop()
with middle:
    corpus = frame.url_choice("Text", corpora, "text")
with right:
    document_id = divergence.pick_document(experiment_id, corpus)

summary = scores.kl_summary(store, experiment_id, corpus).row(0, named=True)
full = summary["p99"] or 1.0
st.caption(
    "The colour belongs to the **predicted** token: it says how far apart the two models' "
    "predictions OF that token were, given the tokens before it. No colour = 0, or not "
    "scored (the first four tokens of a window); full colour = "
    f"{full:.2g} nats or more (99th percentile of this text); dotted underline from a tenth of "
    "that, bold with a solid underline from half. Hover over a token for KL and both losses."
)
with st.container(height=300):
    divergence.show_document(experiment_id, corpus, document_id, full)
st.markdown(divergence.verdict(summary))
if summary["n"]:
    bins = scores.kl_histogram(store, experiment_id, corpus)
    figure = kl_distribution(bins, mean=summary["mean"], median=summary["median"])
    st.plotly_chart(figure, config={"displaylogo": False})
    st.subheader("Most divergent tokens of this text", anchor=False)
    divergence.top_table(experiment_id, corpus)
outer.panel(experiment_id)

frame.copy_link()
frame.definitions(
    """
- **KL** of one token: `KL(tuned || base)` in nats, over the whole vocabulary, of the two
  predictions of this token from the tokens before it. 0 = the same prediction; no upper bound. It
  does not depend on which token really came. First tokens of a document are not scored.
- **NLL** base, tuned: what the true token cost each model, `-log p`, in nats. KL can be large
  where both are low, and small where both are high.
- **Mean and median**: over all scored tokens of the text, each token counting once. KL is
  heavy-tailed, so the mean stands far above the typical token. Bins below 1e-6 nats are put
  together.
- **All output numbers**: means over scored tokens; intervals are 95 % bootstrap intervals over
  documents, never over tokens. *Reverse KL*, *Jensen-Shannon* `(KL(p || m) + KL(q || m)) / 2` with
  m the mean of both predictions (Lin 1991), *equal top token* = share of predictions with the same
  first choice, *perplexity* = exp of the mean NLL. *Responses* and *prompts* exist for instruction
  and chat formats: what a model is trained to answer, and what it is given. *Random adapter*: an
  adapter of random directions with the same Frobenius norm in every matrix. *Numerical floor*: KL
  of the base with itself in another batch shape; below three times it a KL says nothing.
- **Text**: held-out documents. The store keeps positions only; the text comes from the corpus on
  this machine and is shown only when its sha256 is the one that was measured.
"""
)
frame.provenance(experiment_id)
