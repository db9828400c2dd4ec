"""Does surprising text need new features?"""

import streamlit as st

from lib.ui import definitions, frame, perplexity

frame.page(
    "Does surprising text need new features?",
    "Base perplexity of each corpus (how badly the untuned model predicts it) against novel "
    "features and against both axes.",
)
columns = frame.controls([1.5, 1.4, 1.9, 1.0, 1.2, 0.75])
with columns[0]:
    source = frame.url_choice(
        "Provenance", ["measured", "published"], "provenance", "measured", widget="segmented"
    )
view = perplexity.measured if source == "measured" else perplexity.published
body = st.container()
frame.definitions(
    definitions.chosen(
        ["Perplexity", "Novel features", "FVE", "Reconstruction ratio", "Peak ratio", "KL",
         "Null controls", "Training seeds", "Rank correlation", "Intervals"]
    )
)  # fmt: skip
foot = st.container()
with body:
    view(columns[1:5], foot)
with columns[5]:
    frame.copy_link()
