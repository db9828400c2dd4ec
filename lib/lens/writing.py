"""Continuing prompts while a vector is added to the stream: a seeded, batched, cached writer."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lib.lens.passes import edited
from lib.models import LoadedModel

FEWEST_NEW = 8
"""Tokens before a text may end, so that an end at once is not taken for a text."""


@dataclass(frozen=True)
class Writer:
    """All prompts x samples, continued with the same random numbers whatever is added.

    Prompts of different lengths are padded on the left, where nothing attends to them.
    """

    loaded: LoadedModel
    layer: int
    prompts: tuple[tuple[int, ...], ...]
    """Token ids, each prompt once per sample."""
    tokens: int
    temperature: float
    seed: int

    def write(self, added: Float[Tensor, " d"] | None) -> list[list[int]]:
        """Continuations as token ids, up to the end token."""
        if added is None:
            return self._generate()

        def push(stream: Tensor) -> Tensor:
            return stream + added.to(stream.device, stream.dtype)

        with edited(self.loaded, self.layer, push):
            return self._generate()

    @torch.no_grad()
    def _generate(self) -> list[list[int]]:
        tokenizer, device = self.loaded.tokenizer, self.loaded.device
        width = max(map(len, self.prompts))
        padding = [width - len(ids) for ids in self.prompts]
        end = tokenizer.eos_token_id
        ids = [[end] * n + list(ids) for n, ids in zip(padding, self.prompts, strict=True)]
        mask = [[0] * n + [1] * (width - n) for n in padding]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            out = self.loaded.model.generate(
                torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                max_new_tokens=self.tokens,
                min_new_tokens=min(FEWEST_NEW, self.tokens),
                do_sample=True,
                temperature=self.temperature,
                top_k=0,
                top_p=1.0,
                pad_token_id=end,
            )
        rows = out[:, width:].tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]
