"""Paired activations: base (adapter off) and tuned in one pass over the same batch.

A harvest is a folder of safetensors shards, one file per shard and layer (so that training one layer
maps only that layer), an index of which token each row is, and a manifest written last.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.corpora import Document
from lib.models import LoadedModel

SHARD_TOKENS = 16_384
BATCH_TOKENS = 2_048


class PairingError(ValueError):
    """Activations that must come from the same tokens do not."""


@dataclass(frozen=True)
class Window:
    """Consecutive tokens of one document, run with BOS in front."""

    document: int
    """Index into the harvest's document list."""
    start: int
    """First token of the document in this window."""
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """What a finished harvest holds."""

    hook: str
    layers: list[int]
    tokens: int
    d: int
    shards: list[int]
    """Tokens of each shard."""
    base_tokens: str
    """sha256 of the token ids that the base ran on, in row order."""
    tuned_tokens: str
    dtype: str


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


@dataclass(frozen=True)
class Harvest:
    """A finished harvest, read lazily: shards are memory-mapped, never all copied."""

    directory: Path
    manifest: Manifest

    @staticmethod
    def open(directory: Path) -> "Harvest":
        """Check the manifest, the pairing and every shard's size.

        Raises:
            PairingError: base and tuned rows come from different tokens.
            ValueError: no manifest, or a shard that is missing or shorter than recorded.
        """
        sealed = directory / "harvest.json"
        if not sealed.exists():
            raise ValueError(f"{directory} holds no finished harvest; run the pipeline again")
        manifest = Manifest(**json.loads(sealed.read_text(encoding="utf-8")))
        if manifest.base_tokens != manifest.tuned_tokens:
            raise PairingError(
                f"{directory}: base ran on tokens {manifest.base_tokens[:12]}, tuned on "
                f"{manifest.tuned_tokens[:12]}; delete the folder and run the pipeline again"
            )
        return Harvest(directory, manifest)

    def shard(self, number: int, key: int | str) -> Float[Tensor, "tokens sides d"]:
        path = self.directory / f"{number:04d}.{key}.safetensors"
        tensor = load_file(path)["x"]
        if len(tensor) != self.manifest.shards[number]:
            raise ValueError(
                f"{path}: {len(tensor)} rows, the manifest says {self.manifest.shards[number]}; "
                "the shard is truncated: delete the folder and run the pipeline again"
            )
        return tensor

    def whole(self, key: int | str) -> Float[Tensor, "tokens sides d"]:
        return torch.cat([self.shard(i, key) for i in range(len(self.manifest.shards))])

    def index(self) -> Int[Tensor, "tokens 4"]:
        parts = [
            load_file(self.directory / f"{i:04d}.index.safetensors")["index"]
            for i in range(len(self.manifest.shards))
        ]
        return torch.cat(parts)

    def check_tokens(self) -> None:
        """Recompute the token hash of the index and compare it with the manifest."""
        ids = self.index()[:, 2].contiguous().numpy().tobytes()
        if hashlib.sha256(ids).hexdigest() != self.manifest.base_tokens:
            raise PairingError(f"{self.directory}: the index does not match the manifest's tokens")


@dataclass
class Stream:
    """Training batches of one layer: small contiguous blocks in a seeded order, one epoch a pass.

    Blocks of ``block`` rows keep reads contiguous and still mix many documents into each batch.
    """

    harvest: Harvest
    layer: int
    batch: int
    seed: int
    side: int | None = None
    """None = both sides; 0 or 1 = one side, kept as an axis of length 1."""
    block: int = 32
    epoch: int = 0
    """Passes started so far; each has its own order."""

    def __iter__(self) -> Iterator[Float[Tensor, "tokens sides d"]]:
        shards = [
            self.harvest.shard(i, self.layer) for i in range(len(self.harvest.manifest.shards))
        ]
        blocks = [
            (i, start) for i, x in enumerate(shards) for start in range(0, len(x), self.block)
        ]
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(blocks))
        self.epoch += 1
        held: list[Tensor] = []
        rows = 0
        for choice in order:
            shard, start = blocks[choice]
            held.append(shards[shard][start : start + self.block])
            rows += len(held[-1])
            if rows >= self.batch:
                whole = torch.cat(held)
                held, rows = [whole[self.batch :]], rows - self.batch
                yield self._view(whole[: self.batch])

    def _view(self, x: Tensor) -> Tensor:
        return x if self.side is None else x[:, self.side : self.side + 1]
