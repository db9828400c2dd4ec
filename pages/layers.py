"""Where in depth did the fine-tune change the model?"""

import streamlit as st

from lib.ui import confirmation, definitions, depth, frame, internal_view

frame.page(
    "Where in depth did the fine-tune change the model?",
    "CKA and displacement at every layer, base against tuned on the same tokens; the "
    "reconstruction ratio at the layers that have dictionaries.",
)
columns = st.columns([2.2, 4.0, 1.5, 0.75], vertical_alignment="bottom")
with columns[0]:
    experiment_id = frame.pick_experiment()
with columns[1]:
    overlaid = depth.pick_others(experiment_id)
with columns[2]:
    metrics = depth.pick_metrics()
with columns[3]:
    frame.copy_link()
depth.view(experiment_id, overlaid, metrics)
internal_view.panel(experiment_id)
confirmation.panel(experiment_id)
depth.table(experiment_id, overlaid)
frame.definitions(
    definitions.chosen(
        ["CKA displacement", "Relative displacement", "Reconstruction ratio", "Peak ratio",
         "Excess FVU", "FVE", "Null controls", "Warning lights", "Massive tokens", "Late share",
         "Rank correlation", "Intervals"]
    )
)  # fmt: skip
frame.provenance(experiment_id)
