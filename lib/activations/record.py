"""Both models over the same batch, and what their hooked modules put out, written in shards."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import save_file
from torch import Tensor

from lib.activations.shards import Manifest
from lib.activations.windows import Window, batches, windows
from lib.corpora import Document
from lib.models import LoadedModel

SHARD_TOKENS = 16_384


class Recorder:
    """Forward hooks that keep the hooked modules' outputs of the last pass."""

    def __init__(self, loaded: LoadedModel, layers: list[int], hook: str) -> None:
        self.seen: dict[int, Tensor] = {}
        self._handles = [
            loaded.hooked(layer, hook).register_forward_hook(self._keep(layer)) for layer in layers
        ]

    def _keep(self, layer: int) -> Callable[..., None]:
        def keep(module: object, inputs: object, output: object) -> None:
            self.seen[layer] = (output[0] if isinstance(output, tuple) else output).detach()

        return keep

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


@torch.no_grad()
def harvest(
    loaded: LoadedModel,
    documents: list[Document],
    directory: Path,
    *,
    layers: list[int],
    hook: str,
    window: int,
    drop_first: int,
    dtype: torch.dtype,
    shuffle: bool,
    final_hidden: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Run both models over the documents and write the paired activations.

    Rows are tokens at window positions >= drop_first. ``shuffle`` permutes the batches, so that a
    contiguous read sees mixed documents. ``final_hidden`` also keeps the normed last hidden state of
    both sides (for the output axis) and all token ids needed to score predictions.
    """
    cut, _ = windows(loaded.tokenizer, documents, window)
    groups = list(batches(cut, loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id))
    if shuffle:
        order = np.random.default_rng(0).permutation(len(groups))
        groups = [groups[i] for i in order]
    total = sum(int(mask.sum()) for _, _, mask in groups)
    writer = _Writer(directory, dtype)
    done = 0
    keys = [*layers, *(["final"] if final_hidden else [])]
    with Recorder(loaded, layers, hook) as recorder:
        for group, ids, mask in groups:
            ids, mask = ids.to(loaded.device), mask.to(loaded.device)
            sides = []
            for side in ("base", "tuned"):
                if side == "base":
                    with loaded.as_base():
                        final = loaded.causal_lm.model(ids, attention_mask=mask).last_hidden_state
                else:
                    final = loaded.causal_lm.model(ids, attention_mask=mask).last_hidden_state
                sides.append(recorder.seen | ({"final": final} if final_hidden else {}))
                recorder.seen = {}
            keep = mask.bool()
            keep[:, :drop_first] = False
            writer.add(
                {k: torch.stack([s[k][keep] for s in sides], dim=1) for k in keys},
                _index(group, ids, keep),
            )
            done += int(mask.sum())
            progress(done, total)
    return writer.finish(hook, layers)


def _index(group: list[Window], ids: Tensor, keep: Tensor) -> Int[Tensor, "tokens 4"]:
    """Per row: document, position in the document, token id, next token id (-1 at a window's end)."""
    row, column = keep.nonzero(as_tuple=True)
    document = torch.tensor([w.document for w in group])[row.cpu()]
    position = torch.tensor([w.start for w in group])[row.cpu()] + column.cpu() - 1
    following = torch.full_like(ids, -1)
    following[:, :-1] = ids[:, 1:]
    lengths = torch.tensor([len(w.ids) for w in group])[row.cpu()]
    following = torch.where(column.cpu() >= lengths, -1, following[row, column].cpu())
    return torch.stack([document, position, ids[row, column].cpu(), following], dim=1)


class _Writer:
    def __init__(self, directory: Path, dtype: torch.dtype) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.dtype = directory, dtype
        self.rows: list[dict[int | str, Tensor]] = []
        self.index: list[Tensor] = []
        self.shards: list[int] = []
        self.hash = hashlib.sha256()

    def add(self, rows: dict, index: Tensor) -> None:
        for key, value in rows.items():
            if not torch.isfinite(value).all():
                raise ValueError(
                    f"layer {key}: activations are not finite in {value.dtype}; set "
                    "`harvest.train_dtype: float32`"
                )
        self.rows.append({k: v.to(self.dtype).cpu() for k, v in rows.items()})
        self.index.append(index)
        if sum(len(i) for i in self.index) >= SHARD_TOKENS:
            self.flush()

    def flush(self) -> None:
        if not self.index:
            return
        number, index = len(self.shards), torch.cat(self.index)
        for key in self.rows[0]:
            tensor = torch.cat([r[key] for r in self.rows])
            save_file({"x": tensor}, self.directory / f"{number:04d}.{key}.safetensors")
        save_file({"index": index}, self.directory / f"{number:04d}.index.safetensors")
        self.hash.update(index[:, 2].contiguous().numpy().tobytes())
        self.d = self.rows[0][next(iter(self.rows[0]))].shape[-1]
        self.shards.append(len(index))
        self.rows, self.index = [], []

    def finish(self, hook: str, layers: list[int]) -> Manifest:
        self.flush()
        digest = self.hash.hexdigest()  # one batch fed both sides, so their tokens are the same
        manifest = Manifest(
            hook, layers, sum(self.shards), self.d, self.shards, digest, digest, str(self.dtype)
        )
        (self.directory / "harvest.json").write_text(json.dumps(asdict(manifest)), encoding="utf-8")
        return manifest
