"""What was run, and did it train to the plateau?"""

import streamlit as st

from lib.ui import definitions, frame, runs

frame.page(
    "What was run, and did it train to the plateau?",
    "Recipe, compute and hashes of every experiment, and the training curves behind its numbers.",
)
columns = st.columns([3, 3, 0.75], vertical_alignment="bottom")
with columns[0]:
    experiment_id = frame.pick_experiment()
with columns[1]:
    shown = frame.url_choice(
        "Curves", ["dictionaries", "adapter"], "curves", "dictionaries", widget="segmented"
    )
with columns[2]:
    frame.copy_link()
runs.training(experiment_id, shown)
runs.compute(experiment_id)
st.subheader("Dictionaries", anchor=False)
runs.dictionaries(experiment_id)
st.subheader("All experiments", anchor=False)
runs.table()
frame.definitions(definitions.chosen(["Dictionaries", "FVE", "Compute", "Intervals"]))
frame.provenance(experiment_id)
