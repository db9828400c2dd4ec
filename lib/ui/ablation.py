"""The page of live ablations: one client for all viewers, the run button, progress, cancel."""

from pathlib import Path

import streamlit as st

from lib.ablation import AblationError, AblationRequest, AblationResult, catalogue
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.client import AblationClient, Progress

_TICKET = "ablation:ticket"
_SHOWN = "ablation:shown"
_FAILED = "ablation:failed"
_FOR = "ablation:for"
"""The experiment of the last request: its failure does not concern the others."""
_RUN = "run"
_SHARES = {
    "starting the model worker": 0.05,
    "loading the model": 0.1,
    "running: base": 0.4,
    "running: tuned": 0.5,
    "running: clamped": 0.6,
    "running: ceiling": 0.75,
    "running: control": 0.9,
}
"""Rough share of a run that lies behind when a stage starts."""


@st.cache_resource(show_spinner=False)
def client() -> AblationClient:
    """One model worker for every viewer of this dashboard."""
    return AblationClient()


@st.cache_data(max_entries=64, show_spinner=False)
def _bundle(bundle: str, stamp: str) -> tuple[BundleInfo, dict[int, Offered]]:
    info = catalogue.read_info(Path(bundle))
    return info, {layer: catalogue.offered(Path(bundle), layer) for layer in info.layers}


def offered(experiment_id: str) -> tuple[BundleInfo, dict[int, Offered]]:
    """What can be clamped in one experiment; without a bundle the page says so and ends here."""
    try:
        bundle = catalogue.bundle_of(experiment_id)
        return _bundle(str(bundle), catalogue.stamp(bundle))
    except AblationError as problem:
        st.info(f"Nothing can be clamped here: {problem}", icon=":material/science_off:")
        st.code(
            "python -m lib run FILE.yaml        # the experiment's file, with `keep: full`\n"
            "git checkout precomputed/live      # the committed bundles, if they were lost",
            language="bash",
        )
        st.stop()


def run_button(request: AblationRequest | None) -> None:
    """Start a run; an address with ``run`` of the same request starts it by itself."""
    asked = request is not None and st.query_params.get(_RUN) == request.id
    new = asked and st.session_state.get("ablation:asked") != st.query_params.get(_RUN)
    pressed = st.button(
        "Run",
        type="primary",
        icon=":material/play_arrow:",
        disabled=request is None,
        width="stretch",
    )
    if request is None or not (pressed or new):
        return
    st.query_params[_RUN] = request.id
    st.session_state["ablation:asked"] = request.id
    st.session_state.pop(_FAILED, None)
    running = st.session_state.get(_TICKET)
    if running is not None:
        client().cancel(running)
    st.session_state[_TICKET] = client().submit(request)
    st.session_state[_FOR] = request.experiment_id


def result_of(experiment_id: str) -> AblationResult | None:
    """Follow the running request, if there is one; then the newest result of this experiment."""
    ticket = st.session_state.get(_TICKET)
    if ticket is not None:
        _collect(ticket, client().progress(ticket))
    if st.session_state.get(_TICKET) is not None:
        _follow(ticket)
    elif _FAILED in st.session_state and st.session_state.get(_FOR) == experiment_id:
        st.error(st.session_state[_FAILED], icon=":material/error:")
    shown: AblationResult | None = st.session_state.get(_SHOWN)
    return shown if shown and shown.request.experiment_id == experiment_id else None


def _collect(ticket: str, progress: Progress) -> None:
    if not progress.finished:
        return
    del st.session_state[_TICKET]
    if progress.phase == "done":
        st.session_state[_SHOWN] = progress.result
    elif progress.phase == "failed":
        st.session_state[_FAILED] = progress.message


@st.fragment(run_every=0.4)
def _follow(ticket: str) -> None:
    """Only this part reruns while the model works; the rest of the page stays usable."""
    progress = client().progress(ticket)
    if progress.finished:
        st.rerun()
    bar, stop = st.columns([6, 1], vertical_alignment="center")
    words = f"{progress.words} · {progress.seconds:.0f} s"
    if "loading" in words or "starting" in words:
        words += " (about 10 s, once)"
    bar.progress(_SHARES.get(progress.words, 0.0), text=words)
    stop.button("Cancel", on_click=client().cancel, args=(ticket,), icon=":material/stop:")
