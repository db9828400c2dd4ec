"""What is done to which features: intervention, depths, strength and the set, all in the address."""

from functools import partial
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.ablation import limits, selection
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ui import ablation_address, ablation_lists, cache
from lib.ui.frame import url_choice, url_multi
from lib.ui.links import quoted

INTERVENTIONS = {
    limits.PAIR_CLAMP: (
        "Clamp to base",
        "Each chosen feature writes what it would write in the base model: x_f - strength times the "
        "sum of a (d_tuned - d_base). What the dictionary does not see stays as it was.",
    ),
    limits.CODE_CLAMP: (
        "Give base's activation",
        "Each chosen feature gets the activation that it has in base, and keeps its tuned "
        "direction: for shared features that fire more or less than before.",
    ),
    limits.ZERO: (
        "Silence",
        "What the chosen features write into the tuned model is taken away altogether.",
    ),
    limits.SUBSPACE_SWAP: (
        "Swap the subspace",
        "Inside the space that the chosen features' tuned directions span, the tuned activation is "
        "replaced by base's.",
    ),
    limits.FULL_PATCH: (
        "Full patch",
        "The whole activation is replaced by base's: the ceiling of what any clamp at these places "
        "can undo. Needs no features.",
    ),
    limits.STEER: (
        "Steer",
        "The tuned direction of each chosen feature is added on every token, as strongly as the "
        "strength says.",
    ),
    limits.SCALE_LORA: (
        "Scale the adapter",
        "The adapter's own weights at the chosen depths are multiplied: 0 switches it off there, 1 "
        "is the tuned model, 2 doubles it. Needs no features.",
    ),
}
HOOKS = {"mlp": "MLP output", "residual": "residual stream"}
ORDERS = {"energy": "share of the difference", "nu": "least present in base (nu)"}
MOST_STEER = 100.0
TOP = 32


class Choice(NamedTuple):
    """Fields of a request, under its names."""

    intervention: str
    hook: str
    layers: tuple[int, ...]
    order: str
    top: int
    picked: tuple[tuple[int, int], ...]
    strength: float


def choose(
    experiment_id: str,
    info: BundleInfo,
    offered: dict[int, Offered],
    first: tuple[DeltaGenerator, DeltaGenerator, DeltaGenerator],
    second: tuple[DeltaGenerator, DeltaGenerator],
) -> Choice:
    """Draw the widgets: intervention, depths, strength; then ranking and number of features."""
    with first[0]:
        kind = url_choice(
            "Intervention", list(INTERVENTIONS), "kind", format_func=lambda k: INTERVENTIONS[k][0]
        )
    plain = kind not in limits.WITH_LATENTS
    with first[1]:
        layers = _depths(experiment_id, kind, info)
    with first[2]:
        strength = _strength(kind)
    hook = ""
    if kind == limits.FULL_PATCH:
        with second[0]:
            hook = url_choice("Place", list(HOOKS), "hook", info.hook, format_func=HOOKS.get)
    order, top, picked = ("energy", 0, ()) if plain else _features(offered, layers, second)
    return Choice(kind, "" if hook == info.hook else hook, layers, order, top, picked, strength)


def complete(choice: Choice) -> bool:
    """Whether a request can be built of it; the page says what is missing."""
    if choice.layers or choice.intervention == limits.SCALE_LORA:
        return True
    st.info("Choose at least one depth.")
    return False


def explain(choice: Choice) -> None:
    """The intervention in one sentence, under the controls."""
    st.caption(f"**{INTERVENTIONS[choice.intervention][0]}.** "
               f"{INTERVENTIONS[choice.intervention][1]}")  # fmt: skip


def _depths(experiment_id: str, kind: str, info: BundleInfo) -> tuple[int, ...]:
    """Every layer where no dictionary is needed; by default the measured ones."""
    every = cache.experiment(experiment_id)["n_layers"]
    plain = kind not in limits.WITH_LATENTS and isinstance(every, int)
    options = list(range(every)) if plain else list(info.layers)
    default = options if kind == limits.SCALE_LORA else list(info.layers)
    chosen = url_multi("Depths (layers)", options, "depth", default)
    if plain and chosen == options and kind == limits.SCALE_LORA:
        return ()
    return tuple(sorted(chosen))


def _strength(kind: str) -> float:
    if kind == limits.STEER:
        return ablation_address.number(
            "Activation added", "strength", 1.0, st.number_input, -MOST_STEER, MOST_STEER
        )
    high = 2.0 if kind == limits.SCALE_LORA else 1.0
    default = 0.0 if kind == limits.SCALE_LORA else 1.0
    label = "Factor" if kind == limits.SCALE_LORA else "Strength"
    return ablation_address.number(
        label, "strength", default, partial(st.slider, step=0.05), 0.0, high
    )


def _features(
    offered: dict[int, Offered],
    layers: tuple[int, ...],
    places: tuple[DeltaGenerator, DeltaGenerator],
) -> tuple[str, int, tuple[tuple[int, int], ...]]:
    parts = [offered[layer] for layer in layers]
    known = list(dict.fromkeys(order for part in parts for order in part.orders)) or ["energy"]
    if any("nu" not in part.orders for part in parts) and "nu" in known:
        known.remove("nu")
    with places[0]:
        order = url_choice(
            "Features ranked by", known, "order", format_func=_ranking,
            help="Measured on training text; scored on other text.",
        )  # fmt: skip
    most = max((len(selection.ranked(part, order)) for part in parts), default=1)
    with places[1]:
        top = ablation_address.number(
            "Features per depth", "top", min(TOP, most), st.slider, 0, max(most, 1)
        )
    return order, top, _picked(offered, layers)


def _ranking(order: str) -> str:
    return ORDERS.get(order, f"class {order.removeprefix('class:')} only")


def _picked(offered: dict[int, Offered], layers: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Picked features that can be edited at these depths; the others are named, not dropped."""
    asked, wrong = ablation_address.picks()
    usable = [p for p in asked if p[0] in layers and p[1] in offered[p[0]].latents]
    lost = [
        *wrong,
        *(f"{layer}.{latent}" for layer, latent in asked if (layer, latent) not in usable),
    ]
    if lost:
        st.warning(
            f"Picked features {', '.join(quoted(name, 24) for name in lost[:8])} are not edited: "
            "the live bundle carries them at none of the chosen depths. Open the depth, or pick "
            "others."
        )
    return tuple(usable)


def pick_features(experiment_id: str, offered: dict[int, Offered], choice: Choice) -> None:
    """Hand-picked features and saved lists, for a popover."""
    shares = {
        (layer, int(latent)): float(share)
        for layer in choice.layers
        for latent, share in zip(
            offered[layer].latents, offered[layer].difference_share, strict=True
        )
    }
    names = sorted(shares, key=lambda pair: (pair[0], -shares[pair]))
    key = "ablation:picked"
    st.session_state[key] = list(choice.picked)
    st.multiselect(
        "Hand-picked features besides", names, key=key,
        format_func=lambda p: f"layer {p[0]}, feature {p[1]} ({shares[p]:.1%} of the difference)",
        placeholder="None; with 0 features per depth, only these are edited",
        on_change=lambda: ablation_address.pick(st.session_state[key]),
    )  # fmt: skip
    ablation_lists.show(experiment_id, choice.picked)
