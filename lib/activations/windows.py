"""Documents as windows of tokens, and windows as padded batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.corpora import Document

BATCH_TOKENS = 2_048


@dataclass(frozen=True)
class Window:
    """Consecutive tokens of one document, run with BOS in front."""

    document: int
    """Index into the harvest's document list."""
    start: int
    """First token of the document in this window."""
    ids: tuple[int, ...]


def windows(
    tokenizer: object, documents: list[Document], window: int
) -> tuple[list[Window], list[list[int]]]:
    """Cut documents into windows of at most ``window`` tokens with BOS; also each document's ends.

    The second value gives, per document, the character at which each token ends: token t of a
    document is ``text[ends[t - 1]:ends[t]]``.
    """
    cut, ends = [], []
    coded = tokenizer(
        [d.text for d in documents], add_special_tokens=False, return_offsets_mapping=True
    )
    for index, (ids, spans) in enumerate(zip(coded.input_ids, coded.offset_mapping, strict=True)):
        # Byte-level tokenizers give pieces of one character the same span: make ends monotonous.
        ends.append(np.maximum.accumulate([e for _, e in spans]).tolist() if spans else [])
        for start in range(0, len(ids), window - 1):
            cut.append(Window(index, start, tuple(ids[start : start + window - 1])))
    return cut, ends


def batches(cut: list[Window], bos: int, pad: int) -> Iterator[tuple[list[Window], Tensor, Tensor]]:
    """Windows of similar length, padded on the right: (windows, ids, attention mask)."""
    order = sorted(range(len(cut)), key=lambda i: -len(cut[i].ids))
    while order:
        longest = len(cut[order[0]].ids) + 1
        count = max(1, BATCH_TOKENS // longest)
        group, order = [cut[i] for i in order[:count]], order[count:]
        ids = torch.full((len(group), longest), pad)
        mask = torch.zeros(len(group), longest, dtype=torch.long)
        for row, item in enumerate(group):
            n = len(item.ids) + 1
            ids[row, :n] = torch.tensor([bos, *item.ids])
            mask[row, :n] = 1
        yield group, ids, mask
