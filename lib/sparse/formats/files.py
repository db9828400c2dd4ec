"""Reading files that other programs wrote: whatever is wrong with them is one clear ``ValueError``."""

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def settings(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: no such file, no JSON, or JSON that is no object.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; copy the whole folder of the dictionary")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file ({error}); copy it again") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds a {type(held).__name__}, expected a JSON object")
    return held


def tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, as stored.

    Raises:
        ValueError: no such file, or a truncated one.
    """
    if not path.is_file():
        refuse_pickles(path.parent)
        raise ValueError(f"{path} is missing; copy the whole folder of the dictionary")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is truncated or no safetensors file ({error}); copy it again"
        ) from error


def arrays(path: Path) -> dict[str, Tensor]:
    """Every array of an npz file as a tensor; arrays of Python objects are never unpickled.

    Raises:
        ValueError: a truncated file, or arrays that hold no numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            found = {name: np.ascontiguousarray(held[name]) for name in held.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is truncated or no npz file of numbers ({error}); copy it again"
        ) from error
    strange = [f"{name} ({a.dtype})" for name, a in found.items() if a.dtype.kind not in "fiub"]
    if strange:
        raise ValueError(f"{path}: expected arrays of numbers, found {', '.join(strange)}")
    return {name: torch.from_numpy(array) for name, array in found.items()}


def weight(
    held: dict[str, Tensor], name: str, shape: tuple[int, ...], path: Path
) -> Float[Tensor, "..."]:
    """One tensor as float32.

    Raises:
        ValueError: it is not there, has another shape, holds integers, or NaN or infinity.
    """
    if name not in held:
        raise ValueError(f"{path}: no tensor {name}; it holds {', '.join(sorted(held)) or 'none'}")
    found = held[name]
    if tuple(found.shape) != shape:
        raise ValueError(f"{path}: {name} has shape {tuple(found.shape)}, expected {shape}")
    if found.dtype not in DTYPES:
        raise ValueError(
            f"{path}: {name} is {found.dtype}; weights must be float32, float16, bfloat16 or "
            "float64, so save the dictionary unquantised"
        )
    found = found.float()
    bad = int((~torch.isfinite(found)).sum())
    if bad:
        raise ValueError(
            f"{path}: {name} holds NaN or infinity in {bad} of {found.numel()} values; its training "
            "diverged or the file is damaged"
        )
    return found


def number(value: object, name: str, path: Path) -> int:
    """A positive whole number from a configuration.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{path}: {name} is {value!r}, expected a positive whole number")
    return value


def refuse_pickles(place: Path) -> None:
    """Refuse pickled weights: opening a pickle runs whatever code its author put there.

    Raises:
        ValueError: ``place`` is a pickle or a folder that holds one.
    """
    held = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [p.name for p in held if p.suffix in PICKLES]
    if found:
        raise ValueError(
            f"{place}: the weights are in {found[0]}, a pickle; opening one runs any code inside, so "
            "it is not read here. Where you trust it: load it with the library that wrote it and "
            "save it as safetensors (dictionary_learning: `model.save_pretrained(FOLDER)`, SAELens: "
            "`sae.save_model(FOLDER)`), then convert that folder"
        )


def fresh(target: Path) -> Path:
    """``target``, as long as nothing could be overwritten there.

    Raises:
        ValueError: it is a file, or a folder that is not empty.
    """
    if target.is_dir() and not any(target.iterdir()):
        return target
    if target.exists():
        raise ValueError(f"{target} exists already; name a new or an empty folder")
    return target


def save(
    folder: Path, weights: str, held: dict[str, Tensor], described: str, facts: dict[str, Any]
) -> None:
    """Write the tensors, then the JSON file: every reader refuses a folder without it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().cpu().contiguous() for name, t in held.items()}, folder / weights)
    (folder / described).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def mean_active(known: int | None, given: int | None, latents: int, path: Path) -> int:
    """k: what the file says, else what the caller says, else the only bound there is, ``latents``.

    Raises:
        ValueError: both speak and disagree.
    """
    if known is not None and given is not None and known != given:
        raise ValueError(f"{path}: it says k = {known}, you said {given}; leave k out")
    return next((k for k in (known, given) if k is not None), latents)


def l0_in(path: Path) -> int | None:
    """The number in ``average_l0_71``, as Gemma Scope names its folders."""
    named = re.search(r"average_l0_(\d+)", str(path))
    return int(named[1]) if named else None
