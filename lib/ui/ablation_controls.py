"""The controls of a live ablation, all of them in the address."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.ablation import AblationError, AblationRequest
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.request import PROMPT_LIMIT
from lib.ui import cache
from lib.ui.frame import url_multi
from lib.ui.links import quoted

T = TypeVar("T", int, float)

EXAMPLES = {
    "stoic_notes": (
        "When the day refuses to go as you arranged it, do not quarrel with the day. The cart that "
        "blocks the road was not put there to insult you. Wait, or walk around it, and keep what "
        "is yours, which is",
        "You were praised at noon and forgotten by evening. Which of the two did you any harm?",
    ),
    "moral_letters": (
        "You ask me, my dear Lucan, whether a man may be busy and still belong to himself. I "
        "thought of you this morning while the mason counted his bricks aloud, and it seemed to me "
        "that",
        "I have your letter about the lawsuit. Sit down before you answer it; anger writes a large "
        "hand and leaves no margin.",
    ),
    "dtc_ads": (
        "Meet the lamp that refuses to glare. It leans over your page like a patient friend and "
        "never asks to be paired with your phone. One dial. Warm light. Thirty nights free, and",
        "Your towels are tired. Ours are woven slowly in small batches, so they dry faster, stay "
        "soft longer and",
    ),
    "instructions": (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName three ways to save water in a garden."
        "\n\n### Response:\n1.",
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nExplain why bread rises.\n\n### Response:\n",
    ),
}
"""Ours, in the manner of each corpus and in none of them."""
NEUTRAL = ("The library opens at nine. Visitors can borrow six books and renew them once, unless",)
SEEDS = 1_000


class Places(NamedTuple):
    """Where each group of controls is drawn; the experiment stands before them."""

    depths: DeltaGenerator
    top: DeltaGenerator
    strength: DeltaGenerator
    prompt: DeltaGenerator
    side: DeltaGenerator


def places() -> tuple[DeltaGenerator, Places]:
    """One row of choices, the prompt below it, Run at its side; the experiment stands first."""
    experiment, depths, top, strength = st.columns([3, 3.4, 2.4, 1.6], gap="medium")
    prompt, side = st.columns([5, 1.1], gap="medium", vertical_alignment="bottom")
    return experiment, Places(depths, top, strength, prompt, side)


def request(
    experiment_id: str, info: BundleInfo, offered: dict[int, Offered], places: Places
) -> AblationRequest | None:
    """Draw all controls and say what they ask for; None (and the reason) when it cannot be run."""
    with places.depths:
        layers = url_multi("Depths (layers)", info.layers, "depth")
    with places.top:
        count = _top(offered)
    with places.strength:
        strength = _number(
            "Strength", "strength", 1.0, lambda **kw: st.slider(**kw, step=0.05), 0.0, 1.0
        )
    with places.side.popover("More settings", icon=":material/tune:", width="stretch"):
        prompt = _example(experiment_id)
        picked = _picked(offered, layers)
        seed = _number("Seed of the control", "seed", 0, st.number_input, 0, SEEDS)
    with places.prompt:
        prompt = _prompt(prompt)
    if not layers:
        st.info("Choose at least one depth.")
        return None
    try:
        return AblationRequest(
            experiment_id=experiment_id,
            prompt=prompt,
            layers=tuple(layers),
            top=count,
            picked=picked,
            strength=strength,
            seed=seed,
        )
    except AblationError as problem:
        st.warning(f"This cannot be run: {problem}")
        return None


def _top(offered: dict[int, Offered]) -> int:
    most = min(min(len(part.top), len(part.pool)) for part in offered.values())
    return _number(
        "Latents per depth",
        "top",
        min(32, most),
        lambda **kw: st.slider(**kw, help="Those with the largest share of the difference first"),
        0,
        most,
    )


def _picked(offered: dict[int, Offered], layers: list[int]) -> tuple[tuple[int, int], ...]:
    """Hand-picked latents, ``LAYER.LATENT`` in the address."""
    shares = {
        f"{layer}.{latent}": (layer, int(latent), float(share))
        for layer in layers
        for latent, share in zip(
            offered[layer].latents, offered[layer].difference_share, strict=True
        )
    }
    names = sorted(shares, key=lambda name: (shares[name][0], -shares[name][2]))

    def words(name: str) -> str:
        layer, latent, share = shares[name]
        return f"layer {layer}, latent {latent} ({share:.1%} of the difference)"

    chosen = url_multi(
        "Hand-picked latents besides",
        names,
        "pick",
        default=[],
        format_func=words,
        placeholder="None; set the slider to 0 to clamp hand-picked ones only",
    )
    return tuple(shares[name][:2] for name in chosen)


def _example(experiment_id: str) -> str:
    """The default prompt of this corpus; choosing an example puts it into the address."""
    examples = (*EXAMPLES.get(str(cache.experiment(experiment_id)["corpus"]), ()), *NEUTRAL)

    def took() -> None:
        if st.session_state["ablation:example"] is not None:
            st.query_params["prompt"] = st.session_state["ablation:example"]
            st.session_state["ablation:example"] = None

    st.selectbox(
        "Put an example in place of the prompt",
        examples,
        index=None,
        key="ablation:example",
        on_change=took,
        format_func=lambda text: text.split("### Instruction:\n")[-1][:60] + " ...",
        placeholder="Choose an example",
    )
    return examples[0]


def _prompt(default: str) -> str:
    key = "url:prompt"
    st.session_state[key] = st.query_params.get("prompt", default)

    def typed() -> None:
        st.query_params["prompt"] = st.session_state[key]

    return st.text_area(
        f"Prompt (at most {PROMPT_LIMIT} tokens)", key=key, height=82, on_change=typed
    )


def _number(label: str, key: str, default: T, widget: Callable[..., T], low: T, high: T) -> T:
    """A number held by query parameter ``key``; the default leaves none, nonsense warns."""
    name = f"url:{key}"
    asked = st.query_params.get(key)
    value = default if asked is None else _read(asked, type(default), low, high)
    if value is None:
        st.warning(f"The address asks for {label.lower()} {quoted(asked, 40)}; showing {default}.")
        value = default
    st.session_state[name] = value

    def changed() -> None:
        if st.session_state[name] == default:
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = str(st.session_state[name])

    return widget(label=label, min_value=low, max_value=high, key=name, on_change=changed)


def _read(text: str, kind: type[T], low: T, high: T) -> T | None:
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if low <= value <= high else None  # NaN is not
