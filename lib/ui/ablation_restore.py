"""A stored request, back in the controls of the ablation page: what they ask for is it again.

Settings travel in the address, as if they had been chosen there; so do texts, where it can hold them.
"""

import streamlit as st

from lib.ablation import AblationRequest, limits
from lib.ablation.generate import GenerateRequest
from lib.ablation.kinds import Request
from lib.ablation.meaning import MeaningRequest
from lib.ui import ablation_address, ablation_texts
from lib.ui.ablation_texts import Kept


def restore(request: Request) -> None:
    """Write a request of any kind into the address and, where that cannot hold it, the session."""
    if isinstance(request, AblationRequest):
        _intervention(request)
        _controls(request)
        if request.documents:
            _write(tokens=request.prompt_limit)
            _texts(request, request.documents, request.neutral)
        _write(neutral=len(request.neutral))
    elif isinstance(request, GenerateRequest):
        _intervention(request.ablation)
        _write(new=request.max_new_tokens, temperature=request.temperature, seed=request.seed)
        if request.control:
            _write(lane=request.control)
    elif isinstance(request, MeaningRequest):
        _write(
            layer=request.layer, code=request.code, count=request.count, tokens=request.prompt_limit
        )
        ablation_address.pick([(request.layer, latent) for latent in request.latents])
        _texts(request, request.documents, ())


def _write(**parameters: object) -> None:
    st.query_params.update({name: str(value) for name, value in parameters.items()})


def _intervention(request: AblationRequest) -> None:
    """What is done to which features, and the prompt."""
    plain = {"kind": limits.PAIR_CLAMP, "order": "energy", "hook": ""}
    asked = {"kind": request.intervention, "order": request.order, "hook": request.hook}
    _write(**{key: value for key, value in asked.items() if value != plain[key]})
    _write(strength=request.strength)
    if request.has_latents:
        _write(top=request.top)
    if request.layers:
        st.query_params["depth"] = [str(layer) for layer in request.layers]
    ablation_address.pick(request.picked)
    if request.prompt:
        ablation_address.keep_text("prompt", request.prompt)


def _controls(request: AblationRequest) -> None:
    _write(draws=request.draws, seed=request.seed)
    if set(request.controls) != set(limits.CONTROLS):
        st.query_params["control"] = list(request.controls) or ["none"]
    doses = {"strength": request.dose_strengths, "number": request.dose_tops}
    if any(doses.values()):
        st.query_params["dose"] = [name for name, points in doses.items() if points]


def _texts(
    request: AblationRequest | MeaningRequest,
    documents: tuple[str, ...],
    neutral: tuple[str, ...],
) -> None:
    """Held-out documents by their number, lines as lines, all else as the texts of that run."""
    usual = neutral == ablation_texts.neutral()[: len(neutral)]
    found, _ = ablation_texts.heldout(request.experiment_id, len(documents))
    if usual and tuple(found) == documents:
        _write(documents=len(documents))
    elif usual and all(text.splitlines() == [text] for text in documents):
        _write(texts="pasted")
        ablation_address.keep_text("lines", "\n".join(documents))
    else:
        ablation_texts.keep(Kept(request.id, documents, neutral))
        _write(texts=ablation_texts.STORED)
