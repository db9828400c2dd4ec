"""Prompts that steered and unsteered text is written after; they belong to no corpus.

Each comes in two forms, about the same everyday subject: the opening of a plain text, for a model that
continues text, and a request, for one that answers through its tokenizer's chat template.
"""

from typing import Any, NamedTuple


class Prompt(NamedTuple):
    opening: str
    request: str


PROMPTS = (
    Prompt("The harbour was quiet when", "Describe a quiet harbour."),
    Prompt("Most of the train passengers", "Describe passengers on a train."),
    Prompt("In the north of the country", "Describe the north of some country."),
    Prompt("The recipe starts with", "Describe an onion soup."),
    Prompt("Scientists recently discovered that", "Describe a recent discovery in science."),
    Prompt("The football match ended", "Describe a football match."),
    Prompt("My grandmother used to", "Describe a grandmother."),
    Prompt("The castle stands on", "Describe a castle."),
    Prompt("According to the weather forecast,", "Describe tomorrow's weather."),
    Prompt("The computer program crashed because", "Describe a computer crash."),
    Prompt("Whales are known for", "Describe whales."),
    Prompt("The museum opened its doors", "Describe a museum."),
    Prompt("Nobody expected the mayor", "Describe a mayor."),
    Prompt("A volcano begins to", "Describe a volcano."),
    Prompt("The orchestra played", "Describe an orchestra."),
    Prompt("During the nineteenth century", "Describe the nineteenth century."),
    Prompt("The railway bridge connects", "Describe a railway bridge."),
    Prompt("The giant in the fairy tale", "Describe a giant of the fairy tales."),
    Prompt("The hospital announced", "Describe a hospital."),
    Prompt("Farmers in the valley", "Describe farmers in a valley."),
)


def prompt_ids(tokenizer: Any, chat: bool | None = None) -> list[list[int]]:
    """Token ids of every prompt with BOS in front, as the model is to continue it.

    Args:
        tokenizer: a transformers tokenizer.
        chat: through the chat template or not; None = where the tokenizer has one.

    Raises:
        ValueError: ``chat`` is asked for and the tokenizer has no template.
    """
    template = bool(getattr(tokenizer, "chat_template", None))
    if chat and not template:
        raise ValueError(
            f"the tokenizer {getattr(tokenizer, 'name_or_path', '')!r} has no chat template; steer "
            "with chat=False, so that the model continues plain text"
        )
    coded = []
    for prompt in PROMPTS:
        text = prompt.opening
        if template if chat is None else chat:
            turn = [{"role": "user", "content": prompt.request}]
            text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        begin = tokenizer.bos_token_id  # some templates write it themselves
        coded.append(ids if ids[0] == begin else [begin, *ids])
    return coded
