"""What can be run and where: live bundles, backends, and one client of the workers for all viewers."""

from pathlib import Path
from typing import NamedTuple

import streamlit as st

from lib.ablation import AblationError, backend, catalogue, places
from lib.ablation.backend import Backend, Need
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.client import AblationClient
from lib.ablation.lane import DEVICES, devices_asked
from lib.ui import cache


@st.cache_resource(show_spinner=False)
def client(device: str) -> AblationClient:
    """One model worker for a device, whoever asks; empty = those that the environment names."""
    return AblationClient(devices=(device,)) if device else AblationClient()


@st.cache_data(max_entries=64, show_spinner=False)
def _bundle(bundle: str, stamp: str) -> tuple[BundleInfo, dict[int, Offered]]:
    info = catalogue.read_info(Path(bundle))
    return info, {layer: catalogue.offered(Path(bundle), layer) for layer in info.layers}


def bundle(experiment_id: str) -> tuple[BundleInfo, dict[int, Offered]]:
    """What the live bundle of an experiment offers.

    Raises:
        AblationError: there is none, or it is damaged.
    """
    folder = catalogue.bundle_of(experiment_id)
    return _bundle(str(folder), catalogue.stamp(folder))


def carries(experiment_id: str, layer: int, latent: int) -> bool:
    """Whether a live bundle can edit this feature."""
    try:
        _, latents = bundle(experiment_id)
    except AblationError:
        return False
    return layer in latents and latent in latents[layer].latents


def offered(experiment_id: str) -> tuple[BundleInfo, dict[int, Offered]]:
    """As ``bundle``; without one the page says so and ends here."""
    try:
        return bundle(experiment_id)
    except AblationError as problem:
        no_run(str(problem))
        st.stop()


def lacks(experiment_id: str) -> str:
    """Why no run of one's own can be started on an experiment; empty = one can."""
    try:
        bundle(experiment_id)
    except AblationError as problem:
        return str(problem)
    return ""


def no_run(problem: str) -> None:
    """Say that a run of one's own needs a live bundle, and how to get one."""
    st.info(f"A run of your own needs a live bundle: {problem}", icon=":material/science_off:")
    st.code(
        "python -m lib run FILE.yaml        # the experiment's file, with `keep: full`\n"
        "git checkout precomputed/live      # the committed bundles, if they were lost",
        language="bash",
    )


class Spot(NamedTuple):
    """One place that can serve an experiment."""

    word: str
    """Of ``client``; as ``lib.ablation.places`` reads it."""
    title: str
    remote: bool = False


@st.cache_data(ttl=60, show_spinner=False)
def _spots(base_model: str, n_parameters: int | None) -> tuple[list[Spot], list[str]]:
    found, refused = [], []
    for place in backend.available():
        why_not = ""
        for precision in place.precisions or ("fp32",):
            # The adapter's public name is asked for with the consent; here, whether it would do.
            need = Need(base_model, n_parameters, precision, adapter_repo="OWNER/NAME")
            why_not = place.refusal(need)
            if not why_not:
                found.append(_spot(place, precision))
            if why_not or place.remote:
                break
        if why_not:
            refused.append(f"{place.title}: {why_not}")
    return sorted(found, key=lambda spot: (spot.remote, spot.word == "cpu")), refused


def _spot(place: Backend, precision: str) -> Spot:
    if place.device is None:
        return Spot(places.NDIF, place.title, remote=True)
    word = place.device if precision == "fp32" else f"{place.device}/{precision}"
    several = len(place.precisions) > 1
    return Spot(word, f"{place.title}, {precision}" if several else place.title)


def spots(experiment_id: str, info: BundleInfo) -> tuple[list[Spot], list[str]]:
    """Places that can serve this experiment, best first, and why the others cannot.

    Workers that the environment names are what there is: then nothing is left to choose.
    """
    if devices_asked() != (None,):
        named = ", ".join(str(name) for name in devices_asked())
        return [Spot("", f"{named} ({DEVICES})")], []
    size = cache.experiment(experiment_id)["n_parameters"]
    return _spots(info.base_model, size if isinstance(size, int) else None)
