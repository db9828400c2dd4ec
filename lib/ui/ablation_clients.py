"""What can be run and where: live bundles, backends, and one client of the workers for all viewers."""

from pathlib import Path

import streamlit as st

from lib.ablation import AblationError, backend, catalogue
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


def offered(experiment_id: str) -> tuple[BundleInfo, dict[int, Offered]]:
    """As ``bundle``; without one the page says so and ends here."""
    try:
        return bundle(experiment_id)
    except AblationError as problem:
        st.info(f"Nothing can be clamped here: {problem}", icon=":material/science_off:")
        st.code(
            "python -m lib run FILE.yaml        # the experiment's file, with `keep: full`\n"
            "git checkout precomputed/live      # the committed bundles, if they were lost",
            language="bash",
        )
        st.stop()


@st.cache_data(ttl=60, show_spinner=False)
def _places(need: Need) -> list[tuple[Backend, str]]:
    """Every backend with why it cannot serve this; empty = it can."""
    return [(place, place.refusal(need)) for place in backend.available()]


def places(experiment_id: str, info: BundleInfo) -> tuple[list[Backend], list[str]]:
    """Backends that can serve this experiment, best first, and why the others cannot.

    Workers that the environment names are what there is: then nothing is left to choose.
    """
    if devices_asked() != (None,):
        named = ", ".join(str(name) for name in devices_asked())
        return [Backend("", f"{named} ({DEVICES})", "", ("fp32",))], []
    size = cache.experiment(experiment_id)["n_parameters"]
    need = Need(info.base_model, size if isinstance(size, int) else None)
    found = _places(need)
    usable = [place for place, why_not in found if not why_not]
    refused = [f"{place.title}: {why_not}" for place, why_not in found if why_not]
    return sorted(usable, key=lambda place: (place.remote, place.name == "cpu")), refused
