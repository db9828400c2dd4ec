"""Pairs per second of the training stream, against a loader that indexes one row at a time.

The plain loader is the public one in outline: a map-style data set over memory-mapped shards, a row
of either side copied and stacked per index, shuffled and collated by ``torch.utils.data.DataLoader``.
"""

import gc
import json
import os
import tempfile
import time
from bisect import bisect_right
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

from lib.activations import Harvest, Manifest, Stream
from tests.benchmarks.report import Options, Section, table

D, BATCH, SHARD, LAYER = 576, 2_048, 16_384, 0


class Rows(Dataset):
    """One pair per index, from memory-mapped shards."""

    def __init__(self, harvest: Harvest) -> None:
        files = [
            harvest.directory / f"{i:04d}.{LAYER}.safetensors"
            for i in range(len(harvest.manifest.shards))
        ]
        self.shards = [load_file(file)["x"] for file in files]
        self.ends = list(accumulate(harvest.manifest.shards))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> torch.Tensor:
        shard = bisect_right(self.ends, index)
        row = index - (self.ends[shard - 1] if shard else 0)
        return torch.stack([self.shards[shard][row, 0], self.shards[shard][row, 1]])


def write(directory: Path, tokens: int) -> Harvest:
    """A harvest of random pairs in bfloat16, in shards of the usual size."""
    generator = torch.Generator().manual_seed(0)
    sizes = [min(SHARD, tokens - start) for start in range(0, tokens, SHARD)]
    for number, size in enumerate(sizes):
        pairs = torch.randn(size, 2, D, generator=generator).bfloat16()
        save_file({"x": pairs}, directory / f"{number:04d}.{LAYER}.safetensors")
        index = torch.zeros(size, 4, dtype=torch.int64)
        save_file({"index": index}, directory / f"{number:04d}.index.safetensors")
    facts = Manifest("mlp", [LAYER], tokens, D, sizes, "", "", str(torch.bfloat16))
    (directory / "harvest.json").write_text(json.dumps(asdict(facts)), encoding="utf-8")
    return Harvest.open(directory)


def forget(directory: Path) -> bool:
    """Ask the kernel to drop the shards from its page cache; whether they are really gone."""
    gc.collect()  # mapped pages are not dropped
    for file in directory.glob("*.safetensors"):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            middle = os.fstat(handle).st_size // 2 // 4096 * 4096
            os.preadv(handle, [bytearray(1)], middle, os.RWF_NOWAIT)
        except BlockingIOError:  # not in memory: what we want
            continue
        except OSError:  # this file system cannot tell
            return False
        finally:
            os.close(handle)
        return False
    return True


def stream_speed(directory: Path, seed: int) -> float:
    """Pairs per second of one epoch, opening included."""
    began = time.perf_counter()
    stream = Stream(Harvest.open(directory), LAYER, BATCH, seed=seed)
    return sum(len(batch) for batch in stream) / (time.perf_counter() - began)


def row_speed(directory: Path, pairs: int) -> float:
    """Pairs per second of the plain loader over the first ``pairs`` of a shuffled epoch."""
    began, seen = time.perf_counter(), 0
    for batch in DataLoader(Rows(Harvest.open(directory)), batch_size=BATCH, shuffle=True):
        seen += len(batch)
        if seen >= pairs:
            break
    return seen / (time.perf_counter() - began)


def measure(options: Options) -> Section:
    tokens, sample, repeats = (20_000, 4_096, 1) if options.quick else (200_000, 40_960, 5)
    with tempfile.TemporaryDirectory(prefix="insideout-loader-") as folder:
        directory = Path(folder)
        write(directory, tokens)
        stream_speed(directory, 0)  # fills the page cache
        warm = [(stream_speed(directory, i), row_speed(directory, sample)) for i in range(repeats)]
        cold = []
        for i in range(repeats):
            if forget(directory):
                fast = stream_speed(directory, i)
                if forget(directory):
                    cold.append((fast, row_speed(directory, sample)))
    ratio = median(fast / slow for fast, slow in warm)
    found = [("in the page cache", warm), ("dropped from it before", cold)]
    rows = []
    for name, runs in found:
        if runs:
            fast, slow = (f"{median(speeds):,.0f}" for speeds in zip(*runs, strict=True))
            rows.append([name, fast, slow, f"{median(f / s for f, s in runs):.1f}x"])
    claim = (
        f"`Stream` reads {tokens:,} pairs (d {D}, 2 sides, bf16) {ratio:.1f} times as fast as the "
        f"row-indexed loader in the same run (asked: 10 times); medians of {repeats}."
    )
    if not cold:
        claim += " The page cache could not be dropped here, so there is no cold measurement."
    head = ["shards", "`Stream`, pairs/s", "row-indexed, pairs/s", "ratio"]
    return Section("Loader", claim, [table(head, rows)])
