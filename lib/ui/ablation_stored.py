"""Stored runs: every finished request with its answer; open one, or run it anew and compare."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import streamlit as st

from lib.ablation import AblationError
from lib.ablation.client import AblationClient
from lib.ablation.kinds import request_from
from lib.ablation.results import About
from lib.ui import ablation_clients, ablation_restore, ablation_run, ablation_words
from lib.ui.ablation_choice import INTERVENTIONS

SHOWN = 200
VIEWS = {"generate": "generate", "meaning": "shared"}
KINDS = {"documents": "Documents", "prompt": "One prompt", "generate": "Generate",
         "shared": "Shared features"}  # fmt: skip
COLUMNS = {
    "id": "run", "view": "kind", "experiment_id": "experiment", "what": "asked", "texts": "texts",
    "when": "finished (UTC)", "seconds": "seconds", "device": "device",
}  # fmt: skip


def show(experiment_id: str) -> None:
    """The list, newest first; the chosen run can be opened and replayed."""
    device = _device(experiment_id)
    client = ablation_clients.client(device)
    recent = client.results.recent(SHOWN)[::-1]
    found = [about for about in recent if about.key.kind != "lens"]  # the Lens page shows those
    for note in client.results.damaged:
        st.warning(note, icon=":material/broken_image:")
    if not found:
        _unknown(client)
        st.info(
            "No run is stored yet. Whatever is run on the other views is kept here with its whole "
            "request, seeds and hashes included.",
            icon=":material/inventory_2:",
        )
        return
    rows = pl.DataFrame([row(about) for about in found])
    event = st.dataframe(
        rows, hide_index=True, width="stretch", on_select="rerun", selection_mode="single-row",
        height=min(38 + 35 * len(rows), 388), key="ablation:stored",
        column_config={**COLUMNS, "seconds": st.column_config.NumberColumn(format="%.1f")},
    )  # fmt: skip
    chosen = event.selection.rows
    if chosen and chosen[0] < len(found):
        st.query_params[ablation_run.RUN] = found[chosen[0]].key.request
    asked = st.query_params.get(ablation_run.RUN, "")
    about = next((one for one in found if one.key.request == asked), None)
    if about is None:
        _unknown(client)
        many = ablation_words.counted(len(found), "run")
        st.caption(f"{many}, newest first. Choose one to open it or to run it anew.")
        return
    _one(client, device, about)


def _unknown(client: AblationClient) -> None:
    asked = st.query_params.get(ablation_run.RUN, "")
    if asked and client.results.newest(asked) is None:
        st.warning(ablation_words.not_stored(asked))


def _device(experiment_id: str) -> str:
    try:
        info, _ = ablation_clients.bundle(experiment_id)
    except AblationError:
        return "cpu"
    found, _ = ablation_clients.spots(experiment_id, info)
    return found[0].word if found else "cpu"


def row(about: About) -> dict[str, Any]:
    """What the list says of one run."""
    return {
        "id": about.key.request,
        "when": datetime.fromtimestamp(about.at, UTC).strftime("%m-%d %H:%M:%S"),
        "view": KINDS[view_of(about)],
        "experiment_id": about.experiment_id,
        "what": _asked(about),
        "texts": _texts(about.request.get("ablation", about.request)),
        "seconds": about.running,
        "device": str(about.made.get("device", "")),
    }


def view_of(about: About) -> str:
    """Which view of the page shows it."""
    mode = "documents" if about.request.get("documents") else "prompt"
    return VIEWS.get(about.key.kind, mode)


def _asked(about: About) -> str:
    if about.key.kind == "meaning":
        return f"layer {about.request['layer']}, one feature at a time"
    fields = about.request.get("ablation", about.request)
    name = INTERVENTIONS.get(fields["intervention"], (fields["intervention"], ""))[0]
    where = ", ".join(map(str, fields["layers"])) or "all"
    many = f", top {fields['top']} by {fields['order']}" if fields["top"] else ""
    picked = f", {len(fields['picked'])} picked" if fields["picked"] else ""
    return f"{name} {fields['strength']:g} at {where}{many}{picked}"


def _texts(fields: dict[str, Any]) -> str:
    documents = fields.get("documents")
    if documents:
        return ablation_words.counted(len(documents), "document")
    return str(fields.get("prompt", ""))[:40]


def _one(client: AblationClient, device: str, about: About) -> None:
    st.markdown(
        f"**Run `{about.key.request}`**: {_asked(about)}; {about.experiment_id}; "
        f"live bundle `{about.key.bundle[:12]}`, code `{about.key.code[:12]}`."
    )
    opening, again, _ = st.columns([1.2, 1.4, 5])
    opening.button(
        "Open", icon=":material/open_in_full:", on_click=open_run, args=(about,), width="stretch"
    )
    at = ablation_run.slot("stored")
    if again.button("Run it anew", icon=":material/replay:", width="stretch"):
        at.failed = at.note = ""
        at.experiment_id, at.device = about.key.request, device
        try:
            at.ticket = client.replay(about.key.request, viewer=ablation_run.viewer())
        except AblationError as problem:
            at.failed = str(problem)
    ablation_run.follow("stored", about.key.request)
    with st.expander("The whole request, and what it was made by"):
        st.json({"request": about.request, "made by": about.made}, expanded=1)


def open_run(about: About) -> None:
    """Lead to the view that shows it, with its settings and texts in the controls."""
    for name in list(st.query_params):
        del st.query_params[name]
    st.query_params["experiment"] = about.experiment_id
    view = view_of(about)
    if view != "documents":
        st.query_params["view"] = view
    ablation_run.entered(view)
    st.query_params[ablation_run.RUN] = about.key.request
    ablation_run.slot(view).asked = ""
    try:
        request = request_from(about.key.kind, about.request)
    except AblationError:
        return  # the view says what is wrong with it
    ablation_restore.restore(request)
