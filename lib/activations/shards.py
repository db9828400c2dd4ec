"""A harvest on disk, read lazily: shards are memory-mapped, never all copied.

One safetensors file per shard and layer (so that training one layer maps only that layer), an index
of which token each row is, and a manifest written last.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

READABLE = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes of activations that training and metrics take."""


class PairingError(ValueError):
    """Activations that must come from the same tokens do not."""


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
        path = self._file(number, key)
        try:
            tensor = load_file(path)["x"]
        except (SafetensorError, FileNotFoundError) as error:
            raise ValueError(
                f"{path}: the shard is missing or damaged ({error}); delete the folder and run the "
                "pipeline again"
            ) from None
        if tensor.dtype not in READABLE:
            raise ValueError(
                f"{path}: holds {tensor.dtype}, expected one of "
                f"{', '.join(str(t) for t in READABLE)}; delete the folder and run the pipeline again"
            )
        if len(tensor) != self.manifest.shards[number]:
            raise ValueError(
                f"{path}: {len(tensor)} rows, the manifest says {self.manifest.shards[number]}; "
                "the shard is truncated: delete the folder and run the pipeline again"
            )
        return tensor

    def read_ahead(self, key: int | str) -> None:
        """Ask the system to read a layer's shards in one go, in the background.

        Batches are made of small blocks in random order, slow to fetch one by one from a disk. Left
        out where the layer would take more than a quarter of the memory, or the system cannot.
        """
        files = [self._file(i, key) for i in range(len(self.manifest.shards))]
        size = sum(file.stat().st_size for file in files if file.exists())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if not hasattr(os, "posix_fadvise") or size > memory / 4:
            return
        for file in files:
            if file.exists():  # a missing shard is named where it is read
                with file.open("rb") as handle:
                    os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def _file(self, number: int, key: int | str) -> Path:
        return self.directory / f"{number:04d}.{key}.safetensors"

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
