"""What the numbers of a run depend on beside its request: code, libraries, bundle, weights."""

import hashlib
import os
import platform
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import paths

if TYPE_CHECKING:
    from lib.ablation.session import Session

CODE = ("ablation", "activations", "lens", "metrics", "models", "sparse", "sampling.py")
"""Parts of lib that a result may depend on."""
LIBRARIES = ("torch", "transformers", "peft", "nnsight", "tokenizers", "numpy", "safetensors")


@cache
def code_version() -> str:
    """Hash of the code and of the libraries' versions that the numbers of a run depend on."""
    digest = hashlib.sha256()
    root = paths.ROOT / "lib"
    for part in (root / name for name in CODE):
        for file in sorted(part.rglob("*.py")) if part.is_dir() else [part]:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    digest.update(repr(sorted(libraries().items())).encode())
    return digest.hexdigest()[:16]


@cache
def libraries() -> dict[str, str]:
    """Versions of Python and of the libraries that compute."""
    return {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def bundle_hash(bundle: Path) -> str:
    """Content hash of a live bundle: the slices, the adapter and what they were measured on.

    Read once and again only where a file's time or size has changed.
    """
    return _content(bundle, tuple(_files(bundle)))


def made_by(session: "Session", bundle: str) -> dict[str, Any]:
    """What a result was made by, for its record.

    Args:
        bundle: ``bundle_hash`` of what the session was opened from.
    """
    info = session.info
    return {
        "code": code_version(),
        "libraries": libraries(),
        "bundle": bundle,
        "base_model": info.base_model,
        # Opening the session compared both with what is loaded, where the bundle names them.
        "base_weights": session.weights,
        "adapter": info.adapter_hash or "part of the bundle's hash",
        "device": session.device,
        "place": session.place,
        "threads": _threads(),
    }


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


def _files(bundle: Path) -> Iterator[tuple[str, int, int]]:
    for folder, _, names in sorted(os.walk(bundle)):
        for name in sorted(names):
            file = Path(folder) / name
            seen = file.stat()
            yield file.relative_to(bundle).as_posix(), seen.st_mtime_ns, seen.st_size


@lru_cache(maxsize=64)
def _content(bundle: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in files:
        with (bundle / name).open("rb") as file:
            digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
