"""``make run``: the dashboard's server, with its modules imported before the first viewer comes.

Streamlit imports an app when somebody opens it; that would be most of a second of the first view.
"""

import logging
import sys

CACHE = "streamlit.runtime.caching.cache_data_api"


def main() -> None:
    """Takes the options of ``streamlit run``."""
    import plotly.graph_objects as go
    from streamlit.web import cli

    from lib.figures import theme

    log = logging.getLogger(CACHE)
    before = log.level
    log.setLevel(logging.ERROR)  # it warns of every cache that is declared before the server runs
    from lib.ui import definitions, frame, regimes  # noqa: F401 - imported to be warm

    log.setLevel(before)
    go.Figure(go.Scatter(x=[0], y=[0]), layout={"template": theme.TEMPLATE}).to_json()
    cli.main(["run", "app.py", *sys.argv[1:]])


if __name__ == "__main__":
    main()
