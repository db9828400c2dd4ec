"""Does clamping these features back to base values undo the output change?"""

import streamlit as st

from lib.ui import ablation, ablation_controls, ablation_result, frame

frame.page(
    "Does clamping these features back to base values undo the output change?",
    "A live experiment on one prompt: the tuned model runs again while chosen latents of the "
    "crosscoders are held at their base values.",
)
first, places = ablation_controls.places()
with first:
    experiment_id = frame.pick_experiment()
info, offered = ablation.offered(experiment_id)
request = ablation_controls.request(experiment_id, info, offered, places)
with places.side:
    ablation.run_button(request)
result = ablation.result_of(experiment_id)
if result is not None:
    ablation_result.show(result, request)
else:
    st.info(
        "Press Run. The first run starts the model, which takes about twenty seconds; later ones "
        "take a few. Every setting is in the address, so a copied link repeats the run.",
        icon=":material/science:",
    )

frame.copy_link()
frame.definitions(
    """
- **Clamp** (pair clamp): at each chosen layer the tuned model's activation x_f becomes
  `x_f - strength * sum_j a_j (d_j_tuned - d_j_base)` over the chosen latents. The shared activation
  a_j is computed from x_f as it arrives in this run and from the base model's x_b on the same
  prompt. What the crosscoder does not reconstruct stays as it was. Inverse of the latent patching
  of Minder et al. 2025, arXiv:2504.02922.
- **Undone** (share reversed): `1 - sum KL(clamped || base) / sum KL(tuned || base)` over the scored
  predictions; 100 % = back to base, 0 = no effect, negative = further away than before.
- **Full patch**: x_f is replaced by x_b at the same layers and positions. A clamp there rarely
  undoes more, so it is read against this. It is no strict limit: patched activations meet later
  layers that the fine-tune changed too, and at many layers at once the patch can do harm.
- **Control**: as many latents drawn at random from a pool of other living latents, clamped in the
  same way, the edit rescaled to the treated edit's norm at every token and layer. Where none of
  them fires, the sum of their decoder differences gives the direction.
- **Which latents**: ranked by their share of the difference's energy,
  `E[a^2] |d_tuned - d_base|^2`, as a share of all latents'.
- **Positions**: the first four, the begin-of-text token being number 0, are neither edited nor
  scored, because the dictionaries never saw them. In the strip and in the figure a KL belongs to
  the **predicted** token; the last one is the token that would follow the prompt.
- **Tokens reached**: where none of the chosen latents fires, the clamp changes nothing.
"""
)
frame.provenance(experiment_id)
