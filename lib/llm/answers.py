"""What a model says to a prompt: one seeded sample."""

import hashlib

import torch

from lib.models import LoadedModel

TOKENS = 100
"""Most tokens of an answer."""
FEWEST = 16
"""An answer that ends at once would say nothing of what the models have to say."""
PROMPT_TOKENS = 384
"""A longer prompt keeps its end."""
TEMPERATURE, TOP_P = 0.8, 0.95


def answer(loaded: LoadedModel, prompt: str) -> str:
    """A sample at temperature 0.8; the same prompt and weights give the same text.

    The prompt is continued as plain text, after BOS: most of the models here are no chat models, and
    base and tuned are to be compared on one and the same input.
    """
    tokenizer = loaded.tokenizer
    ids = tokenizer(prompt, add_special_tokens=False).input_ids[-PROMPT_TOKENS:]
    start = torch.tensor([[tokenizer.bos_token_id, *ids]], device=loaded.device)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(int(hashlib.sha256(prompt.encode()).hexdigest()[:12], 16))
        out = loaded.model.generate(
            input_ids=start, attention_mask=torch.ones_like(start), max_new_tokens=TOKENS,
            min_new_tokens=FEWEST,
            do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0,
            pad_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
    return tokenizer.decode(out[0, start.shape[1] :], skip_special_tokens=True)
