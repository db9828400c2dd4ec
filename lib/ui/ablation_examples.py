"""The prompt of an ablation, and examples of ours in the manner of each corpus."""

import streamlit as st

from lib.ablation.limits import PROMPT_LIMIT
from lib.ui import ablation_address, cache

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


def prompt(experiment_id: str) -> str:
    """The prompt, kept whatever else happens; by default an example in the corpus' manner."""
    examples = (*EXAMPLES.get(str(cache.experiment(experiment_id)["corpus"]), ()), *NEUTRAL)
    return ablation_address.text(
        f"Prompt (at most {PROMPT_LIMIT} tokens)", "prompt", examples[0], height=82
    )


def example(experiment_id: str) -> None:
    """Choosing an example puts it in place of the prompt."""
    examples = (*EXAMPLES.get(str(cache.experiment(experiment_id)["corpus"]), ()), *NEUTRAL)

    def took() -> None:
        if st.session_state["ablation:example"] is not None:
            text = st.session_state["ablation:example"]
            ablation_address.keep_text("prompt", text, examples[0])
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
