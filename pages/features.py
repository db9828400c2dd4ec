"""Which features changed, and what are they?"""

import streamlit as st

from lib.ui import definitions, feature_address, features, frame, labels, latent

frame.page(
    "Which features changed, and what are they?",
    "Features of one layer's crosscoder, ordered by how much of the difference between tuned and "
    "base they carry; open one to see where it fires and what it writes.",
)
columns = st.columns([2.8, 1.5, 2, 1.5, 1.7, 1.5])
with columns[0]:
    experiment_id = frame.pick_experiment()
with columns[1]:
    layer = frame.pick_layer(experiment_id)
chosen = feature_address.controls(experiment_id, layer, columns[2:])

asked = feature_address.asked_latent(experiment_id, layer)
if asked is None or features.is_summary(experiment_id, layer):
    features.overview(chosen)
else:
    latent.view(chosen, asked)

frame.copy_link()
frame.definitions(
    """
A **feature** is one latent of a crosscoder: one activation, two decoder directions, `d_base` and
`d_tuned`, trained on activations of both models at the same tokens.

- **Share of the difference's energy** (the default order): `E[a²] · |d_tuned - d_base|²`, as a
  share of the sum over all features of this dictionary; 0 to 100 %. It measures only what the
  dictionary sees: read it with the FVE of the difference.
- **FVE of the difference**: share of the variance of (tuned - base) activations that the
  crosscoder reconstructs on held-out text. 1 = all of it; below 0 = worse than predicting the
  mean.
- **Relative norm** (delta norm): `½ (1 + (|d_tuned| - |d_base|) / max(|d_tuned|, |d_base|))`; 0 =
  base only, 0.5 = equal, 1 = tuned only. **Classes** are its cuts: eliminated < 0.1, suppressed <
  0.4, shared < 0.6, amplified < 0.9, new (Minder et al. 2025, arXiv:2504.02922). A feature that
  fired on too few tokens is dead and has no class of its own.
- **Cosine** of `d_base` and `d_tuned`: a shared feature with a low cosine is used differently.
- **nu** (latent scaling, same source): how strongly `a · d_tuned` is present in the base, divided
  by how strongly in the tuned model. *nu error* looks at what the dictionary leaves unexplained,
  *nu reconstruction* at what the other features explain. Truly new needs nu error < 0.2 and nu
  reconstruction < 0.5; both are near 1 for a shared feature.
- **Fires on**: share of all harvested tokens, training and held-out, with a > 0. **Of the
  energy**: `E[a²] · |d_tuned|²` as a share of all features'.
- **Checks** (the badge `5/6`): six ways in which a feature can be an artefact; a check without its
  number passes nothing.
  1. *Other seeds*: crosscoders are trained again with other seeds on the same text. Features are
     paired one-to-one by the cosine of their whole decoders, both sides as one vector (method:
     Paulo & Belrose 2025, arXiv:2501.16615, to whom 30 % of a dictionary of 131,000 returned); a
     pair of 0.7 or more counts as the same feature. It passes when every seed has it. *Across
     seeds* is the best cosine, one-to-one or not, mean over seeds (MMCS, Sharkey et al. 2022);
     *of its change* is the cosine of `d_tuned - d_base` with its pair's: a feature can return
     without its change.
     *Chance* is the best cosine of a random direction, or of decoders with shuffled coordinates,
     whichever is higher.
  2. *Enough firings*: at least 100 tokens. 3. *Selective*: it fires on less than 10 % of tokens.
  4. *Class confirmed* by latent scaling: new as above for nu; amplified nu error < 0.9 and nu
     reconstruction < 1; shared both from 0.8 to 1.25; suppressed and eliminated the same with 1/nu.
     Limits other than those of new are ours.
  5. *Many documents*, 6. *many positions*: less than half of its firings in one document, or at one
     position of the context window.
- **Adds to base / to tuned** (examples): activation x decoder norm of that side.
- **Promotes, suppresses**: largest and smallest logits of `d_tuned` through the unembedding alone
  (direct path; later layers are left out).
"""
    + labels.DEFINITION.lstrip("\n")
    + "\n"
    + definitions.chosen(["Novel features", "Null controls", "Intervals"])
)
frame.provenance(experiment_id)
