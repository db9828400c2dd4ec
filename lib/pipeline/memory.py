"""What training a dictionary keeps in memory, part by part, before anything is allocated.

A dictionary of m latents over n = sides * d coordinates holds a table of m * n numbers twice
(encoder, decoder); whatever is not a multiple of that table grows with the batch. Peaks are those of
``lib.sparse``'s own steps: the first step ranks every positive score, later ones only candidates;
evaluating and finishing fold the weights back into raw units beside the optimiser's state.
"""

import os
from pathlib import Path
from typing import NamedTuple

import torch

FP32, LOW, INDEX = 4, 2, 8
"""Bytes of a float32 number, of one in bfloat16, and of an int64 index."""
PAIR = 16
"""Bytes of a value with its index in ``topk`` on CPU, which copies its whole input so."""

PROCESS = 4e8
"""Bytes of Python, torch and the blocks that the allocator keeps, per training process."""


class TrainingMemory(NamedTuple):
    """Bytes."""

    weights: int
    """Encoder and decoder, float32."""
    moments: int
    """Adam's two running means of each."""
    gradients: int
    low: int
    """The encoder in bfloat16, for the scores."""
    batch: int
    """A batch in training space, its reconstruction, error and their like."""
    scores: int
    """Scores of every latent on every token, and what selecting among them needs."""
    aux: int
    """Reviving dead latents (AuxK), if all are dead; nothing while none is."""
    folded: int
    """The finished dictionary in raw units, and the temporaries of folding it."""
    stepping: int
    """Peak over training steps without dead latents."""
    reviving: int
    """Peak of a step in which all latents are dead."""
    finishing: int
    """Peak over evaluations and the final calibration of thresholds."""

    @property
    def state(self) -> int:
        """What lives from the first step to the last."""
        return self.weights + self.moments + self.gradients

    @property
    def peak(self) -> int:
        return max(self.stepping, self.finishing)

    @property
    def worst(self) -> int:
        """The peak if every latent were dead at once."""
        return max(self.peak, self.reviving)

    def parts(self) -> list[tuple[str, int]]:
        """Every part with its name in words, sums and peaks included."""
        return [
            ("weights: encoder and decoder, float32", self.weights),
            ("Adam: two running means of each", self.moments),
            ("gradients", self.gradients),
            ("state (the three above)", self.state),
            ("per step: the encoder in bfloat16", self.low),
            ("per step: the batch, its reconstruction, error and codes", self.batch),
            ("first step: scores of all latents and selection among them", self.scores),
            ("reviving dead latents, if all were dead", self.aux),
            ("evaluating and finishing: the dictionary in raw units", self.folded),
            ("peak of the steps", self.stepping),
            ("peak of evaluating and finishing", self.finishing),
            ("peak", self.peak),
            ("peak if all latents were dead at once (AuxK on all)", self.worst),
        ]


def training_memory(latents: int, d: int, sides: int, batch: int, k: int) -> TrainingMemory:
    """Memory of training one dictionary on CPU, without the activations that are read.

    Raises:
        ValueError: a size below 1.
    """
    if min(latents, d, sides, batch, k) < 1:
        found = f"{latents}, {d}, {sides}, {batch}, {k}"
        raise ValueError(f"latents, d, sides, batch and k must be at least 1; got {found}")
    wide = sides * d
    table = latents * wide * FP32
    rows = batch * wide * FP32
    pairs = batch * latents
    weights, moments, gradients = 2 * table, 4 * table, 2 * table
    low = table * LOW // FP32
    first = _first_selection(pairs)
    later = pairs * (2 * LOW + 1)
    temporaries = 5 * rows + batch * k * (4 * INDEX + 4 * FP32)
    backward = weights + moments + gradients + temporaries + pairs * LOW
    stepping = max(
        weights + 2 * rows + first,  # Adam's means are made at the end of the first step
        weights + moments + rows + max(later, low + pairs * LOW),
        backward,
    )
    folding, calibrating = (5 if sides == 2 else 4) * table, rows + pairs * (FP32 + PAIR)
    aux = max(pairs * (3 * FP32 + LOW + 1) + table // 2, pairs * (2 * FP32 + LOW) + 2 * table)
    finishing = weights + moments + weights + max(folding, calibrating)  # one folded already
    return TrainingMemory(
        weights=weights,
        moments=moments,
        gradients=gradients,
        low=low,
        batch=temporaries,
        scores=first,
        aux=aux,
        folded=weights + folding,
        stepping=stepping,
        reviving=backward + aux,
        finishing=finishing,
    )


def _first_selection(pairs: int) -> int:
    """Without a threshold to start from half of all scores, the positive ones, are listed."""
    listed = pairs // 2
    return 2 * pairs * LOW + listed * (2 * INDEX + FP32 + PAIR)


def free_memory() -> int:
    """Bytes free for a new process: of the GPU where there is one, else of RAM."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    facts = Path("/proc/meminfo")
    if facts.exists():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def memory_table(latents: int, d: int, *, sides: int, batch: int, k: int) -> str:
    """A table of what training one dictionary of this size keeps in memory.

    Raises:
        ValueError: a size below 1, or k > latents.
    """
    if k > latents:
        raise ValueError(f"k = {k} exceeds the {latents} latents; lower --k")
    memory = training_memory(latents, d, sides, batch, k)
    free = free_memory()
    place = "VRAM" if torch.cuda.is_available() else "RAM"
    lines = [f"{latents:,} latents, d {d:,}, {sides} side(s), batches of {batch:,}, k {k}", ""]
    lines += [f"{part:<64}{size / 1e9:>9.2f} GB" for part, size in memory.parts()]
    need = memory.worst + PROCESS
    verdict = "fits" if need <= free else "does not fit"
    lines += ["", f"{verdict} here: {free / 1e9:,.1f} GB of {place} are free; activations are read"]
    lines += ["from memory-mapped shards and need none of their own"]
    return "\n".join(lines) + "\n"
