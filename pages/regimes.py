"""Does inner change predict outer change?"""

import streamlit as st

from lib.ui import definitions, frame, paths, published, regimes

VIEWS = {"measured": regimes.measured, "paths": paths.view, "published": published.view}
SHARED = ["Regimes", "Support of a label", "Null controls"]
POINTS = ["Training seeds", "Causal claim", "Rank correlation", "Reconstruction ratio", "Peak ratio",
          "Excess FVU"]  # fmt: skip
PATHS = ["Paths", "Course of a path", "Small-change law", "Neutral text in training"]
AXES = ["CKA displacement", "Relative displacement", "KL", "Intervals"]
WIDE = """<style>@media (max-width: 1200px) {
  .st-key-controls [data-testid="stColumn"]:has([data-testid="stButtonGroup"]) {min-width: 16.5rem}
}</style>"""  # three words side by side on a narrow page

frame.page(
    "Does inner change predict outer change?",
    "Every fine-tune as one point: how far its activations moved against how far its predictions "
    "moved.",
)
st.html(WIDE)
columns = frame.controls([1.95, 1.4, 1.0, 1.45, 1.0, 1.05, 0.75])
with columns[0]:
    source = frame.url_choice(
        "Show", list(VIEWS), "provenance", "measured", widget="segmented",
        help="Paths: fine-tunes with one thing varied, measured.",
    )  # fmt: skip
body = st.container()
special = PATHS if source == "paths" else POINTS
frame.definitions(definitions.chosen([*SHARED, *special, *AXES]))
foot = st.container()
with body:
    VIEWS[source](columns[1:6], foot)
with columns[6]:
    frame.copy_link()
