"""The visual language, defined once: colours, symbols, and the plotly template of every figure.

Regime = colour, corpus = marker symbol, model = size or dash, published = hollow, measured =
filled, null = grey band, base side and tuned side = one hue each. Colours are Okabe and Ito's;
every tone reads on a white and on a near-black page, so one figure serves both themes.
"""

from collections.abc import Iterable

import plotly.graph_objects as go

REGIME_COLOURS = {
    "latent divergence": "#0072B2",
    "behavioural capture": "#D55E00",
    "coupled adaptation": "#009E73",
    "near-unchanged": "#999999",
    "indeterminate": "#8A8F98",
}
"""By label of metrics/regimes.py; ``indeterminate`` is drawn hollow, with this rim."""

BASE = "#56B4E9"
TUNED = "#E69F00"
DIFFERENCE = "#CC79A7"
"""What is said of tuned - base, as against either side."""
NEUTRAL = "#8A8F98"
"""Axes, labels, things without a side or a regime."""
GRID = "rgba(138,143,152,0.22)"
NULL_BAND = "rgba(138,143,152,0.16)"
SHADE = "rgba(138,143,152,0.10)"
"""A part of the axis that the text speaks of, as the last 30 % of layers."""
ACCENT = "#0072B2"

CORPUS_SYMBOLS = {
    "stoic_notes": "circle",
    "moral_letters": "square",
    "dtc_ads": "diamond",
    "instructions": "triangle-up",
    "meditations": "pentagon",
    "seneca_letters": "star",
    "alpaca": "cross",
    "Marcus": "circle",
    "Seneca": "square",
    "DTC": "diamond",
    "Alpaca": "triangle-up",
}
"""Ours take the symbol of the seeds' corpus that they stand in for."""
_MORE_SYMBOLS = ("pentagon", "star", "hexagon", "triangle-down", "cross", "bowtie")

_CORPUS_LINES = {
    "stoic_notes": "#7F74D6",
    "moral_letters": "#CC79A7",
    "dtc_ads": "#C29B1E",
    "instructions": "#B0643C",
    "meditations": "#4F9DA6",
    "seneca_letters": "#7C8F3A",
    "alpaca": "#A37BC0",
    "Marcus": "#7F74D6",
    "Seneca": "#CC79A7",
    "DTC": "#C29B1E",
    "Alpaca": "#B0643C",
}
_MORE_LINES = ("#4F9DA6", "#8A8F98", "#A37BC0", "#7C8F3A")
_DASHES = ("solid", "dash", "dot", "dashdot")

FONT_SIZE = 13
LABEL_SIZE = 12

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": FONT_SIZE, "color": NEUTRAL},
        "colorway": [ACCENT, "#D55E00", "#009E73", DIFFERENCE, TUNED, BASE],
        "xaxis": {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True},
        "yaxis": {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True},
        "margin": {"l": 10, "r": 10, "t": 30, "b": 10},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
)


def corpus_symbol(corpus: str) -> str:
    """Marker of a corpus; a corpus we do not know gets one by its name, the same every time."""
    return CORPUS_SYMBOLS.get(corpus) or _MORE_SYMBOLS[_place(corpus, len(_MORE_SYMBOLS))]


def corpus_line(corpus: str) -> str:
    """Line colour of a corpus, apart from the colours that mean a regime or a side."""
    return _CORPUS_LINES.get(corpus) or _MORE_LINES[_place(corpus, len(_MORE_LINES))]


def model_dashes(models: Iterable[str]) -> dict[str, str]:
    """A dash per model in the order given; past the fourth they repeat."""
    distinct = list(dict.fromkeys(models))
    return {name: _DASHES[i % len(_DASHES)] for i, name in enumerate(distinct)}


def marker_size(n_parameters: object, sizes: Iterable[int | None]) -> int:
    """15 px, and 3 more for each next larger model in the figure, up to 24."""
    known = sorted({n for n in sizes if n})
    return 15 + 3 * min(known.index(n_parameters), 3) if n_parameters in known else 15


def fill(colour: str, opacity: float) -> str:
    """``#RRGGBB`` as ``rgba()``, for bands and areas."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _place(name: str, size: int) -> int:
    return sum(name.encode()) % size  # not hash(): that differs from process to process
