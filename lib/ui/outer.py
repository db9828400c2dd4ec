"""All output numbers of one experiment: by text, and by part of it where texts have a prompt."""

from typing import Any, NamedTuple

import polars as pl
import streamlit as st

from lib.store import read
from lib.ui import cache, reads

TEXTS = {"corpus": "its corpus", "neutral": "neutral text"}
PARTS = {"all": "all tokens", "response": "responses", "prompt": "prompts"}


class Measure(NamedTuple):
    heading: str
    form: str
    scale: float
    says: str


MEASURES = {
    "kl": Measure("KL(tuned || base), nats", ".3f", 1, "0 = the same predictions; no upper bound"),
    "reverse_kl": Measure("KL(base || tuned), nats", ".3f", 1, "the other direction"),
    "js": Measure("Jensen-Shannon, nats", ".3f", 1, "symmetric; at most ln 2 = 0.693"),
    "agreement": Measure("equal top token, %", ".1f", 100, "share of predictions"),
    "perplexity_base": Measure("perplexity of base", ".1f", 1, "exp of the mean loss"),
    "perplexity_tuned": Measure("perplexity of tuned", ".1f", 1, "exp of the mean loss"),
}


def table(rows: pl.DataFrame, null_kl: dict[str, list[float]]) -> pl.DataFrame:
    """Measures down, texts and parts across, each value with its interval, n and null.

    Args:
        rows: of ``store.read.output``.
        null_kl: KL of the random-LoRA controls by text; they are measured on all tokens.
    """
    ordered = sorted(
        rows.iter_rows(named=True), key=lambda r: (list(TEXTS).index(r["text"]), _place(r["part"]))
    )
    found: dict[str, list[str]] = {"measure (95 % interval)": [
        *(m.heading for m in MEASURES.values()),
        "tokens, documents", "KL of a random adapter as large, nats", "numerical floor of KL, nats",
    ]}  # fmt: skip
    for row in ordered:
        draws = null_kl.get(row["text"], []) if row["part"] == "all" else []
        found[f"{TEXTS[row['text']]}: {PARTS[row['part']]}"] = [
            *(_cell(row, name, measure) for name, measure in MEASURES.items()),
            f"{row['n_tokens']:,}, {row['n_documents']:,}",
            ", ".join(f"{v:.2g}" for v in draws) or "not measured",
            "not measured" if row["kl_floor"] is None else f"{row['kl_floor']:.1g}",
        ]
    return pl.DataFrame(found)


def said(rows: pl.DataFrame) -> str:
    """Whether the change is in the answers or in the prompts; empty for texts without prompts."""
    parts = {r["part"]: r for r in rows.filter(text="corpus").iter_rows(named=True)}
    if not {"response", "prompt"} <= parts.keys():
        return ""
    answer, prompt = parts["response"], parts["prompt"]
    apart = None not in (answer["kl_low"], prompt["kl_low"]) and (
        answer["kl_low"] > prompt["kl_high"] or prompt["kl_low"] > answer["kl_high"]
    )
    where = "responses" if answer["kl"] > prompt["kl"] else "prompts"
    verdict = (
        f"**The {where} of its corpus diverge more than the rest.**"
        if apart
        else "**Prompts and responses of its corpus diverge about alike**: their intervals overlap."
    )
    return (
        f"{verdict} KL in the responses {_cell(answer, 'kl', MEASURES['kl'])} nats "
        f"(n = {answer['n_tokens']:,} tokens), in the prompts "
        f"{_cell(prompt, 'kl', MEASURES['kl'])} (n = {prompt['n_tokens']:,}), "
        f"{answer['n_documents']:,} held-out documents."
    )


def panel(experiment_id: str) -> None:
    """The table under its heading, with what it says in words where there is something to say."""
    rows = read.output(cache.store(), experiment_id)
    st.subheader("All output numbers of this experiment", anchor=False)
    if words := said(rows):
        st.markdown(words)
    null_kl = {
        text: reads.nulls(text).outputs.filter(experiment_id=experiment_id)["kl"].to_list()
        for text in TEXTS
    }
    st.dataframe(table(rows, null_kl), hide_index=True, height="content", key="tokens:outer")


def _place(part: str) -> int:
    return list(PARTS).index(part)


def _cell(row: dict[str, Any], name: str, measure: Measure) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "not measured"
    shown = f"{measure.scale * value:{measure.form}}"
    if low is None or high is None:
        return f"{shown} (one document: no interval)"
    ends = (f"{measure.scale * v:{measure.form}}" for v in (low, high))
    return f"{shown} [{', '.join(ends)}]"
