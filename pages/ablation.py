"""Does clamping these features back to base values undo the output change?"""

import streamlit as st

from lib.ui import (
    ablation,
    ablation_generate,
    ablation_meaning,
    ablation_run,
    ablation_stored,
    frame,
)

VIEWS = {
    "documents": "Documents",
    "prompt": "One prompt",
    "generate": "Generate",
    "shared": "Shared features",
    "stored": "Stored runs",
}

frame.page(
    "Does clamping these features back to base values undo the output change?",
    "A live experiment: the tuned model runs again while chosen features of the crosscoders are "
    "edited, beside matched edits that should do nothing.",
)
tabs, link = st.columns([7, 1], vertical_alignment="center")
with tabs:
    view = frame.url_choice(
        "View", list(VIEWS), "view", widget="segmented", format_func=VIEWS.get,
        label_visibility="collapsed",
    )  # fmt: skip
with link:
    frame.copy_link()
ablation_run.entered(view)
row = st.columns([3, 2.1, 3.2, 2], gap="medium")
with row[0]:
    experiment_id = frame.pick_experiment()
if view == "documents":
    ablation.documents(experiment_id, row[1:])
elif view == "prompt":
    ablation.prompt(experiment_id, row[1:])
elif view == "generate":
    ablation_generate.show(experiment_id, row[1:])
elif view == "shared":
    ablation_meaning.show(experiment_id, row[1:])
else:
    ablation_stored.show(experiment_id)

frame.definitions(ablation.definitions(view))
frame.provenance(experiment_id)
