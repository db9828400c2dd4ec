"""The interpretability agent on the Lens page: why there is none, or its start; stored runs."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from lib.llm import runs, settings, transcripts
from lib.llm.grader import CATEGORIES
from lib.llm.runs import Agreement, Score, Stored, StoredRun
from lib.ui import agent_start, tables
from lib.ui.agent_start import CONDITIONS
from lib.ui.links import quoted, url_choice

DEFINITION = """
- **Interpretability agent** (after Minder, Dumas et al. 2025, arXiv:2510.13900): a language model
  reads the top tokens of lens and Patchscope at five positions and steered text, may ask base and
  tuned model a few questions, and states the fine-tuning domain. The **black box** has the questions
  alone.
- **Grades** come from one or two grader models that know the corpus' name, description and frequent
  words, several times with everything in another order: wrong, partial, general domain right,
  specific. An **abstention** is a category of its own, not the lowest grade. A wrong domain is a
  **hallucination** when the agent's stated confidence is 0.5 or more, else *wrong, unsure*. A run's
  category has most votes, the lower grade where they tie.
- **Agreement**: Krippendorff's alpha, 1 = always the same, 0 = as by chance; ordinal over wrong to
  specific. Between graders, each has the middle of its repeats.
- **Right**: share of runs graded general or specific, with Wilson's 95 % interval. Runs on one
  adapter are not independent of each other, so it is a lower limit of the uncertainty.
"""
_OFF = """The agent is a language model behind an OpenAI-compatible address. It is off: {why}. \
To use one, set `{url}`, `{model}` and, where the service wants one, `{key}`, and start the dashboard \
again, or run `python -m lib agent EXPERIMENT --consent`. What is sent is said before it is sent."""


def show(experiment_id: str) -> None:
    """The section: what stands in the way or the start of a run, then the stored runs."""
    st.subheader("Can an agent tell the domain from this?", anchor=False)
    if why := settings.closed():
        told = _OFF.format(why=why, url=settings.URL, model=settings.MODEL, key=settings.KEY)
        st.info(told, icon=":material/cloud_off:")
    else:
        agent_start.offer(experiment_id)
    found = _stored(transcripts.signature("agent"), str(transcripts.folder("agent")))
    _notes(found)
    if not found.runs:
        st.caption("No run of the agent is stored on this machine.")
        return
    for score in runs.scores(found.runs):
        st.markdown(sentence(score))
    st.caption(agreement_words(runs.agreement(found.runs)))
    own = [run for run in found.runs if run.experiment == experiment_id]
    if not own:
        st.caption(f"None of the {len(found.runs)} stored runs is about this experiment.")
        return
    table(own)
    _transcript(own)


def sentence(score: Score) -> str:
    """What one condition achieved over every stored run."""
    name = CONDITIONS.get(score.condition, score.condition.replace(":", ", questions: "))
    counts = [f"{score.counts[c]} {c}" for c in CATEGORIES if score.counts.get(c)]
    right = score.right
    return (
        f"**{name[0].upper()}{name[1:]}**, {quoted(score.model)}: the right domain in "
        f"{100 * right.value:.0f} % of "
        f"{score.runs} run{'s' * (score.runs != 1)} (95 %: {100 * right.low:.0f} to "
        f"{100 * right.high:.0f} %) on {score.adapters} adapter{'s' * (score.adapters != 1)}: "
        f"{', '.join(counts)}; {score.tokens:,} tokens."
    )


def agreement_words(found: Agreement) -> str:
    """Agreement of repeats and graders, or why there is none to state."""

    def alpha(value: float | None) -> str:
        return "not defined (too few grades, or all alike)" if value is None else f"{value:.2f}"

    if not found.statements:
        return "No statement has been graded."
    parts = [f"between repeats of {g} {alpha(a)}" for g, a in sorted(found.repeats.items())]
    if len(found.repeats) == 2:
        parts.append(f"between the two graders {alpha(found.graders)}")
    elif len(found.repeats) == 1:
        parts.append(f"one grader only, name a second in {settings.GRADER}")
    parts.append(f"all grades without their order {alpha(found.nominal)}")
    return f"Agreement (Krippendorff's alpha, {found.statements} statements): {'; '.join(parts)}."


def table(own: Sequence[StoredRun]) -> None:
    """One row per run."""
    columns: dict[str, tuple[str, str | None]] = {
        "condition": ("given", None), "repeat": ("run", "%d"), "category": ("verdict", None),
        "domain": ("stated domain", None), "confidence": ("stated confidence", "%.2f"),
        "grades": ("grades by repeat", None), "queries": ("questions", "%d"),
        "tokens": ("tokens", "%d"), "model": ("model", None), "at": ("finished (UTC)", None),
    }  # fmt: skip
    rows = pl.DataFrame([_row(run) for run in own], infer_schema_length=None)
    tables.show(rows, columns, name="agent_runs")


def _row(run: StoredRun) -> dict[str, Any]:
    done, by_grader = run.done, {grade.grader: [] for grade in run.grades}
    for grade in run.grades:
        by_grader[grade.grader].append(grade.grade or "malformed")
    return {
        "condition": CONDITIONS.get(done.condition, done.condition),
        "repeat": done.repeat + 1,
        "category": run.category,
        "domain": done.verdict.domain if done.verdict else done.problem,
        "confidence": done.verdict.confidence if done.verdict else None,
        "grades": "; ".join(f"{name}: {', '.join(g)}" for name, g in by_grader.items()),
        "queries": done.queries,
        "tokens": run.tokens,
        "model": done.model,
        "at": run.at,
    }


def _transcript(own: Sequence[StoredRun]) -> None:
    """Everything that was said in one run, as it was sent, without any of it acting as Markdown."""
    by_key = {run.done.key: run for run in reversed(own)}
    chosen = url_choice(
        "Transcript", list(by_key), "agent_run",
        format_func=lambda k: f"{_row(by_key[k])['condition']}, run {by_key[k].done.repeat + 1}: "
        f"{by_key[k].category}",
    )  # fmt: skip
    run = by_key[chosen]
    with st.expander("Evidence, grades and every message", icon=":material/forum:"):
        for piece in run.done.verdict.evidence if run.done.verdict else ():
            st.markdown(f"- {quoted(piece, 300)}")
        for grade in run.grades:
            reason = quoted(grade.reason, 300)
            st.markdown(
                f"- {quoted(grade.grader)}, repeat {grade.repeat + 1}: {grade.grade}. {reason}"
            )
        for line in runs.conversation(run.experiment, chosen):
            paid = "" if line.tokens is None else f", {line.tokens:,} tokens"
            st.caption({"assistant": "agent", "user": "answer", "system": "task"}[line.who] + paid)
            st.code(line.text, language=None, wrap_lines=True)


@st.cache_data(max_entries=2, show_spinner=False)
def _stored(signature: tuple[tuple[str, int, int], ...], folder: str) -> Stored:
    return runs.stored()


def _notes(found: Stored) -> None:
    if found.unfinished:
        st.caption(
            f"{found.unfinished} runs were begun and not finished; starting again continues."
        )
    if found.on_the_way:
        st.caption(
            f"{found.on_the_way} questions had no answer when a run ended; they may be charged."
        )
    if found.damaged:
        st.warning(f"{found.damaged} lines of the transcripts cannot be read and were left out.")
