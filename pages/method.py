"""How is each number defined?"""

import streamlit as st

from lib.ui import definitions, frame

frame.page(
    "How is each number defined?",
    "Every metric with its formula, unit, range and source; the same texts stand under the pages.",
)
columns = st.columns([5, 0.75], vertical_alignment="bottom")
with columns[0]:
    wanted = frame.url_multi(
        "Only", list(definitions.DEFINITIONS), "about", default=[], placeholder="every definition"
    )
with columns[1]:
    frame.copy_link()
for name in wanted or definitions.DEFINITIONS:
    st.subheader(name, anchor=name.lower().replace(" ", "-"))
    st.markdown(definitions.DEFINITIONS[name])
frame.provenance_all()
