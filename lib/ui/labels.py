"""Machine labels of features: a list that can be searched, and the label of one feature.

They are shown as what they are and apart from what reviewers write.
"""

from typing import Any

import polars as pl
import streamlit as st

from lib.llm import label_store, settings, transcripts
from lib.llm.labels import Detection, Total, total
from lib.ui import tables
from lib.ui.links import quoted

DEFINITION = """
- **Machine label**: a language model reads half of a feature's strongest passages and writes up to ten
  words. From the label alone it then says in which of the held-out passages (other documents, as many
  that fire as not, shuffled) the feature fires. **Balanced accuracy** is the mean of the shares that it
  gets right among those that fire and those that do not; 0.5 = the label says nothing. The **baseline**
  is another feature's label on the same passages. Passages in which it does not fire come from beside
  its own examples, where that is known, and from other features' examples, where it is not.
"""
COLUMNS: dict[str, tuple[str, str | None]] = {
    "latent": ("feature", "%d"), "layer": ("layer", "%d"), "label": ("machine label", None),
    "score": ("balanced accuracy", "%.2f"), "score_low": ("95 % from", "%.2f"),
    "score_high": ("95 % to", "%.2f"), "other": ("another's label", "%.2f"),
    "passages": ("passages", "%d"), "beside": ("silent, known", "%d"),
    "elsewhere": ("silent, assumed", "%d"), "unsure": ("may fire there, at most", "percent"),
    "tokens": ("tokens", "%d"), "model": ("model", None), "at": ("made (UTC)", None),
}  # fmt: skip
HELPS = {
    "score": "0.5 = the label says nothing; 1 = every held-out passage right",
    "other": "balanced accuracy of another feature's label on the same passages",
    "unsure": "share of the assumed passages in which it may fire, by how often it fires at all",
}


def show(experiment_id: str, layer: int | None = None) -> None:
    """Search and list of the machine labels of one experiment, at one layer or all of them."""
    st.markdown("**Machine labels** (not a reviewer's)")
    found = of_experiment(experiment_id, layer)
    if found.is_empty():
        why = settings.closed()
        st.info(
            "No feature here has a machine label. They are made by "
            f"`python -m lib label {experiment_id} --consent`"
            + (
                f". It is off: {why}." if why else ", which sends passages of text to the endpoint."
            ),
            icon=":material/label_off:",
        )
        return
    text = st.text_input("Search the labels", key="labels:search", placeholder="words of a label")
    shown = label_store.search(found, text)
    if (means := total(_tests(shown))) is not None:
        st.markdown(sentence(means, int(shown["tokens"].sum())))
    if shown.is_empty():
        st.caption(f"None of the {len(found)} labels holds these words.")
        return
    tables.show(shown, COLUMNS, name="machine_labels", helps=HELPS)


def show_one(experiment_id: str, layer: int, latent: int) -> None:
    """One line about one feature; nothing where it has no label."""
    found = of_experiment(experiment_id, layer).filter(pl.col("latent") == latent)
    if found.is_empty():
        return
    row: dict[str, Any] = found.row(0, named=True)
    score = (
        "not tested"
        if row["score"] is None
        else f"balanced accuracy {row['score']:.2f} (95 %: {row['score_low']:.2f} to "
        f"{row['score_high']:.2f}, {row['passages']} passages)"
    )
    st.markdown(f"Machine label: {quoted(row['label'], 100)}, {score}, by {quoted(row['model'])}.")


def of_experiment(experiment_id: str, layer: int | None = None) -> pl.DataFrame:
    """Columns of ``label_store.COLUMNS``."""
    folder = str(transcripts.folder("label"))
    found = _labels(transcripts.signature("label"), folder)
    found = found.filter(pl.col("experiment_id") == experiment_id)
    return found if layer is None else found.filter(pl.col("layer") == layer)


def sentence(means: Total, tokens: int) -> str:
    """How good these labels are, against another feature's label."""
    own, other, gain = means.own, means.other, means.gain
    spread = f" (95 %: {gain.low:+.2f} to {gain.high:+.2f})" if gain.low is not None else ""
    better = "better" if gain.low is not None and gain.low > 0 else "not shown to be better"
    return (
        f"Over {means.n} feature{'s' * (means.n != 1)} the labels reach a balanced accuracy of "
        f"{own.value:.2f}, labels of other features {other.value:.2f}: {gain.value:+.2f}{spread}, "
        f"**{better}** than a label made for something else. They cost {tokens:,} tokens."
    )


def _tests(found: pl.DataFrame) -> list[tuple[Detection | None, Detection | None]]:
    pairs = found.select("own_counts", "other_counts").iter_rows()
    return [tuple(Detection(*c) if c else None for c in pair) for pair in pairs]


@st.cache_data(max_entries=2, show_spinner=False)
def _labels(signature: tuple[tuple[str, int, int], ...], folder: str) -> pl.DataFrame:
    return label_store.labels()
