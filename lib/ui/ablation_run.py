"""Starting a run, following it while it works, and keeping its answer: one slot for each view."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from lib.ablation import AblationError
from lib.ablation.client import AblationClient
from lib.ablation.kinds import Request, result_from
from lib.ui import ablation_bar, ablation_clients, ablation_words
from lib.ui.ablation_controls import Options
from lib.ui.links import quoted

RUN = "run"
_VIEW = "ablation:view"
POLL = 0.5
"""Seconds between two looks at a running request."""
Draw = Callable[[Any, list[dict[str, Any]]], None]
"""(request, what its run has told so far) -> drawn."""


@dataclass
class Slot:
    """What one view of this session has asked for last, and what came back."""

    ticket: str = ""
    """Empty = nothing under way."""
    device: str = ""
    experiment_id: str = ""
    asked: str = ""
    """The ``run`` of the address that was acted on."""
    request: Any = None
    """That of the ticket."""
    result: Any = None
    failed: str = ""
    note: str = ""
    lost: str = ""
    """Why the ``run`` of the address cannot be opened."""
    partial: list[dict[str, Any]] = field(default_factory=list)
    """What a cancelled run had told; empty once another one is started."""


def slot(view: str) -> Slot:
    return st.session_state.setdefault(f"ablation:slot:{view}", Slot())


def forget(view: str) -> None:
    """Leave the last answer; it stays among the stored runs."""
    st.session_state.pop(f"ablation:slot:{view}", None)
    st.query_params.pop(RUN, None)


def entered(view: str) -> None:
    """Each view has a run of its own: going to another takes that one's into the address."""
    before = st.session_state.get(_VIEW, view)
    st.session_state[_VIEW] = view
    if before == view:
        return
    st.query_params.pop(RUN, None)
    if slot(view).asked:
        st.query_params[RUN] = slot(view).asked


def button(view: str, kind: str, request: Request | None, options: Options) -> None:
    """Start a run; an address with ``run`` of the same request starts or fetches it by itself."""
    at = slot(view)
    pressed = st.button(
        "Run",
        type="primary",
        icon=":material/play_arrow:",
        disabled=request is None or not options.ready,
        width="stretch",
        key=f"ablation:run:{view}",
    )
    linked = st.query_params.get(RUN, "")
    if at.ticket:
        ablation_clients.client(at.device).choose(at.ticket, options.if_gone)
    if request and options.ready and (pressed or (linked == request.id and at.asked != linked)):
        start(view, request, options)
    else:
        opened(view, kind)


def start(view: str, request: Request, options: Options, *, linked: bool = True) -> None:
    """Submit, with the run in the address; one of this view that is under way is cancelled first."""
    at = slot(view)
    client = ablation_clients.client(options.device)
    if at.ticket:
        ablation_clients.client(at.device).cancel(at.ticket)
    at.failed = at.note = at.ticket = at.lost = ""
    at.partial = []
    at.asked = request.id
    if linked:
        st.query_params[RUN] = request.id
    at.experiment_id, at.device = request.experiment_id, options.device
    at.request = request
    try:
        at.ticket = client.submit(
            request, viewer=viewer(), timeout=options.timeout, if_gone=options.if_gone
        )
    except AblationError as problem:
        at.failed = str(problem)


def partial(at: Slot, experiment_id: str) -> bool:
    """Whether there is a part of a cancelled run to show."""
    told = any(e["event"] == "token" or e.get("name") == "treated" for e in at.partial)
    return told and not at.ticket and at.experiment_id == experiment_id


def follow(
    view: str, experiment_id: str, draw: Draw | None = None, *, current: bool = True
) -> Any | None:
    """Show where the request stands; the newest result of this experiment, if there is one.

    Args:
        draw: shows what has been told so far, while the request runs and when it was cancelled.
        current: whether the controls still ask for it: an error of other settings is not shown.
    """
    at = slot(view)
    if at.lost and st.query_params.get(RUN) == at.asked:
        st.warning(at.lost)
    if at.ticket:
        _collect(at, ablation_clients.client(at.device))
    here = at.experiment_id == experiment_id
    if at.ticket and here:
        _watch(view, at.ticket, draw)
        if draw is not None:
            return None
    elif at.failed and here and current:
        st.error(at.failed, icon=":material/error:")
    if at.note and here:
        st.caption(f":material/info: {at.note}")
    if draw is not None and partial(at, experiment_id):
        draw(at.request, at.partial)
        return None
    return at.result if at.result is not None and here else None


def _collect(at: Slot, client: AblationClient) -> None:
    progress = client.progress(at.ticket)
    if not progress.finished:
        return
    ticket, at.ticket = at.ticket, ""
    if progress.phase == "done":
        at.result = progress.result
        stored = "Answered from the stored runs: this request had been run before."
        at.note = progress.replay.words if progress.replay else stored if progress.stored else ""
        at.note = " ".join(part for part in (at.note, progress.note) if part)
    elif progress.phase == "failed":
        at.failed = progress.message
    else:
        at.partial = client.events(ticket)
        at.note = "The run was cancelled."
        if partial(at, at.experiment_id):
            at.note += " Below is what it had finished: a partial result, which is not stored."


@st.fragment(run_every=POLL)
def _watch(view: str, ticket: str, draw: Draw | None) -> None:
    """Only this part reruns while the model works; the rest of the page stays usable."""
    client = ablation_clients.client(slot(view).device)
    progress = client.progress(ticket)
    if progress.finished:
        ablation_bar.ended(progress)
        st.rerun()
    request, events = slot(view).request, client.events(ticket)
    ablation_bar.draw(client, ticket, progress, request, events)
    if draw is not None:
        draw(request, events)


def opened(view: str, kind: str) -> None:
    """Take up the run that the address names, whatever the controls say; ``follow`` shows it."""
    at, run = slot(view), st.query_params.get(RUN, "")
    if not run or at.asked == run:
        return
    at.asked, at.lost = run, ""
    record = ablation_clients.client(at.device).results.newest(run)
    if record is None:
        at.lost = ablation_words.not_stored(run)
        return
    if record.about.key.kind != kind:
        at.lost = f"The address asks for run {quoted(run, 40)}, which is of another view."
        return
    try:
        at.result = result_from(kind, record.result)
    except (KeyError, TypeError, ValueError) as problem:
        at.lost = f"The stored run {quoted(run, 40)} is of another version ({problem!r})."
        return
    at.experiment_id, at.failed, at.note = record.about.experiment_id, "", ""
    at.partial = []


def viewer() -> str:
    """Who asks: this browser session."""
    return st.session_state.setdefault("ablation:viewer", secrets.token_hex(8))
