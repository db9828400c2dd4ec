"""One depth's slice of a live bundle, read and checked: the only reader of these files. No torch."""

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from lib.ablation.limits import CLASSES, AblationError

REMEDY = "make it with `python -m lib run FILE`, where FILE says `keep: full` or nothing about it"
WEIGHTS = ("encoder", "decoder")
"""n 2 d: base, tuned."""
NUMBERS = ("encoder_bias", "thresholds", "difference_share", "frequency")
"""n each, finite as the weights are."""
UNDEFINED = ("nu_eps", "nu_r")
"""n each, NaN where undefined; not in every bundle, as ``classes``."""
CODES = {"role": 2, "classes": len(CLASSES)}
"""n each, whole numbers from 0 up to this."""
NEEDED = ("latents", *WEIGHTS, *NUMBERS, "role")


def digest(file: Path) -> str:
    """sha256 of a slice, in hexadecimal, as ``sha256sum`` gives it."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def read(file: Path, sha256: str, n_latents: int) -> dict[str, np.ndarray]:
    """Every tensor of a slice, after checking that it can be used.

    Args:
        sha256: what bundle.json says of this file; empty = it says nothing (an older bundle).
        n_latents: size of the dictionary that the slice was cut from.

    Raises:
        AblationError: missing, another file than the bundle was written with, torn, or holding what
            no edit can be made of: a tensor that is missing, of another shape, or not finite.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise AblationError(f"{file} is missing though bundle.json names it; {REMEDY}") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise AblationError(
            f"{file} is not the slice that this bundle was written with (sha256 {found[:12]}, "
            f"bundle.json says {sha256[:12]}): it is of another dictionary, or was changed; {REMEDY}"
        )
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as problem:
        many = "it is empty" if not content else f"{len(content):,} bytes: {problem}"
        raise AblationError(f"{file} is damaged ({many}); {REMEDY}") from None
    problem = _problem(tensors, n_latents)
    if problem:
        raise AblationError(f"{file} {problem}; {REMEDY}")
    return tensors


def _problem(tensors: dict[str, np.ndarray], n_latents: int) -> str:
    """What is wrong with a slice; empty = nothing."""
    missing = [name for name in NEEDED if name not in tensors]
    if missing:
        return f"holds no {', '.join(missing)}"
    return _shapes(tensors) or _ids(tensors["latents"], n_latents) or _values(tensors)


def _shapes(tensors: dict[str, np.ndarray]) -> str:
    latents, encoder = tensors["latents"], tensors["encoder"]
    n = latents.size
    if latents.shape != (n,) or encoder.ndim != 3 or encoder.shape[:2] != (n, 2):
        return (
            f"has latents of shape {list(latents.shape)} and an encoder of {list(encoder.shape)}, "
            "not [n] and [n, 2, width]"
        )
    flat = [*NUMBERS, *UNDEFINED, *CODES]
    wanted = {"decoder": encoder.shape} | {name: (n,) for name in flat if name in tensors}
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            return f"has {name} of shape {list(tensors[name].shape)}, not {list(shape)}"
    for name in ("latents", *CODES):
        if name in tensors and tensors[name].dtype.kind != "i":
            return f"has {name} as {tensors[name].dtype}, not whole numbers"
    for name in (*WEIGHTS, *NUMBERS, *UNDEFINED):
        if name in tensors and tensors[name].dtype.kind != "f":
            return f"has {name} as {tensors[name].dtype}, not floating-point numbers"
    return ""


def _ids(latents: np.ndarray, n_latents: int) -> str:
    if len(np.unique(latents)) < len(latents):
        return "names a latent twice"
    strange = latents[(latents < 0) | (latents >= n_latents)]
    if len(strange):
        return f"names latent {strange[0]}, but its dictionary has {n_latents:,}, numbered from 0"
    return ""


def _values(tensors: dict[str, np.ndarray]) -> str:
    for name in (*WEIGHTS, *NUMBERS):
        wrong = ~np.isfinite(tensors[name])
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            return (
                f"holds {int(wrong.sum())} values of {name} that are not finite, the first "
                f"({tensors[name][at]}) of latent {tensors['latents'][at[0]]}"
            )
    for name, end in CODES.items():
        codes = tensors.get(name, np.zeros(0, np.int8))
        if ((codes < 0) | (codes >= end)).any():
            return f"holds {name} outside 0..{end - 1}"
    return ""
