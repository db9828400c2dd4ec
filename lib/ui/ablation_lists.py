"""Saved lists of features: a file each, apart from the store, one folder per experiment."""

import json
import re
from pathlib import Path

import streamlit as st

from lib import paths
from lib.ui import ablation_address

Picks = tuple[tuple[int, int], ...]
_NAME = re.compile(r"[\w][\w .-]{0,59}")


class ListError(ValueError):
    """A list that cannot be saved or read; the message says what to do."""


def folder(experiment_id: str) -> Path:
    return paths.work() / "feature_lists" / experiment_id


def names(experiment_id: str) -> list[str]:
    return sorted(file.stem for file in folder(experiment_id).glob("*.json"))


def save(experiment_id: str, name: str, picks: Picks) -> None:
    """Keep these features under a name; a list of the same name is replaced.

    Raises:
        ListError: an odd name, no feature, or a folder that cannot be written.
    """
    if not _NAME.fullmatch(name) or name.endswith((".", " ")):
        raise ListError(
            f"{name[:60]!r} cannot name a list: use up to 60 letters, digits, spaces, - and _"
        )
    if not picks:
        raise ListError("no feature is picked: pick one or more above, then save them")
    file = folder(experiment_id) / f"{name}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        building = file.with_suffix(".building")
        building.write_text(json.dumps([list(pair) for pair in picks]), encoding="utf-8")
        building.replace(file)
    except OSError as problem:
        raise ListError(f"the list could not be saved ({problem})") from None


def load(experiment_id: str, name: str) -> Picks:
    """The features of a saved list.

    Raises:
        ListError: there is none of this name, or its file is not a list of features.
    """
    if name not in names(experiment_id):
        raise ListError(f"no saved list {name!r} for {experiment_id}")
    file = folder(experiment_id) / f"{name}.json"
    try:
        pairs = json.loads(file.read_text(encoding="utf-8"))
        return tuple((int(layer), int(latent)) for layer, latent in pairs)
    except (OSError, ValueError, TypeError) as problem:
        raise ListError(f"{file} is no list of features ({problem}): delete it") from None


def show(experiment_id: str, picked: Picks) -> None:
    """Open a list, which puts its features into the address, or save the picked ones."""
    known = names(experiment_id)

    def opened() -> None:
        name = st.session_state["ablation:list"]
        st.session_state["ablation:list"] = None
        if name is not None:
            try:
                ablation_address.pick(load(experiment_id, name))
            except ListError as problem:
                st.session_state["ablation:list:problem"] = str(problem)

    st.selectbox(
        "Saved lists", known, index=None, key="ablation:list", on_change=opened,
        placeholder="Open a list" if known else "None saved yet for this experiment",
    )  # fmt: skip
    problem = st.session_state.pop("ablation:list:problem", "")
    if problem:
        st.warning(problem)
    name_at, save_at = st.columns([3, 1], vertical_alignment="bottom")
    name = name_at.text_input("Save the picked features as", key="ablation:list:name")
    if save_at.button("Save", disabled=not name, width="stretch"):
        try:
            save(experiment_id, name.strip(), picked)
        except ListError as refused:
            st.warning(str(refused))
        else:
            st.success(f"Saved {len(picked)} as {name.strip()}.")
