"""Where an ablation can run, and what each place can serve. No torch, and no network by itself.

GPUs are asked of ``nvidia-smi``; the remote place is described in ``remote``.
"""

import csv
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

from lib.ablation import limits, remote

BF16_CAPABILITY = 8.0
"""CUDA compute capability from which bf16 is native (Ampere)."""
_QUERY = ("index", "uuid", "name", "memory.total", "memory.free", "compute_cap")
_BYTES = {"fp32": 4, "bf16": 2}
_ROOM = 1.25
"""Weights and, on top, activations, slices and logits: short texts, so little."""


class Need(NamedTuple):
    """What a run asks of a backend."""

    base_model: str
    """As lib.models names it."""
    n_parameters: int | None = None
    """None = unknown: not checked against the memory."""
    precision: str = "fp32"
    """fp32 | bf16"""
    adapter_repo: str = ""
    """Public hub name of the adapter, if it has one; empty = it exists on this machine only."""
    kind: str = "ablation"
    """Of ``kinds.KINDS``."""
    intervention: str = limits.PAIR_CLAMP


@dataclass(frozen=True)
class Backend:
    """One place where a model can run."""

    name: str
    """cpu | cuda:N | cuda | ndif"""
    title: str
    device: str | None
    """What the worker takes as its device; ``auto`` = spread over all; None = not on this machine."""
    precisions: tuple[str, ...]
    memory: int | None = None
    """Free bytes when asked; None = not known."""
    why_not: str = ""
    """Why it cannot be used, with the next step; empty = it can."""

    @property
    def remote(self) -> bool:
        return self.device is None

    def place(self, precision: str = "fp32") -> str:
        """What a client of ``AblationClient(devices=(this,))`` runs on; read by ``places.place``."""
        device = self.name if self.device is None else self.device
        return device if self.remote or precision == "fp32" else f"{device}/{precision}"

    def refusal(self, need: Need) -> str:
        """Why it cannot serve this, with the next step; empty = it can."""
        if self.why_not:
            return self.why_not
        if need.precision not in self.precisions:
            return f"{self.title} has no {need.precision}: choose {' or '.join(self.precisions)}"
        if self.remote:
            unserved = remote.unserved(need.kind, need.intervention)
            return unserved or remote.refusal(need.base_model, need.adapter_repo)
        wanted = _ROOM * (need.n_parameters or 0) * _BYTES[need.precision]
        if self.memory is not None and wanted > self.memory:
            return (
                f"{need.base_model} in {need.precision} needs about {_gb(wanted)}, {self.title} has "
                f"{_gb(float(self.memory))} free: choose bf16, another place, or a smaller model"
            )
        return ""


def available() -> tuple[Backend, ...]:
    """Every place that this machine knows of, usable or with the reason why not; cpu is first."""
    cpu = Backend("cpu", "this machine's processor", "cpu", ("fp32",))
    ndif = Backend(
        "ndif", "NDIF, a remote service", None, ("fp32", "bf16"), why_not=remote.closed()
    )
    return (cpu, *_gpus(), ndif)


@cache
def default_device() -> str:
    """What a worker takes that is told no device: ``cuda`` or ``cpu``, as far as can be said
    without torch: a GPU is there and torch is no build for the CPU only."""
    built = metadata.version("torch").partition("+")[2]
    return "cuda" if built != "cpu" and any(gpu.precisions for gpu in _gpus()) else "cpu"


def serving(need: Need) -> tuple[Backend, ...]:
    """Those that can serve this: what a page offers."""
    return tuple(backend for backend in available() if not backend.refusal(need))


def _gpus() -> tuple[Backend, ...]:
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except FileNotFoundError:
        return ()
    except (OSError, subprocess.SubprocessError) as problem:
        words = getattr(problem, "stdout", None) or str(problem)
        why = f"nvidia-smi failed ({' '.join(str(words).split())[:200]}): check the driver"
        return (Backend("cuda", "NVIDIA GPU", "cuda", (), why_not=why),)
    rows = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    listed = [dict(zip(_QUERY, row, strict=True)) for row in rows if len(row) == len(_QUERY)]
    seen = _visible(listed, os.environ)
    found = tuple(_gpu(number, row) for number, row in enumerate(seen))
    return (*found, _spread(found)) if len(found) > 1 else found


def _visible(listed: list[dict[str, str]], environment: Mapping[str, str]) -> list[dict[str, str]]:
    """In the order in which a process with this environment counts them.

    As CUDA reads the list: it ends at the first name that is no device.
    """
    asked = environment.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return listed
    seen: list[dict[str, str]] = []
    for name in (part.strip() for part in asked.split(",")):
        same = [
            row
            for row in listed
            if row["index"] == name or (name.startswith("GPU-") and row["uuid"].startswith(name))
        ]
        if len(same) != 1 or same[0] in seen:
            break
        seen += same
    return seen


def _gpu(number: int, row: Mapping[str, str]) -> Backend:
    """MIG and some virtual GPUs answer [N/A] for their memory or capability: then it is unknown."""
    free, capability = _number(row["memory.free"]), _number(row["compute_cap"])
    native = capability is not None and capability >= BF16_CAPABILITY
    return Backend(
        name=f"cuda:{number}",
        title=f"GPU {number} ({row['name']})",
        device=f"cuda:{number}",
        precisions=("fp32", "bf16") if native else ("fp32",),
        memory=None if free is None else int(free * 2**20),
    )


def _spread(gpus: tuple[Backend, ...]) -> Backend:
    """One model over several GPUs, layer by layer (transformers' device_map)."""
    common = tuple(p for p in gpus[0].precisions if all(p in gpu.precisions for gpu in gpus))
    sizes = [gpu.memory for gpu in gpus]
    missing = "" if find_spec("accelerate") else "needs the package accelerate: install it"
    return Backend(
        name="cuda",
        title=f"{len(gpus)} GPUs together",
        device="auto",
        precisions=common,
        memory=None if None in sizes else sum(size or 0 for size in sizes),
        why_not=missing,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
