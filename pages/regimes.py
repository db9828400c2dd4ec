"""Does inner change predict outer change?"""

import streamlit as st

from lib.ui import definitions, frame, regimes

frame.page(
    "Does inner change predict outer change?",
    "Every fine-tune as one point: how far its activations moved against how far its predictions "
    "moved. Click a measured point to open it.",
)
columns = st.columns([1.55, 1.15, 1.15, 1.75, 1.3, 0.75], vertical_alignment="bottom")
with columns[0]:
    source = frame.url_choice(
        "Provenance", ["measured", "published"], "provenance", "measured", widget="segmented"
    )
body = st.container()
frame.definitions(
    definitions.chosen(
        [
            "Regimes",
            "Rank correlation",
            "Reconstruction ratio",
            "Excess FVU",
            "CKA displacement",
            "Relative displacement",
            "KL",
            "Intervals",
        ]
    )
)
foot = st.container()
view = regimes.measured if source == "measured" else regimes.published
with body:
    view(columns[1:5], foot)
with columns[5]:
    frame.copy_link()
