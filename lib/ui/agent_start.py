"""Consent to and start of the agent on the Lens page, and how a run under way stands."""

import streamlit as st

from lib.llm import launch, settings

CONDITIONS = {
    "lens:0": "lens, no questions",
    "lens:5": "lens and 5 questions",
    "blackbox:5": "black box, 5 questions",
    "blackbox:50": "black box, 50 questions",
}


@st.cache_resource(show_spinner=False)
def _launcher() -> launch.Launcher:
    return launch.Launcher()


def offer(experiment_id: str) -> None:
    """Consent and start, or how the run that is under way stands."""
    state = _launcher().state(experiment_id)
    if state.running:
        _follow(experiment_id)
        return
    if state.code is not None:
        (st.success if state.code == 0 else st.error)("The last run here has ended.")
        st.code(state.told, language=None, wrap_lines=True)
    endpoint = settings.from_environment()
    with st.popover("Run the agent", icon=":material/play_arrow:"):
        st.warning(settings.consent_text("agent", endpoint), icon=":material/cloud_upload:")
        given = st.multiselect(
            "Conditions", list(CONDITIONS), ["lens:0", "lens:5", "blackbox:5"],
            format_func=CONDITIONS.__getitem__, key="agent:conditions",
        )  # fmt: skip
        wording = settings.consent_id("agent", endpoint)
        agreed = st.checkbox("I agree", key=f"agent:consent:{wording}")
        if st.button("Start", disabled=not (agreed and given), key="agent:start"):
            try:
                _launcher().start(experiment_id, given, wording)
            except settings.LLMError as problem:
                st.error(str(problem))
            else:
                st.rerun()


@st.fragment(run_every=2.0)
def _follow(experiment_id: str) -> None:
    state = _launcher().state(experiment_id)
    if not state.running:
        st.rerun()
    st.info("The agent is at work.", icon=":material/hourglass_top:")
    if state.told:
        st.code(state.told, language=None, wrap_lines=True)
    if state.ours and st.button("Stop", key="agent:stop"):
        _launcher().stop(experiment_id)
        st.rerun()
