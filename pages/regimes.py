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
with columns[5]:
    link = st.empty()
if source == "measured":
    regimes.measured(columns[1:5])
else:
    regimes.published(columns[1:5])
with link:
    frame.copy_link()
frame.definitions(
    definitions.chosen(
        ["Regimes", "Rank correlation", "Reconstruction ratio", "Excess FVU", "CKA displacement",
         "Relative displacement", "KL", "Intervals"]
    )
)  # fmt: skip
