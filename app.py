"""Inside/Out: the entry point. ``make run`` starts it; every page is in pages/."""

from pathlib import Path

import streamlit as st

from lib.ui import frame

# A file of ours: a Material icon here would make every browser ask a font server for it.
icon = Path(__file__).parent / "lib" / "ui" / "icon.svg"
st.set_page_config("Inside/Out", icon, "wide")
frame.enter()
page = st.navigation(
    {
        "": [
            st.Page(
                "pages/regimes.py",
                title="Regimes",
                icon=":material/bubble_chart:",
                url_path="overview",
                default=True,
            ),
            # The default page is served at / only; this makes /regimes an address as well.
            st.Page("pages/regimes.py", title="Regimes", url_path="regimes", visibility="hidden"),
        ],
        "Look closer": [
            st.Page("pages/layers.py", title="Layers", icon=":material/layers:"),
            st.Page("pages/features.py", title="Features", icon=":material/grain:"),
            st.Page("pages/tokens.py", title="Tokens", icon=":material/short_text:"),
            st.Page("pages/perplexity.py", title="Perplexity", icon=":material/question_mark:"),
            st.Page("pages/geometry.py", title="Geometry", icon=":material/square_foot:"),
        ],
        "Intervene": [
            st.Page("pages/ablation.py", title="Ablation", icon=":material/content_cut:"),
            st.Page("pages/lens.py", title="Lens", icon=":material/center_focus_strong:"),
        ],
        "Report": [
            st.Page("pages/runs.py", title="Runs", icon=":material/receipt_long:"),
            st.Page("pages/method.py", title="Method", icon=":material/function:"),
        ],
    },
    position="top",
)
with frame.store_errors():
    page.run()
