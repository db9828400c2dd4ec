"""What do differences on unrelated text give away?"""

import streamlit as st

from lib.ui import frame, lens

frame.page(
    "What do differences on unrelated text give away?",
    "Tuned minus base activations, averaged over the first tokens of text that has nothing to do "
    "with the fine-tune: read as words, added while the model writes, and taken away.",
)
tabs, link = st.columns([7, 1], vertical_alignment="center")
with tabs:
    view = frame.url_choice(
        "View", list(lens.VIEWS), "view", widget="segmented", format_func=lens.VIEWS.get,
        label_visibility="collapsed",
    )  # fmt: skip
with link:
    frame.copy_link()
row = frame.controls([3.4, 2.0, 2.4])
with row[0]:
    experiment_id = frame.pick_experiment()
lens.show(view, experiment_id, row[1:])
frame.definitions(lens.about(view))
frame.provenance(experiment_id)
