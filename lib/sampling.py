"""Text sampled from the base model itself: seeded, batched, needs no network, never committed."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from lib.models import LoadedModel


def sample_texts(
    loaded: LoadedModel,
    tokens: int,
    *,
    length: int = 96,
    batch: int = 64,
    seed: int = 0,
    progress: Callable[[int], None] = lambda n: None,
) -> list[str]:
    """At least ``tokens`` tokens of unconditioned samples at temperature 1, from BOS.

    The same seed, batch and weights give the same texts on the same device.
    """
    texts: list[str] = []
    produced = 0
    start = loaded.tokenizer.bos_token_id
    while produced < tokens:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 1_000_003 + len(texts))
            out = loaded.model.generate(
                torch.full((batch, 1), start, device=loaded.device),
                attention_mask=torch.ones(batch, 1, dtype=torch.long, device=loaded.device),
                max_new_tokens=length,
                min_new_tokens=8,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                pad_token_id=loaded.tokenizer.eos_token_id,
            )
        new = loaded.tokenizer.batch_decode(out[:, 1:], skip_special_tokens=True)
        kept = [text for text in new if text.strip()]
        count = sum(len(ids) for ids in loaded.tokenizer(kept, add_special_tokens=False).input_ids)
        texts += kept
        produced += count
        progress(count)
    return texts


def write_jsonl(texts: list[str], path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        for i, text in enumerate(texts):
            out.write(json.dumps({"id": f"sampled-{i:05d}", "text": text}) + "\n")
