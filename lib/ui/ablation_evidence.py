"""What an ablation says: one picture, one sentence, the tables under it, the dose-response."""

from collections.abc import Sequence

import streamlit as st

from lib.ablation import AblationRequest, AblationResult, limits
from lib.evidence import causal
from lib.evidence.levels import shares_of
from lib.evidence.verdict import CausalVerdict
from lib.evidence.wording import CONTROLS, sample, sentence
from lib.figures.ablation import Evidence, Span, Strip, evidence
from lib.figures.ablation_dose import Dose, dose_response
from lib.metrics.intervals import DRAWS, Interval
from lib.ui import ablation_tables, ablation_words

RESAMPLES_RUNNING = 300
"""While draws still come in; the finished result gets all of them."""


@st.cache_data(max_entries=64, show_spinner=False)
def _judged(key: str, _result: AblationResult, resamples: int) -> CausalVerdict:
    return causal.judge(_result, resamples=resamples)


def judged(result: AblationResult) -> CausalVerdict:
    """The verdict, computed once per result and number of draws.

    Raises:
        ValueError: as ``causal.judge``.
    """
    key = f"{result.request.id}:{len(result.controls)}:{result.treated.kl!r}:{result.tuned.kl!r}"
    resamples = DRAWS if result.seconds else RESAMPLES_RUNNING
    return _judged(key, result, resamples)


def other_settings(result: AblationResult, asked: AblationRequest | None, failed: bool) -> None:
    """Say that a result is not of what the controls ask for now.

    Args:
        failed: whether that has just failed.
    """
    if result.request == asked:
        return
    told = "Press Run for these."
    if failed:
        told = "It is the last run that finished; the error is of the settings above."
    st.caption(
        f":material/history: This result belongs to other settings than the controls above. {told}"
    )


def show(result: AblationResult, *, standard: bool = False) -> None:
    """The whole result, or what there is of one.

    Args:
        standard: whether it is one of the store; else a live run's.
    """
    try:
        verdict = judged(result)
    except ValueError as problem:
        st.warning(f"This run supports no verdict: {problem}")
        return
    st.plotly_chart(
        evidence(picture(verdict, result.request.applicable_controls)),
        config={"displaylogo": False},
        key=_key(result, "evidence"),
    )
    if not result.seconds:
        asked = len(result.request.applicable_controls) * result.request.draws
        st.caption(f"Finished: {len(result.controls)} of {asked} control draws.")
        sizes(ablation_tables.edited(result))
        return
    st.markdown(sentence(verdict))
    st.caption(ablation_words.harm(result))
    _tables(result, verdict)
    if standard and limits.RANDOM_LATENTS in result.request.applicable_controls:
        st.caption(
            "Not shown of the standard run: neutral NLL of the controls and tokens reached by random "
            "features, since the store does not keep these of a draw; a live run gives them."
        )
    _doses(result)
    st.caption(ablation_words.seen(result))
    if standard:
        return
    seconds = ", ".join(
        f"{ablation_words.stages(stage)} {value:.2f}" for stage, value in result.seconds
    )
    st.caption(
        f"Run `{result.request.id}` on {result.device}, seed of the draws {result.request.seed}; "
        f"seconds: {seconds}."
    )


def picture(verdict: CausalVerdict, asked: Sequence[str] = ()) -> Evidence:
    """The verdict's numbers, as the figure takes them.

    Args:
        asked: controls whose draws may still be missing; each has its row from the start.
    """
    known = {one.control: one for one in verdict.controls}
    strips = [
        Strip(CONTROLS[name], known[name].shares, known[name].percentile)
        if name in known
        else Strip(CONTROLS[name])
        for name in dict.fromkeys([*asked, *known])
    ]
    treated, ceiling = verdict.share, verdict.ceiling
    return Evidence(
        None if treated is None else _span(treated),
        None if ceiling is None else _span(ceiling),
        strips,
        n=sample(verdict),
    )


def _span(found: Interval) -> Span:
    return Span(found.value, found.low, found.high)


def _key(result: AblationResult, part: str) -> str:
    return f"ablation:{part}:{result.request.id}"


def _tables(result: AblationResult, verdict: CausalVerdict) -> None:
    ablation_tables.show_outcomes(result, verdict)
    sizes(ablation_tables.edited(result))


def sizes(runs: ablation_tables.Edited) -> None:
    """How large the edits of these runs were."""
    st.markdown("**How large the edits were, and what they removed**")
    ablation_tables.show_edits(runs, "ablation_edits")


def _doses(result: AblationResult) -> None:
    panels = doses(result)
    if panels:
        st.markdown("**Dose and response**")
        st.plotly_chart(
            dose_response(panels), config={"displayModeBar": False}, key=_key(result, "dose")
        )


def doses(result: AblationResult) -> list[tuple[str, list[Dose]]]:
    """Panels of the dose-response, each point with its interval over documents."""
    if not result.dose or result.tuned.kl == 0:
        return []
    shares = shares_of(result, DRAWS, 0)
    n = len(result.request.dose_strengths)
    title = {limits.STEER: "activation added", limits.SCALE_LORA: "factor on the adapter"}.get(
        result.request.intervention, "strength"
    )
    panels = []
    for name, points in ((title, result.dose[:n]), ("features per depth", result.dose[n:])):
        amounts = [point.strength if name == title else point.top for point in points]
        spans = [_span(shares.interval(shares.of(point.condition))) for point in points]
        if points:
            panels.append((name, [Dose(*pair) for pair in zip(amounts, spans, strict=True)]))
    return panels
