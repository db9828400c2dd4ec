"""Does inner change predict outer change?"""

import streamlit as st

from lib.ui import definitions, frame, published, regimes

frame.page(
    "Does inner change predict outer change?",
    "Every fine-tune as one point: how far its activations moved against how far its predictions "
    "moved. Click a measured point to open it.",
)
columns = frame.controls([1.45, 1.5, 1.0, 1.5, 1.0, 1.05, 0.75])
with columns[0]:
    source = frame.url_choice(
        "Provenance", ["measured", "published"], "provenance", "measured", widget="segmented"
    )
body = st.container()
frame.definitions(
    definitions.chosen(
        [
            "Regimes",
            "Support of a label",
            "Training seeds",
            "Null controls",
            "Causal claim",
            "Rank correlation",
            "Reconstruction ratio",
            "Peak ratio",
            "Excess FVU",
            "CKA displacement",
            "Relative displacement",
            "KL",
            "Intervals",
        ]
    )
)
foot = st.container()
view = regimes.measured if source == "measured" else published.view
with body:
    view(columns[1:6], foot)
with columns[6]:
    frame.copy_link()
