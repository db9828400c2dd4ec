"""The controls of a live ablation, all of them in the address."""

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from lib.ablation import AblationError, AblationRequest
from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.request import PROMPT_LIMIT
from lib.ui import cache
from lib.ui.frame import url_multi

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
"""Ours, in the manner of each corpus and in none of them: neither model was trained on them."""
NEUTRAL = (
    "The library opens at nine on weekdays. Visitors can borrow up to six books at a time and "
    "renew them once, unless another reader has asked for",
)
SEEDS = 1_000


def request(
    experiment_id: str, info: BundleInfo, offered: dict[int, Offered]
) -> AblationRequest | None:
    """Draw all controls and say what they ask for; None (and the reason) when it cannot be run."""
    depths, top, strength, seed = st.columns([4, 3, 2, 1.4])
    with depths:
        layers = url_multi("Depths clamped together (layers)", info.layers, "depth")
    with top:
        count = _top(offered)
    with strength:
        share = _number(
            "Strength", "strength", 1.0, lambda **kw: st.slider(**kw, step=0.05), 0.0, 1.0
        )
    with seed:
        draw = _number("Control seed", "seed", 0, lambda **kw: st.number_input(**kw), 0, SEEDS)
    prompt = _prompt(experiment_id)
    picked = _picked(offered, layers)
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
            strength=share,
            seed=draw,
        )
    except AblationError as problem:
        st.warning(f"This cannot be run: {problem}")
        return None


def _top(offered: dict[int, Offered]) -> int:
    most = min(min(len(part.top), len(part.pool)) for part in offered.values())
    return _number(
        "Latents per depth, largest share of the difference first",
        "top",
        min(32, most),
        lambda **kw: st.slider(**kw, step=1),
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


def _prompt(experiment_id: str) -> str:
    """Free text; an example can be put in its place. Only the text itself is in the address."""
    examples = (*EXAMPLES.get(str(cache.experiment(experiment_id)["corpus"]), ()), *NEUTRAL)
    key = "url:prompt"
    st.session_state[key] = st.query_params.get("prompt", examples[0])

    def typed() -> None:
        st.query_params["prompt"] = st.session_state[key]

    def took() -> None:
        if st.session_state["ablation:example"] is not None:
            st.query_params["prompt"] = st.session_state["ablation:example"]
            st.session_state["ablation:example"] = None

    text, example = st.columns([4, 2])
    with text:
        prompt = st.text_area(
            f"Prompt (at most {PROMPT_LIMIT} tokens)", key=key, height=100, on_change=typed
        )
    with example:
        st.selectbox(
            "Put an example in its place",
            examples,
            index=None,
            key="ablation:example",
            on_change=took,
            format_func=lambda text: text.split("### Instruction:\n")[-1][:60] + " ...",
            placeholder="Choose an example",
        )
    return prompt


def _number(label: str, key: str, default: T, widget: Callable[..., T], low: T, high: T) -> T:
    """A number held by query parameter ``key``; the default leaves none, nonsense warns."""
    name = f"url:{key}"
    asked = st.query_params.get(key)
    value = default if asked is None else _read(asked, type(default), low, high)
    if value is None:
        st.warning(f"The address asks for {label.lower()} `{asked[:40]}`; showing {default}.")
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
