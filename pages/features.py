"""Which features changed, and what are they?"""

import streamlit as st

from lib.ui import feature_address, features, frame, latent

frame.page(
    "Which features changed, and what are they?",
    "Features of one layer's crosscoder, ordered by how much of the difference between tuned and "
    "base they carry; open one to see where it fires and what it writes.",
)
columns = st.columns([3, 1.7, 2.2, 1.5, 1.8])
with columns[0]:
    experiment_id = frame.pick_experiment()
with columns[1]:
    layer = frame.pick_layer(experiment_id)
chosen = feature_address.controls(experiment_id, layer, columns[2:])

asked = feature_address.asked_latent(experiment_id, layer)
if asked is None:
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
- **Adds to base / to tuned** (examples): activation x decoder norm of that side.
- **Promotes, suppresses**: largest and smallest logits of `d_tuned` through the unembedding alone
  (direct path; later layers are left out).
"""
)
frame.provenance(experiment_id)
