"""What does the adapter add, and is it new?"""

import streamlit as st

from lib.ui import frame, geometry

frame.page(
    "What does the adapter add, and is it new?",
    "Tuned minus base activations, token by token: what describes them, whether their directions are "
    "those of the base, and whether that changes with rank and depth.",
)
tabs, link = st.columns([7, 1], vertical_alignment="center")
with tabs:
    view = frame.url_choice(
        "View", list(geometry.VIEWS), "view", geometry.first_view(), widget="segmented",
        format_func=geometry.VIEWS.get, label_visibility="collapsed",
    )  # fmt: skip
with link:
    frame.copy_link()
row = frame.controls([2.6, 1.5, 2.2, 2.2])
with row[0]:
    experiment_id = geometry.pick_experiment(view)
geometry.show(view, experiment_id, row[1:])
frame.definitions(geometry.about(view))
frame.provenance(experiment_id)
